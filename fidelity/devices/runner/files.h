/* Files of the job folder: nothing outside it is named, and nothing half-written is left under a final name. */

#ifndef FIDELITY_FILES_H
#define FIDELITY_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "failure.h"
#include "sha256.h"

/* A file's content, mapped read-only; `bytes` is never NULL. */
struct mapped {
    const unsigned char *bytes;
    size_t size;
};

/* `folder`/`name`, or NULL with a failure when the name is absolute, empty or has a "..". A link in
 * the folder may point out of it: that is how a device shares one copy of a model between jobs. */
char *path_inside(const char *folder, const char *name, enum stage stage, struct failure *failure);

/* `folder`/`name`, for names of our own. */
char *joined(const char *folder, const char *name);

/* Opens a regular file for reading, without waiting for a pipe; -1 with a failure. */
int open_regular(const char *path, size_t *size, enum stage stage, struct failure *failure);

/* The whole file, with a NUL behind it; NULL with a failure, also when it is larger than `limit`. */
char *read_whole(const char *path, size_t limit, size_t *size, enum stage stage, struct failure *failure);

bool map_file(const char *path, struct mapped *mapped, enum stage stage, struct failure *failure);
void unmap_file(struct mapped *mapped);

/* The digest of a file; an empty text when it cannot be read. */
void sha256_file(const char *path, char hex[SHA256_HEX]);

/* Writes beside and renames: `folder`/`name` is whole or not there. */
bool write_whole(const char *folder, const char *name, const void *bytes, size_t size, struct failure *failure);

#endif
