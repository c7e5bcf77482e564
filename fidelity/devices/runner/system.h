/* What the operating system tells: time, memory, temperatures. */

#ifndef FIDELITY_SYSTEM_H
#define FIDELITY_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

/* A clock that only goes forward. */
double seconds_now(void);

/* The largest resident memory so far, in bytes; 0 when it is not told. */
int64_t peak_memory(void);

enum { ZONE_NAME = 96 };

struct zone {
    int number;
    char name[ZONE_NAME];
    double celsius;
};

struct zones {
    size_t count;
    struct zone *zone;
};

/* The thermal zones under `folder` that can be read, in order; equal names are told apart. */
struct zones read_zones(const char *folder);

#endif
