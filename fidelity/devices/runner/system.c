/* Clock, memory and thermal zones; see system.h. */

#define _XOPEN_SOURCE 700

#include "system.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "failure.h"
#include "text.h"

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int64_t peak_memory(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256];
    long long kilobytes = 0;
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %lld kB", &kilobytes) == 1)
            break;
    if (status)
        fclose(status);
    return (int64_t)kilobytes * 1024;
}

/* The first line of a small file, as printable text; false when there is none. */
static bool read_line(const char *folder, int zone, const char *file, char *line, int size)
{
    char path[512];
    snprintf(path, sizeof path, "%.400s/thermal_zone%d/%s", folder, zone, file);
    FILE *stream = fopen(path, "re");
    bool got = stream && fgets(line, size, stream);
    if (stream)
        fclose(stream);
    if (got) {
        line[strcspn(line, "\n")] = 0;
        make_printable(line);
    }
    return got && *line;
}

static int by_number(const void *one, const void *other)
{
    const struct zone *a = one, *b = other;
    return (a->number > b->number) - (a->number < b->number);
}

/* "cpu" twice becomes "cpu" and "cpu (7)", by the zone's number: as fidelity/devices/temperatures.py has it. */
static void tell_apart(struct zones *zones)
{
    for (size_t i = zones->count; i-- > 1;)
        for (size_t j = 0; j < i; j++)
            if (strcmp(zones->zone[i].name, zones->zone[j].name) == 0) {
                size_t length = strlen(zones->zone[i].name);
                snprintf(zones->zone[i].name + length, ZONE_NAME - length, " (%d)", zones->zone[i].number);
                break;
            }
}

struct zones read_zones(const char *folder)
{
    enum { MOST = 512 };
    struct zones zones = {0, need(MOST, sizeof *zones.zone)};
    DIR *listing = opendir(folder);
    for (struct dirent *entry; listing && zones.count < MOST && (entry = readdir(listing));) {
        struct zone *zone = &zones.zone[zones.count];
        char line[64], *end;
        int read = 0;
        if (sscanf(entry->d_name, "thermal_zone%9d%n", &zone->number, &read) != 1 || entry->d_name[read])
            continue;
        /* A zone may be listed and yet not be read: switched off, or kept from the shell on a phone. */
        if (!read_line(folder, zone->number, "type", zone->name, ZONE_NAME - 24) ||
            !read_line(folder, zone->number, "temp", line, sizeof line))
            continue;
        zone->celsius = (double)strtol(line, &end, 10) / 1000;
        zones.count += end != line;
    }
    if (listing)
        closedir(listing);
    qsort(zones.zone, zones.count, sizeof *zones.zone, by_number);
    tell_apart(&zones);
    return zones;
}
