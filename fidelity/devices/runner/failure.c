/* Failures as one line for a person; see failure.h. */

#include "failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "text.h"

bool fail(struct failure *failure, enum stage stage, const char *format, ...)
{
    if (failure->stage != DONE)
        return false;
    failure->stage = stage;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure->text, sizeof failure->text, format, arguments);
    va_end(arguments);
    make_printable(failure->text);
    return false;
}

const char *status_of(const struct failure *failure)
{
    switch (failure->stage) {
    case DONE:
        return "ok";
    case NO_DEVICE:
        return "no_device";
    case BAD_MODEL:
        return "bad_model";
    case BAD_JOB:
    case BAD_INPUT:
        return "bad_input";
    case REFUSED:
        return "refused";
    case NOT_WRITTEN:
        return "transfer_failed";
    case RUN_FAILED:
        break;
    }
    return failure->timed_out ? "timeout" : "run_failed";
}

void *need(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size ? size : 1); /* calloc refuses a product that overflows */
    if (memory == NULL) {
        fprintf(stderr, "fidelity-runner: out of memory: %zu x %zu bytes asked for\n", count, size);
        fflush(NULL);
        _Exit(RUN_FAILED);
    }
    return memory;
}
