/* Creating, filling, running and reading buffers; see buffers.h. */

#define _XOPEN_SOURCE 700

#include "buffers.h"

#include <string.h>
#include <unistd.h>

#include "system.h"

static bool failed(struct failure *failure, const char *call, const struct port *port, int status)
{
    return fail(failure, RUN_FAILED, "%s%s%.100s: status %d, %s", call, port ? " of " : "", port ? port->name : "",
                status, litert_status(status));
}

static bool create_buffer(struct runtime *runtime, const struct compiled *compiled, bool input, size_t index,
                          litert_buffer *buffer, struct failure *failure)
{
    struct litert *litert = &runtime->litert;
    const struct port *port = input ? &compiled->input[index] : &compiled->output[index];
    litert_requirements requirements;
    size_t size = 0;
    int status = (input ? litert->GetCompiledModelInputBufferRequirements
                        : litert->GetCompiledModelOutputBufferRequirements)(compiled->compiled, compiled->signature,
                                                                            index, &requirements);
    if (status)
        return failed(failure, "buffer requirements", port, status);
    status = litert->CreateManagedTensorBufferFromRequirements(runtime->environment, &port->type, requirements, buffer);
    if (status)
        return failed(failure, "a buffer", port, status);
    status = litert->GetTensorBufferPackedSize(*buffer, &size);
    if (status || size < port->bytes)
        return fail(failure, RUN_FAILED, "the buffer of %.100s holds %zu bytes, its tensor has %zu", port->name, size,
                    port->bytes);
    return true;
}

bool create_buffers(struct runtime *runtime, const struct compiled *compiled, double deadline, struct buffers *buffers,
                    struct failure *failure)
{
    *buffers = (struct buffers){
        .runtime = runtime,
        .compiled = compiled,
        .input = need(compiled->inputs, sizeof(litert_buffer)),
        .output = need(compiled->outputs, sizeof(litert_buffer)),
        .content = need(compiled->outputs, sizeof(void *)),
        .deadline = deadline,
    };
    for (size_t i = 0; i < compiled->inputs; i++)
        if (!create_buffer(runtime, compiled, true, i, &buffers->input[i], failure))
            return false;
    for (size_t i = 0; i < compiled->outputs; i++) {
        if (!create_buffer(runtime, compiled, false, i, &buffers->output[i], failure))
            return false;
        buffers->content[i] = need(compiled->output[i].bytes, 1);
    }
    return true;
}

/* LiteRT waits two minutes for a GPU that still computes, then gives up (2.3.0, WebGPU). The work goes on, and so
 * does this wait, until the job's own deadline. A buffer whose lock ran out of time can be locked again only after
 * an unlock, which itself fails. */
static int lock(const struct buffers *buffers, litert_buffer buffer, void **memory, int how)
{
    struct litert *litert = &buffers->runtime->litert;
    for (;;) {
        int status = litert->LockTensorBuffer(buffer, memory, how);
        if (status != LITERT_TIMEOUT_EXPIRED || seconds_now() > buffers->deadline)
            return status;
        litert->UnlockTensorBuffer(buffer);
        sleep(1); /* in case that another runtime does not wait at all */
    }
}

/* Copies into the buffer (`from`) or out of it (`to`). */
static bool copy(const struct buffers *buffers, litert_buffer buffer, const struct port *port, const void *from,
                 void *to, struct failure *failure)
{
    struct litert *litert = &buffers->runtime->litert;
    void *memory;
    int status = lock(buffers, buffer, &memory, from ? LITERT_WRITE : LITERT_READ);
    if (status == LITERT_TIMEOUT_EXPIRED) {
        failure->timed_out = failure->stage == DONE;
        return fail(failure, RUN_FAILED,
                    "%.100s: the device had not finished when the job passed its limit of timeout_seconds", port->name);
    }
    if (status)
        return failed(failure, from ? "writing" : "reading", port, status);
    if (port->bytes)
        memcpy(from ? memory : to, from ? from : memory, port->bytes);
    status = litert->UnlockTensorBuffer(buffer);
    return status == 0 || failed(failure, from ? "writing" : "reading", port, status);
}

bool run_once(struct buffers *buffers, void *const *inputs, double *seconds, double *enqueue, struct failure *failure)
{
    struct litert *litert = &buffers->runtime->litert;
    const struct compiled *compiled = buffers->compiled;
    for (size_t i = 0; i < compiled->inputs; i++)
        if (!copy(buffers, buffers->input[i], &compiled->input[i], inputs[i], NULL, failure))
            return false;
    double started = seconds_now();
    int status = litert->RunCompiledModel(compiled->compiled, compiled->signature, compiled->inputs, buffers->input,
                                          compiled->outputs, buffers->output);
    *enqueue = seconds_now() - started;
    if (status)
        return failed(failure, "LiteRtRunCompiledModel", NULL, status);
    for (size_t i = 0; i < compiled->outputs; i++)
        if (!copy(buffers, buffers->output[i], &compiled->output[i], NULL, buffers->content[i], failure))
            return false;
    *seconds = seconds_now() - started;
    return true;
}
