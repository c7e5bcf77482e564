/* Raw tensors: what a model's inputs and outputs are, in NumPy's names, and the files that hold them. */

#ifndef FIDELITY_TENSORS_H
#define FIDELITY_TENSORS_H

#include <stdbool.h>
#include <stddef.h>

#include "job.h"
#include "litert_api.h"

/* One input or output of a signature. */
struct port {
    const char *name;
    const char *dtype; /* NumPy's name */
    struct litert_tensor_type type;
    size_t bytes;
};

/* Fills in dtype and bytes from `type`. A BAD_INPUT failure when it has no raw form: packed or
 * variable elements, or a shape that is not fixed; `what` is "input" or "output". */
bool describe_port(struct port *port, const char *what, struct failure *failure);

/* The content of an input's file, checked against the model's input and the job's hash; NULL with a
 * BAD_INPUT failure. A float must be finite. The caller frees it. */
void *read_tensor(const char *folder, const struct tensor_file *file, const struct port *port,
                  struct failure *failure);

#endif
