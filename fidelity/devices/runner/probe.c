/* Running and judging the precision probe; see probe.h. */

#include "probe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffers.h"
#include "files.h"
#include "model_file.h"

static const char LINE[] = "fidelity: precision probe"; /* job.PROBE_LINE */
static const float FP16_LARGEST = 65504;

/* precision_probe.precision_of: 300 x 300 overflows fp16; (1 + 2^-12)^2 is 1 there and 1 + 2^-11 in fp32. */
static const char *judge(float large, float fine)
{
    if (large == 90000.0f && fine == 1.0f + 0x1p-11f)
        return "fp32";
    if ((large == FP16_LARGEST || (isinf(large) && large > 0)) && fine == 1.0f)
        return "fp16";
    return "unknown";
}

static bool is_probes(const struct compiled *compiled, size_t bytes)
{
    return compiled->inputs == 1 && compiled->outputs == 1 && strcmp(compiled->input->dtype, "float32") == 0 &&
           strcmp(compiled->output->dtype, "float32") == 0 && compiled->input->bytes == bytes &&
           compiled->output->bytes == bytes;
}

const char *probe_precision(struct runtime *runtime, const char *folder, const struct job *job, double deadline)
{
    float input[4] = {300.0f, 1.0f + 0x1p-12f, 1.0f, 2.0f}, output[4]; /* precision_probe.INPUT */
    struct failure failure = {0}; /* a device that cannot run the probe is "unknown", not a failed job */
    struct compiled compiled = {0};
    struct buffers buffers;
    double seconds, enqueue;
    void *inputs[1] = {input};
    const char *had = "unknown";
    fflush(stdout);
    fprintf(stderr, "%s\n", LINE);
    char *path = path_inside(folder, job->probe, BAD_MODEL, &failure);
    if (path && check_model_file(path, job->probe, NULL, &failure) &&
        compile_model(runtime, job, path, &compiled, &failure) &&
        open_signature(runtime, NULL, &compiled, &failure) && is_probes(&compiled, sizeof input) &&
        create_buffers(runtime, &compiled, deadline, &buffers, &failure) &&
        run_once(&buffers, inputs, &seconds, &enqueue, &failure)) {
        memcpy(output, buffers.content[0], sizeof output);
        had = judge(output[0], output[1]);
    }
    if (failure.stage != DONE)
        fprintf(stderr, "fidelity-runner: precision unknown: %s\n", failure.text);
    free(path);
    return had;
}
