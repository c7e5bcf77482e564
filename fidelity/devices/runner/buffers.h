/* The buffers of a compiled model's inputs and outputs, and one run with them. */

#ifndef FIDELITY_BUFFERS_H
#define FIDELITY_BUFFERS_H

#include <stdbool.h>

#include "compile.h"

/* One set of buffers, reused from run to run as an application would. */
struct buffers {
    struct runtime *runtime;
    const struct compiled *compiled;
    litert_buffer *input, *output;
    void **content;  /* of the outputs, as the last run gave them */
    double deadline; /* of the job: as long as that a run may take */
};

bool create_buffers(struct runtime *runtime, const struct compiled *compiled, double deadline, struct buffers *buffers,
                    struct failure *failure);

/* One run: `inputs` in the signature's order. `seconds` include reading all outputs back: a GPU's call
 * returns before the work is done, after `enqueue` seconds. */
bool run_once(struct buffers *buffers, void *const *inputs, double *seconds, double *enqueue, struct failure *failure);

#endif
