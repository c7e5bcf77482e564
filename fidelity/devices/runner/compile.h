/* A model compiled for a device, and the signature of it that is run. */

#ifndef FIDELITY_COMPILE_H
#define FIDELITY_COMPILE_H

#include <stdbool.h>
#include <stddef.h>

#include "job.h"
#include "litert_api.h"
#include "tensors.h"

struct runtime {
    struct litert litert;
    litert_environment environment;
    char accelerators[256]; /* those that the runtime registered, by name */
};

struct compiled {
    litert_model model;
    litert_compiled_model compiled;
    bool alone; /* false: the device alone refused, so that the CPU helps */
    double seconds;
    size_t signature, inputs, outputs;
    const char *key;
    struct port *input, *output;
};

/* Opens the runtime in `folder` with the accelerators that the job needs. */
bool start_runtime(const char *folder, bool gpu, struct runtime *runtime, struct failure *failure);

/* For the CPU, or for the GPU alone and, when that refuses nodes, for the GPU with the CPU. A REFUSED
 * failure when the runtime compiles nothing at all. */
bool compile_model(struct runtime *runtime, const struct job *job, const char *path, struct compiled *compiled,
                   struct failure *failure);

/* Finds the signature (NULL: the first), its inputs and outputs. */
bool open_signature(struct runtime *runtime, const char *wanted, struct compiled *compiled, struct failure *failure);

/* Runs every node on the device, as the runtime's own word goes. */
bool fully_accelerated(struct runtime *runtime, const struct compiled *compiled);

#endif
