/* dtypes, shapes and raw files; see tensors.h. */

#include "tensors.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

/* Not one raw byte order, no NumPy dtype, or no fixed size: told by name and refused. */
enum { NO_RAW_FORM = 0 };

/* A number is not finite when all bits of its exponent are set: the highest `exponent` bits below the sign. */
static const struct dtype {
    int element; /* LiteRtElementType */
    const char *name;
    size_t size;
    unsigned exponent; /* bits of it, for floats */
} DTYPES[] = {
    {6, "bool", 1, 0},           {9, "int8", 1, 0},     {7, "int16", 2, 0},    {2, "int32", 4, 0},
    {4, "int64", 8, 0},          {3, "uint8", 1, 0},    {17, "uint16", 2, 0},  {16, "uint32", 4, 0},
    {13, "uint64", 8, 0},        {10, "float16", 2, 5}, {1, "float32", 4, 8},  {11, "float64", 8, 11},
    {18, "int4", NO_RAW_FORM, 0}, {20, "int2", NO_RAW_FORM, 0},     {19, "bfloat16", NO_RAW_FORM, 0},
    {8, "complex64", NO_RAW_FORM, 0}, {12, "complex128", NO_RAW_FORM, 0}, {5, "string", NO_RAW_FORM, 0},
    {14, "resource", NO_RAW_FORM, 0}, {15, "variant", NO_RAW_FORM, 0},
};

enum { SHAPE_TEXT = 128 };

/* As Python writes a tuple: (), (3,), (2, 3). */
static const char *shape_text(size_t rank, const int64_t *shape, char text[SHAPE_TEXT])
{
    size_t length = 1;
    strcpy(text, "(");
    for (size_t i = 0; i < rank && length < SHAPE_TEXT - 32; i++)
        length += (size_t)snprintf(text + length, SHAPE_TEXT - length, i ? ", %lld" : "%lld", (long long)shape[i]);
    strcpy(text + length, rank == 1 ? ",)" : ")");
    return text;
}

static const struct dtype *dtype_of(int element)
{
    for (size_t i = 0; i < sizeof DTYPES / sizeof *DTYPES; i++)
        if (DTYPES[i].element == element)
            return &DTYPES[i];
    return NULL;
}

static size_t shape_of(const struct port *port, int64_t shape[LITERT_MOST_DIMENSIONS])
{
    size_t rank = port->type.layout.rank;
    rank = rank < LITERT_MOST_DIMENSIONS ? rank : LITERT_MOST_DIMENSIONS;
    for (size_t i = 0; i < rank; i++)
        shape[i] = port->type.layout.dimensions[i];
    return rank;
}

bool describe_port(struct port *port, const char *what, struct failure *failure)
{
    const struct dtype *dtype = dtype_of(port->type.element);
    if (dtype == NULL || dtype->size == NO_RAW_FORM)
        return fail(failure, BAD_INPUT, "%s '%.100s': %s (LiteRT's element type %d) has no raw form here", what,
                    port->name, dtype ? dtype->name : "its type", port->type.element);
    int64_t shape[LITERT_MOST_DIMENSIONS];
    char text[SHAPE_TEXT];
    size_t rank = shape_of(port, shape), bytes = dtype->size;
    for (size_t i = 0; i < rank; i++) {
        if (shape[i] < 0 || (shape[i] > 0 && bytes > SIZE_MAX / 2 / (size_t)shape[i]))
            return fail(failure, BAD_INPUT, "%s '%.100s': the model's shape %s is not fixed", what, port->name,
                        shape_text(rank, shape, text));
        bytes *= (size_t)shape[i];
    }
    port->dtype = dtype->name;
    port->bytes = bytes;
    return true;
}

static bool is_finite(const unsigned char *bytes, size_t size, const struct dtype *dtype)
{
    unsigned bits = (unsigned)dtype->size * 8;
    uint64_t exponent = (((uint64_t)1 << dtype->exponent) - 1) << (bits - 1 - dtype->exponent);
    for (size_t at = 0; at + dtype->size <= size; at += dtype->size) {
        uint64_t value = 0;
        memcpy(&value, bytes + at, dtype->size); /* little-endian, as every device that LiteRT runs on */
        if ((value & exponent) == exponent)
            return false;
    }
    return true;
}

void *read_tensor(const char *folder, const struct tensor_file *file, const struct port *port, struct failure *failure)
{
    int64_t shape[LITERT_MOST_DIMENSIONS];
    char given[SHAPE_TEXT], wanted[SHAPE_TEXT], digest[SHA256_HEX];
    size_t rank = shape_of(port, shape), size;
    if (file->rank != rank || memcmp(file->shape, shape, rank * sizeof *shape) != 0 ||
        strcmp(file->dtype, port->dtype) != 0) {
        fail(failure, BAD_INPUT, "input '%.100s': %.32s %s given, the model takes %s %s", port->name, file->dtype,
             shape_text(file->rank, file->shape, given), port->dtype, shape_text(rank, shape, wanted));
        return NULL;
    }
    char *path = path_inside(folder, file->file, BAD_INPUT, failure);
    char *content = path ? read_whole(path, port->bytes, &size, BAD_INPUT, failure) : NULL;
    free(path);
    if (content == NULL)
        return NULL;
    sha256_hex(content, size, digest);
    const struct dtype *dtype = dtype_of(port->type.element);
    if (size != port->bytes)
        fail(failure, BAD_INPUT, "%.200s: %zu bytes, %s %s needs %zu", file->file, size, port->dtype,
             shape_text(rank, shape, wanted), port->bytes);
    else if (strcmp(digest, file->sha256) != 0)
        fail(failure, BAD_INPUT, "%.200s: its sha256 is not the one recorded", file->file);
    else if (dtype->exponent && !is_finite((unsigned char *)content, size, dtype))
        fail(failure, BAD_INPUT, "input '%.100s': holds NaN or Inf", port->name);
    else
        return content;
    free(content);
    return NULL;
}
