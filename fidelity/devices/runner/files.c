/* Reading, mapping and writing files; see files.h. */

#define _XOPEN_SOURCE 700

#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LONGEST_PATH = 4096 };

char *joined(const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = need(size, 1);
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

char *path_inside(const char *folder, const char *name, enum stage stage, struct failure *failure)
{
    bool leaves = name[0] == '/' || name[0] == 0 || strlen(name) > LONGEST_PATH;
    for (const char *part = name; part && !leaves; part = strchr(part, '/')) {
        part += *part == '/';
        leaves = strncmp(part, "..", 2) == 0 && (part[2] == 0 || part[2] == '/');
    }
    if (leaves) {
        fail(failure, stage, "'%.200s': not a path inside the job folder", name);
        return NULL;
    }
    return joined(folder, name);
}

int open_regular(const char *path, size_t *size, enum stage stage, struct failure *failure)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        fail(failure, stage, "%.300s: cannot be read: %s", path, strerror(errno));
        return -1;
    }
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
        fail(failure, stage, "%.300s: not a regular file", path);
        close(descriptor);
        return -1;
    }
    *size = (size_t)status.st_size;
    return descriptor;
}

char *read_whole(const char *path, size_t limit, size_t *size, enum stage stage, struct failure *failure)
{
    int descriptor = open_regular(path, size, stage, failure);
    if (descriptor < 0)
        return NULL;
    if (*size > limit) {
        fail(failure, stage, "%.300s: larger than %zu bytes", path, limit);
        close(descriptor);
        return NULL;
    }
    char *content = need(*size + 1, 1);
    size_t got = 0;
    while (got < *size) {
        ssize_t count = read(descriptor, content + got, *size - got);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            break;
        got += (size_t)count;
    }
    close(descriptor);
    if (got == *size)
        return content;
    fail(failure, stage, "%.300s: cannot be read whole: %zu of %zu bytes", path, got, *size);
    free(content);
    return NULL;
}

bool map_file(const char *path, struct mapped *mapped, enum stage stage, struct failure *failure)
{
    size_t size;
    int descriptor = open_regular(path, &size, stage, failure);
    if (descriptor < 0)
        return false;
    void *bytes = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0) : (void *)(uintptr_t) "";
    close(descriptor);
    if (bytes == MAP_FAILED)
        return fail(failure, stage, "%.300s: cannot be mapped: %s", path, strerror(errno));
    mapped->bytes = bytes;
    mapped->size = size;
    return true;
}

void unmap_file(struct mapped *mapped)
{
    if (mapped->size)
        munmap((void *)(uintptr_t)mapped->bytes, mapped->size);
    mapped->size = 0;
}

void sha256_file(const char *path, char hex[SHA256_HEX])
{
    struct mapped mapped;
    struct failure ignored = {0};
    hex[0] = 0;
    if (map_file(path, &mapped, NO_DEVICE, &ignored)) {
        sha256_hex(mapped.bytes, mapped.size, hex);
        unmap_file(&mapped);
    }
}

/* All bytes into a new file. A name that is taken is freed first: it may be a second name of a file
 * that others share. */
static bool write_new(const char *path, const char *bytes, size_t size)
{
    if (unlink(path) != 0 && errno != ENOENT)
        return false;
    int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (descriptor < 0)
        return false;
    for (size_t done = 0; done < size;) {
        ssize_t count = write(descriptor, bytes + done, size - done);
        if (count < 0 && errno != EINTR) {
            int error = errno;
            close(descriptor);
            unlink(path); /* its room may be what the result still needs */
            errno = error;
            return false;
        }
        done += count > 0 ? (size_t)count : 0;
    }
    return close(descriptor) == 0;
}

bool write_whole(const char *folder, const char *name, const void *bytes, size_t size, struct failure *failure)
{
    char *path = joined(folder, name);
    size_t room = strlen(path) + sizeof ".part";
    char *beside = need(room, 1);
    snprintf(beside, room, "%s.part", path);
    bool written = write_new(beside, bytes, size) && rename(beside, path) == 0;
    if (!written) {
        fail(failure, NOT_WRITTEN, "%.300s: cannot be written: %s", path, strerror(errno));
        unlink(beside);
    }
    free(beside);
    free(path);
    return written;
}
