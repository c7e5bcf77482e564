/* Is a file the model that the job names, and a whole .tflite? The runtime aborts the process on many
 * that are not, so that the commonest broken file, a cut one, is told apart here. */

#ifndef FIDELITY_MODEL_FILE_H
#define FIDELITY_MODEL_FILE_H

#include <stdbool.h>

#include "failure.h"

/* `sha256` may be NULL: then only the form is checked. */
bool check_model_file(const char *path, const char *name, const char *sha256, struct failure *failure);

#endif
