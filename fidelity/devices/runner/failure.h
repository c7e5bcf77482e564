/* What went wrong and at which stage. A stage is an exit code of the program, documented in --help,
 * and a status of the job contract (fidelity/devices/job.py). */

#ifndef FIDELITY_FAILURE_H
#define FIDELITY_FAILURE_H

#include <stdbool.h>
#include <stddef.h>

enum stage {
    DONE = 0,        /* ok */
    BAD_JOB = 2,     /* usage or job.json: there is no result.json */
    NO_DEVICE = 3,   /* no runtime library, or no device of that kind */
    BAD_MODEL = 4,   /* bad_model */
    BAD_INPUT = 5,   /* bad_input */
    REFUSED = 6,     /* refused */
    RUN_FAILED = 7,  /* run_failed, or timeout with `timed_out` */
    NOT_WRITTEN = 8, /* transfer_failed, or no result.json at all */
};

struct failure {
    enum stage stage;
    bool timed_out;
    char text[600]; /* one line of printable UTF-8 for a person: what, where, what to do */
};

/* Notes the failure and returns false, so that a caller can return it. The first failure is kept. */
bool fail(struct failure *failure, enum stage stage, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The status of the job contract. */
const char *status_of(const struct failure *failure);

/* Zeroed memory for `count` things of `size` bytes; ends the program when there is none. */
void *need(size_t count, size_t size);

#endif
