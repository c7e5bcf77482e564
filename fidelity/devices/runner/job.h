/* job.json as fidelity.devices.job.Job defines it: every field of it, no other, each of its type. */

#ifndef FIDELITY_JOB_H
#define FIDELITY_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

struct tensor_file {
    const char *name; /* the signature's input */
    const char *file, *dtype, *sha256;
    size_t rank;
    int64_t *shape;
};

struct job_input {
    const char *name;
    bool repeated; /* by repeat_only */
    size_t count;
    struct tensor_file *tensors;
};

struct job {
    const char *model, *model_sha256, *device, *precision;
    const char *signature; /* NULL: the first */
    const char *probe;     /* NULL: none */
    size_t count;
    struct job_input *inputs;
    int64_t warmups, repeats, threads;
    double repeat_seconds; /* 0: not asked for */
    double timeout_seconds;
    int precision_number; /* LiteRT's own: default, fp16, fp32, fp16-accumulate-fp32 */
    bool gpu;
};

/* Reads `folder`/job.json. A BAD_JOB failure names the field that is wrong. */
bool job_read(const char *folder, struct job *job, struct failure *failure);

#endif
