/* The part of LiteRT's C API that the runner calls, declared here because the Python wheel and the
 * prebuilt libraries come without headers. Names, arguments and layouts are those of litert/c/ in
 * github.com/google-ai-edge/LiteRT (litert_common.h, litert_any.h, litert_environment_options.h,
 * litert_layout.h, litert_model.h, litert_model_types.h, litert_tensor_buffer.h, litert_accelerator.h,
 * litert_compiled_model.h, litert_opaque_options.h), for runtimes from v2.1.6 on: since then
 * LiteRtCreateModelFromFile takes an environment, under the same name. Tried with 2.3.0. */

#ifndef FIDELITY_LITERT_API_H
#define FIDELITY_LITERT_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

typedef struct litert_environment *litert_environment;
typedef struct litert_model *litert_model;
typedef struct litert_signature *litert_signature;
typedef struct litert_tensor *litert_tensor;
typedef struct litert_options *litert_options;
typedef struct litert_opaque_options *litert_opaque_options;
typedef struct litert_compiled_model *litert_compiled_model;
typedef struct litert_requirements *litert_requirements;
typedef struct litert_buffer *litert_buffer;
typedef struct litert_accelerator *litert_accelerator;

enum { LITERT_MOST_DIMENSIONS = 8 };
enum { LITERT_TIMEOUT_EXPIRED = 7 };                                  /* a status */
enum { LITERT_CPU = 1, LITERT_GPU = 2 };                              /* a set of accelerators */
enum { LITERT_READ = 0, LITERT_WRITE = 1 };                           /* how a buffer is locked */
enum { LITERT_OPTION_RUNTIME_FOLDER = 22, LITERT_OPTION_REGISTER = 24 }; /* tags of environment options */
enum { LITERT_ANY_INTEGER = 2, LITERT_ANY_TEXT = 8 };

struct litert_environment_option {
    int tag;
    struct {
        int type;
        union {
            int64_t integer;
            const char *text;
        } as;
    } value;
};

struct litert_tensor_type {
    int element;
    struct {
        unsigned int rank : 7;
        bool has_strides : 1;
        int32_t dimensions[LITERT_MOST_DIMENSIONS]; /* below 0: not fixed */
        uint32_t strides[LITERT_MOST_DIMENSIONS];
    } layout;
};

_Static_assert(sizeof(struct litert_tensor_type) == 72, "LiteRtRankedTensorType is 72 bytes");
_Static_assert(sizeof(void *) != 8 || sizeof(struct litert_environment_option) == 24, "LiteRtEnvOption is 24 bytes");

typedef void litert_free(void *payload);

/* Every function returns a status, 0 for ok, but for those that destroy. */
#define LITERT_FUNCTIONS(F)                                                                               \
    F(int, CreateEnvironment, (int count, const struct litert_environment_option *, litert_environment *)) \
    F(int, GetNumAccelerators, (litert_environment, size_t *count))                                       \
    F(int, GetAccelerator, (litert_environment, size_t index, litert_accelerator *))                      \
    F(int, GetAcceleratorName, (litert_accelerator, const char **name))                                   \
    F(int, GetAcceleratorHardwareSupport, (litert_accelerator, int *set))                                 \
    F(int, CreateModelFromFile, (litert_environment, const char *path, litert_model *))                   \
    F(void, DestroyModel, (litert_model))                                                                 \
    F(int, GetNumModelSignatures, (litert_model, size_t *count))                                          \
    F(int, GetModelSignature, (litert_model, size_t index, litert_signature *))                           \
    F(int, GetSignatureKey, (litert_signature, const char **key))                                         \
    F(int, GetNumSignatureInputs, (litert_signature, size_t *count))                                      \
    F(int, GetSignatureInputName, (litert_signature, size_t index, const char **name))                    \
    F(int, GetSignatureInputTensorByIndex, (litert_signature, size_t index, litert_tensor *))             \
    F(int, GetNumSignatureOutputs, (litert_signature, size_t *count))                                     \
    F(int, GetSignatureOutputName, (litert_signature, size_t index, const char **name))                   \
    F(int, GetSignatureOutputTensorByIndex, (litert_signature, size_t index, litert_tensor *))            \
    F(int, GetRankedTensorType, (litert_tensor, struct litert_tensor_type *))                             \
    F(int, CreateOptions, (litert_options *))                                                             \
    F(void, DestroyOptions, (litert_options))                                                             \
    F(int, SetOptionsHardwareAccelerators, (litert_options, int set))                                     \
    F(int, AddOpaqueOptions, (litert_options, litert_opaque_options))                                     \
    F(int, CreateOpaqueOptions, (const char *name, void *payload, litert_free *, litert_opaque_options *)) \
    F(int, CreateCompiledModel, (litert_environment, litert_model, litert_options, litert_compiled_model *)) \
    F(void, DestroyCompiledModel, (litert_compiled_model))                                                \
    F(int, CompiledModelIsFullyAccelerated, (litert_compiled_model, bool *))                              \
    F(int, GetCompiledModelInputBufferRequirements,                                                       \
      (litert_compiled_model, size_t signature, size_t index, litert_requirements *))                     \
    F(int, GetCompiledModelOutputBufferRequirements,                                                      \
      (litert_compiled_model, size_t signature, size_t index, litert_requirements *))                     \
    F(int, CreateManagedTensorBufferFromRequirements,                                                     \
      (litert_environment, const struct litert_tensor_type *, litert_requirements, litert_buffer *))      \
    F(void, DestroyTensorBuffer, (litert_buffer))                                                         \
    F(int, GetTensorBufferPackedSize, (litert_buffer, size_t *size))                                      \
    F(int, LockTensorBuffer, (litert_buffer, void **memory, int how))                                     \
    F(int, UnlockTensorBuffer, (litert_buffer))                                                           \
    F(int, RunCompiledModel,                                                                              \
      (litert_compiled_model, size_t signature, size_t inputs, litert_buffer *, size_t outputs, litert_buffer *))

struct litert {
#define MEMBER(result, name, arguments) result(*name) arguments;
    LITERT_FUNCTIONS(MEMBER)
#undef MEMBER
    /* Not in every runtime: NULL. IsFullyAccelerated counts the CPU's XNNPACK when the CPU may help. */
    int (*CompiledModelIsNonCpuFullyAccelerated)(litert_compiled_model, bool *);
};

/* Opens `folder`/libLiteRt.so; a NO_DEVICE failure when it is not there or lacks a function. */
bool litert_open(const char *folder, struct litert *litert, struct failure *failure);

/* What a status means, in LiteRT's words. */
const char *litert_status(int status);

#endif
