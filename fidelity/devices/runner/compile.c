/* Environment, options, compilation and signatures; see compile.h. */

#define _XOPEN_SOURCE 700

#include "compile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "system.h"
#include "text.h"

bool start_runtime(const char *folder, bool gpu, struct runtime *runtime, struct failure *failure)
{
    struct litert *litert = &runtime->litert;
    if (!litert_open(folder, litert, failure))
        return false;
    struct litert_environment_option options[2] = {
        {.tag = LITERT_OPTION_RUNTIME_FOLDER, .value = {.type = LITERT_ANY_TEXT, .as.text = folder}},
        /* The CPU's alone for a CPU job: a GPU library that crashes when it is loaded is not its matter. */
        {.tag = LITERT_OPTION_REGISTER,
         .value = {.type = LITERT_ANY_INTEGER, .as.integer = gpu ? LITERT_GPU | LITERT_CPU : LITERT_CPU}},
    };
    int status = litert->CreateEnvironment(2, options, &runtime->environment);
    if (status)
        return fail(failure, NO_DEVICE, "LiteRtCreateEnvironment: status %d, %s", status, litert_status(status));
    size_t count = 0, length = 0;
    bool found = false;
    litert->GetNumAccelerators(runtime->environment, &count);
    for (size_t i = 0; i < count; i++) {
        litert_accelerator accelerator;
        const char *name = NULL;
        int set = 0;
        if (litert->GetAccelerator(runtime->environment, i, &accelerator) ||
            litert->GetAcceleratorName(accelerator, &name) || litert->GetAcceleratorHardwareSupport(accelerator, &set))
            continue;
        found = found || (set & LITERT_GPU);
        length += (size_t)snprintf(runtime->accelerators + length, sizeof runtime->accelerators - length, "%s%.60s",
                                   length ? ", " : "", name ? name : "?");
        if (length >= sizeof runtime->accelerators)
            break;
    }
    make_printable(runtime->accelerators);
    if (gpu && !found)
        return fail(failure, NO_DEVICE, "%.300s: the runtime finds no GPU accelerator there (libLiteRt*Accelerator.so)",
                    folder);
    return true;
}

/* LiteRT's options for one accelerator: a name, and a TOML text that the runtime frees. */
static int add_options(struct litert *litert, litert_options options, const char *name, const char *key, long value)
{
    litert_opaque_options opaque;
    char *toml = need(64, 1);
    snprintf(toml, 64, "%s = %ld\n", key, value);
    int status = litert->CreateOpaqueOptions(name, toml, free, &opaque);
    if (status) {
        free(toml);
        return status;
    }
    return litert->AddOpaqueOptions(options, opaque);
}

/* The status of the first call that fails. `what` tells which. */
static int try_compile(struct runtime *runtime, const struct job *job, const char *path, int set,
                       struct compiled *compiled, const char **what)
{
    struct litert *litert = &runtime->litert;
    litert_options options;
    *what = "LiteRtCreateModelFromFile";
    int status = litert->CreateModelFromFile(runtime->environment, path, &compiled->model);
    if (status)
        return status;
    *what = "LiteRtCreateOptions";
    status = litert->CreateOptions(&options);
    if (status == 0) {
        *what = "LiteRtAddOpaqueOptions";
        status = litert->SetOptionsHardwareAccelerators(options, set);
        if (status == 0 && job->threads > 0)
            status = add_options(litert, options, "xnnpack", "num_threads", (long)job->threads);
        if (status == 0 && job->gpu)
            status = add_options(litert, options, "gpu_options", "precision", job->precision_number);
        if (status == 0) {
            *what = "LiteRtCreateCompiledModel";
            status = litert->CreateCompiledModel(runtime->environment, compiled->model, options, &compiled->compiled);
        }
        litert->DestroyOptions(options);
    }
    if (status) { /* the next attempt starts from the file: this one may have changed the model */
        litert->DestroyModel(compiled->model);
        compiled->model = NULL;
    }
    return status;
}

bool compile_model(struct runtime *runtime, const struct job *job, const char *path, struct compiled *compiled,
                   struct failure *failure)
{
    const char *what;
    double started = seconds_now();
    compiled->alone = true;
    int status = try_compile(runtime, job, path, job->gpu ? LITERT_GPU : LITERT_CPU, compiled, &what);
    if (status && job->gpu) {
        compiled->alone = false;
        status = try_compile(runtime, job, path, LITERT_GPU | LITERT_CPU, compiled, &what);
    }
    compiled->seconds = seconds_now() - started;
    if (status == 0)
        return true;
    bool compiling = strcmp(what, "LiteRtCreateCompiledModel") == 0;
    return fail(failure, compiling ? REFUSED : BAD_MODEL, "%s: status %d, %s; see log.txt", what, status,
                litert_status(status));
}

/* Inputs or outputs of a signature. */
static bool open_ports(struct litert *litert, litert_signature signature, bool inputs, struct port **ports,
                       size_t *count, struct failure *failure)
{
    const char *what = inputs ? "input" : "output";
    if ((inputs ? litert->GetNumSignatureInputs : litert->GetNumSignatureOutputs)(signature, count))
        return fail(failure, BAD_MODEL, "the signature's %ss cannot be counted", what);
    *ports = need(*count, sizeof **ports);
    for (size_t i = 0; i < *count; i++) {
        struct port *port = &(*ports)[i];
        litert_tensor tensor;
        if ((inputs ? litert->GetSignatureInputName : litert->GetSignatureOutputName)(signature, i, &port->name) ||
            !is_utf8(port->name))
            return fail(failure, BAD_MODEL, "the name of %s %zu is no text", what, i);
        for (size_t j = 0; j < i; j++)
            if (strcmp(port->name, (*ports)[j].name) == 0)
                return fail(failure, BAD_MODEL, "two %ss are named '%.100s'", what, port->name);
        if ((inputs ? litert->GetSignatureInputTensorByIndex : litert->GetSignatureOutputTensorByIndex)(signature, i,
                                                                                                        &tensor) ||
            litert->GetRankedTensorType(tensor, &port->type))
            return fail(failure, BAD_INPUT, "%s '%.100s': its shape has no fixed rank", what, port->name);
        if (!describe_port(port, what, failure))
            return false;
    }
    return true;
}

bool open_signature(struct runtime *runtime, const char *wanted, struct compiled *compiled, struct failure *failure)
{
    struct litert *litert = &runtime->litert;
    litert_signature signature = NULL;
    size_t count = 0;
    char known[256] = "";
    litert->GetNumModelSignatures(compiled->model, &count);
    for (size_t i = 0; i < count && compiled->key == NULL; i++) {
        const char *key = NULL;
        if (litert->GetModelSignature(compiled->model, i, &signature) || litert->GetSignatureKey(signature, &key))
            continue;
        if (wanted == NULL || strcmp(wanted, key) == 0) {
            compiled->key = key;
            compiled->signature = i;
        }
        size_t length = strlen(known);
        snprintf(known + length, sizeof known - length, "%s'%.60s'", length ? ", " : "", key);
    }
    if (compiled->key == NULL)
        return fail(failure, BAD_INPUT, "signature '%.100s': the model has %s", wanted ? wanted : "",
                    *known ? known : "none");
    return open_ports(litert, signature, true, &compiled->input, &compiled->inputs, failure) &&
           open_ports(litert, signature, false, &compiled->output, &compiled->outputs, failure);
}

bool fully_accelerated(struct runtime *runtime, const struct compiled *compiled)
{
    struct litert *litert = &runtime->litert;
    bool all = false, without_cpu = true;
    if (!compiled->alone || litert->CompiledModelIsFullyAccelerated(compiled->compiled, &all))
        return false;
    if (litert->CompiledModelIsNonCpuFullyAccelerated &&
        litert->CompiledModelIsNonCpuFullyAccelerated(compiled->compiled, &without_cpu))
        return false;
    return all && without_cpu;
}
