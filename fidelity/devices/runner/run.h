/* The runs of a job: warm-ups, then every input as often as the job says, the first run's outputs kept. */

#ifndef FIDELITY_RUN_H
#define FIDELITY_RUN_H

#include <stdbool.h>
#include <stddef.h>

#include "buffers.h"
#include "compile.h"
#include "job.h"
#include "sha256.h"

/* Seconds of one run after the other. */
struct times {
    size_t count, room;
    double *seconds;
};

struct output {
    char *file; /* relative to the job folder */
    char sha256[SHA256_HEX];
};

/* What one input gave. */
struct answer {
    struct times run, enqueue;
    bool same;              /* every later run gave the first one's bits */
    struct output *outputs; /* one for each output of the signature; NULL: nothing was finished */
};

struct answers {
    struct times warmup;
    size_t count; /* inputs that were finished */
    struct answer *answer;
};

/* Is every input of the job one that the model takes? Before anything runs: else a run could be judged
 * on the inputs that happened to fit. */
bool check_inputs(const char *folder, const struct job *job, const struct compiled *compiled, struct failure *failure);

/* All runs. `answers` holds what was finished, also after a failure. Past the buffers' deadline it stops. */
bool run_job(const char *folder, const struct job *job, struct buffers *buffers, struct answers *answers,
             struct failure *failure);

#endif
