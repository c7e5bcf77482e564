/* Bounds of a .tflite file: each offset that the runtime follows to load it stays inside the file, and
 * each index inside its list. Field numbers are those of LiteRT's tflite/converter/schema/schema.fbs;
 * the format of tables, vectors and texts is FlatBuffers'. */

#include "model_file.h"

#include <stdint.h>
#include <string.h>

#include "files.h"

enum { OPERATOR_CODES = 1, SUBGRAPHS = 2, BUFFERS = 4, SIGNATURES = 7 };                     /* Model */
enum { TENSORS = 0, GRAPH_INPUTS = 1, GRAPH_OUTPUTS = 2, OPERATORS = 3, GRAPH_NAME = 4 };    /* SubGraph */
enum { SHAPE = 0, BUFFER = 2, TENSOR_NAME = 3 };                                             /* Tensor */
enum { CODE = 0, NODE_INPUTS = 1, NODE_OUTPUTS = 2 };                                        /* Operator */
enum { DATA = 0, DATA_OFFSET = 1, DATA_SIZE = 2 };                                           /* Buffer */
enum { SIGNATURE_INPUTS = 0, SIGNATURE_OUTPUTS = 1, SIGNATURE_KEY = 2, SIGNATURE_GRAPH = 4 }; /* SignatureDef */
enum { MAP_NAME = 0, MAP_TENSOR = 1 };                                                       /* TensorMap */

struct file {
    const unsigned char *bytes;
    size_t size;
    size_t codes, graphs, buffers, tensors; /* how many there are; tensors of the graph at hand */
};

/* A table's place in the file, and its list of fields'. */
struct table {
    size_t at, fields, fields_size;
};

struct vector {
    size_t at, count; /* of the first element */
};

static uint64_t number(const struct file *file, size_t at, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)file->bytes[at + i] << 8 * i;
    return value;
}

static bool holds(const struct file *file, size_t at, size_t size)
{
    return at <= file->size && size <= file->size - at;
}

static bool open_table(const struct file *file, size_t at, struct table *table)
{
    if (!holds(file, at, 4))
        return false;
    int64_t fields = (int64_t)at - (int32_t)number(file, at, 4);
    if (fields < 0 || !holds(file, (size_t)fields, 4))
        return false;
    *table = (struct table){at, (size_t)fields, number(file, (size_t)fields, 2)};
    return table->fields_size >= 4 && table->fields_size % 2 == 0 && holds(file, table->fields, table->fields_size);
}

/* Where the field's value of `size` bytes is; 0 when the table has no such field. False: outside the file. */
static bool find(const struct file *file, const struct table *table, size_t field, size_t size, size_t *at)
{
    size_t entry = 4 + 2 * field;
    size_t offset = entry + 2 <= table->fields_size ? number(file, table->fields + entry, 2) : 0;
    *at = offset ? table->at + offset : 0;
    return offset == 0 || holds(file, *at, size);
}

static bool follow(const struct file *file, size_t at, size_t *to)
{
    *to = at + (size_t)number(file, at, 4);
    return holds(file, *to, 4);
}

/* The elements of a list, text or bytes; none when the table has no such field. */
static bool open_vector(const struct file *file, const struct table *table, size_t field, size_t size,
                        struct vector *vector)
{
    size_t at, to;
    *vector = (struct vector){0, 0};
    if (!find(file, table, field, 4, &at))
        return false;
    if (at == 0)
        return true;
    if (!follow(file, at, &to))
        return false;
    *vector = (struct vector){to + 4, number(file, to, 4)};
    return vector->count <= file->size / size && holds(file, vector->at, vector->count * size);
}

static bool open_element(const struct file *file, const struct vector *vector, size_t index, struct table *table)
{
    size_t to;
    return follow(file, vector->at + 4 * index, &to) && open_table(file, to, table);
}

/* A number of the table, or 0. */
static bool get(const struct file *file, const struct table *table, size_t field, size_t size, uint64_t *value)
{
    size_t at;
    if (!find(file, table, field, size, &at))
        return false;
    *value = at ? number(file, at, size) : 0;
    return true;
}

static bool check_index(const struct file *file, const struct table *table, size_t field, size_t count)
{
    uint64_t index;
    return get(file, table, field, 4, &index) && index < count;
}

/* A text: a zero follows it, which the runtime relies on. */
static bool check_text(const struct file *file, const struct table *table, size_t field)
{
    struct vector text;
    return open_vector(file, table, field, 1, &text) &&
           (text.at == 0 || (holds(file, text.at, text.count + 1) && file->bytes[text.at + text.count] == 0));
}

/* Tensor numbers; -1 is a node's input that is not given. */
static bool check_tensors(const struct file *file, const struct table *table, size_t field, bool optional)
{
    struct vector list;
    if (!open_vector(file, table, field, 4, &list))
        return false;
    for (size_t i = 0; i < list.count; i++) {
        uint64_t index = number(file, list.at + 4 * i, 4);
        if (index >= file->tensors && !(optional && index == UINT32_MAX))
            return false;
    }
    return true;
}

typedef bool check(const struct file *file, const struct table *table);

static bool check_each(const struct file *file, const struct table *table, size_t field, check *element, size_t *count)
{
    struct vector list;
    struct table each;
    if (!open_vector(file, table, field, 4, &list))
        return false;
    if (count)
        *count = list.count;
    for (size_t i = 0; element && i < list.count; i++)
        if (!open_element(file, &list, i, &each) || !element(file, &each))
            return false;
    return true;
}

static bool check_buffer(const struct file *file, const struct table *buffer)
{
    struct vector data;
    uint64_t offset, size; /* of data behind the FlatBuffer, in files past 2 GiB; 0 and 1 mean none */
    return open_vector(file, buffer, DATA, 1, &data) && get(file, buffer, DATA_OFFSET, 8, &offset) &&
           get(file, buffer, DATA_SIZE, 8, &size) && (offset <= 1 || holds(file, offset, size));
}

static bool check_tensor(const struct file *file, const struct table *tensor)
{
    struct vector shape;
    return open_vector(file, tensor, SHAPE, 4, &shape) && check_index(file, tensor, BUFFER, file->buffers) &&
           check_text(file, tensor, TENSOR_NAME);
}

static bool check_node(const struct file *file, const struct table *node)
{
    return check_index(file, node, CODE, file->codes) && check_tensors(file, node, NODE_INPUTS, true) &&
           check_tensors(file, node, NODE_OUTPUTS, true);
}

static bool check_graph(const struct file *file, const struct table *graph)
{
    struct file within = *file;
    return check_each(&within, graph, TENSORS, NULL, &within.tensors) &&
           check_each(&within, graph, TENSORS, check_tensor, NULL) &&
           check_each(&within, graph, OPERATORS, check_node, NULL) &&
           check_tensors(&within, graph, GRAPH_INPUTS, false) && check_tensors(&within, graph, GRAPH_OUTPUTS, false) &&
           check_text(&within, graph, GRAPH_NAME);
}

static bool check_map(const struct file *file, const struct table *entry)
{
    return check_text(file, entry, MAP_NAME) && check_index(file, entry, MAP_TENSOR, file->tensors);
}

static bool check_signature(const struct file *file, const struct table *signature)
{
    struct file within = *file;
    struct table model, graph;
    struct vector graphs;
    uint64_t index;
    return get(file, signature, SIGNATURE_GRAPH, 4, &index) && index < file->graphs &&
           open_table(file, number(file, 0, 4), &model) && open_vector(file, &model, SUBGRAPHS, 4, &graphs) &&
           open_element(file, &graphs, index, &graph) && check_each(file, &graph, TENSORS, NULL, &within.tensors) &&
           check_each(&within, signature, SIGNATURE_INPUTS, check_map, NULL) &&
           check_each(&within, signature, SIGNATURE_OUTPUTS, check_map, NULL) &&
           check_text(file, signature, SIGNATURE_KEY);
}

static bool check_model(struct file *file)
{
    struct table model;
    return open_table(file, number(file, 0, 4), &model) &&
           check_each(file, &model, OPERATOR_CODES, NULL, &file->codes) &&
           check_each(file, &model, BUFFERS, check_buffer, &file->buffers) &&
           check_each(file, &model, SUBGRAPHS, check_graph, &file->graphs) && file->graphs > 0 &&
           check_each(file, &model, SIGNATURES, check_signature, NULL);
}

bool check_model_file(const char *path, const char *name, const char *sha256, struct failure *failure)
{
    struct mapped mapped;
    if (!map_file(path, &mapped, BAD_MODEL, failure))
        return false;
    struct file file = {.bytes = mapped.bytes, .size = mapped.size};
    bool good = true;
    char digest[SHA256_HEX];
    if (file.size < 16 || memcmp(file.bytes + 4, "TFL3", 4) != 0)
        good = fail(failure, BAD_MODEL, "model %.200s: not a .tflite file", name);
    else if (!check_model(&file))
        good = fail(failure, BAD_MODEL, "model %.200s: broken: it was cut short, or its tables do not hold", name);
    if (good && sha256) {
        sha256_hex(mapped.bytes, mapped.size, digest);
        if (strcmp(digest, sha256) != 0)
            good = fail(failure, BAD_MODEL, "model %.200s: sha256 is %.16s..., the job says %.16s...", name, digest,
                        sha256);
    }
    unmap_file(&mapped);
    return good;
}
