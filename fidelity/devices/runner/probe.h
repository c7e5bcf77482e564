/* What precision a device really computes in, found by two products: fidelity/devices/precision_probe.py. */

#ifndef FIDELITY_PROBE_H
#define FIDELITY_PROBE_H

#include "compile.h"
#include "job.h"

/* "fp16", "fp32" or "unknown", by the job's probe on the job's device with the job's options. What the
 * runtime logs from here on is not about the job's model: a line says so first. It waits until the job's `deadline`. */
const char *probe_precision(struct runtime *runtime, const char *folder, const struct job *job, double deadline);

#endif
