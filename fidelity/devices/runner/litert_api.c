/* Opening the runtime library; see litert_api.h. */

#include "litert_api.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

static bool look_up(void *library, const char *name, void *function, struct failure *failure)
{
    void *found = dlsym(library, name);
    if (found == NULL && failure)
        return fail(failure, NO_DEVICE, "libLiteRt.so has no %s: LiteRT 2.1.6 or newer is needed", name);
    memcpy(function, &found, sizeof found); /* C11 has no cast from an object's address to a function's */
    return true;
}

bool litert_open(const char *folder, struct litert *litert, struct failure *failure)
{
    /* The GPU accelerator takes libm's functions from the process; without this, fp16 crashes in it. */
    if (dlopen("libm.so.6", RTLD_NOW | RTLD_GLOBAL) == NULL)
        dlopen("libm.so", RTLD_NOW | RTLD_GLOBAL);
    char *path = joined(folder, "libLiteRt.so");
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    free(path);
    if (library == NULL) {
        const char *reason = dlerror();
        return fail(failure, NO_DEVICE, "no runtime library: %.400s", reason ? reason : folder);
    }
#define LOOK_UP(result, name, arguments)                                     \
    if (!look_up(library, "LiteRt" #name, (void *)&litert->name, failure)) \
        return false;
    LITERT_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
    look_up(library, "LiteRtCompiledModelIsNonCpuFullyAccelerated",
            (void *)&litert->CompiledModelIsNonCpuFullyAccelerated, NULL);
    return true;
}

const char *litert_status(int status)
{
    static const struct {
        int status;
        const char *means;
    } known[] = {
        {1, "invalid argument"},     {2, "memory allocation failed"}, {3, "runtime failure"},
        {4, "missing input tensor"}, {5, "unsupported"},              {6, "not found"},
        {7, "timeout expired"},      {8, "wrong version"},            {9, "unknown"},
        {10, "already exists"},      {100, "cancelled"},              {500, "file cannot be read"},
        {501, "invalid flatbuffer"}, {502, "dynamic loading"},        {503, "serialization"},
        {504, "compilation"},        {1000, "index out of bounds"},   {1001, "invalid type"},
        {1002, "invalid graph"},     {4000, "unsupported runtime version"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status)
            return known[i].means;
    return "a status that fidelity-runner does not know";
}
