/* From JSON to a job, field by field; see job.h. */

#include "job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "json.h"

enum { LARGEST_JOB = 16 << 20, MOST_THREADS = 1024 };
static const int64_t FOREVER = INT64_MAX;

/* An object that is read, and where it is in the document: "inputs.0." */
struct place {
    const struct json *object;
    char where[160];
    struct failure *failure;
};

static bool wrong(const struct place *place, const char *name, const char *expected)
{
    return fail(place->failure, BAD_JOB, "job.json: field '%s%.100s': %s", place->where, name, expected);
}

/* Is it an object that has these fields and no other? */
static bool open_object(const struct place *place, const char *const *names)
{
    if (place->object->kind != JSON_OBJECT)
        return wrong(place, "", "an object expected");
    for (const struct json *member = place->object->first; member; member = member->next) {
        const char *const *name = names;
        while (*name && strcmp(*name, member->key) != 0)
            name++;
        if (*name == NULL)
            return wrong(place, member->key, "there is no such field");
    }
    return true;
}

static bool get_text(const struct place *place, const char *name, const char **text)
{
    const struct json *value = json_member(place->object, name);
    if (value == NULL)
        return wrong(place, name, "missing");
    if (value->kind != JSON_TEXT)
        return wrong(place, name, "a text expected");
    *text = value->text;
    return true;
}

/* A field that may be missing or null: then NULL. */
static const struct json *optional(const struct place *place, const char *name)
{
    const struct json *value = json_member(place->object, name);
    return value && value->kind != JSON_NULL ? value : NULL;
}

static bool get_optional_text(const struct place *place, const char *name, const char **text)
{
    return optional(place, name) == NULL || get_text(place, name, text);
}

/* `*integer` is the default on entry. */
static bool get_integer(const struct place *place, const char *name, int64_t least, int64_t most, int64_t *integer)
{
    const struct json *value = json_member(place->object, name);
    if (value == NULL)
        return true;
    if (value->kind != JSON_NUMBER || !value->whole)
        return wrong(place, name, "a whole number expected");
    if (value->integer < least || value->integer > most)
        return wrong(place, name, value->integer < least ? "too small" : "too large");
    *integer = value->integer;
    return true;
}

/* Python stores an infinite limit as a text. */
static bool get_seconds(const struct place *place, const char *name, double *seconds)
{
    const struct json *value = optional(place, name);
    if (value == NULL)
        return true;
    if (value->kind == JSON_TEXT && strcmp(value->text, "Infinity") == 0) {
        *seconds = 1e300;
        return true;
    }
    if (value->kind != JSON_NUMBER || value->too_large)
        return wrong(place, name, "a number expected");
    *seconds = value->number;
    return true;
}

static bool get_list(const struct place *place, const char *name, const struct json **list)
{
    *list = json_member(place->object, name);
    if (*list == NULL)
        return wrong(place, name, "missing");
    return (*list)->kind == JSON_LIST || wrong(place, name, "a list expected");
}

static bool read_tensor_file(const struct place *place, struct tensor_file *tensor)
{
    static const char *const names[] = {"file", "dtype", "shape", "sha256", NULL};
    const struct json *shape;
    if (!open_object(place, names) || !get_text(place, "file", &tensor->file) ||
        !get_text(place, "dtype", &tensor->dtype) || !get_text(place, "sha256", &tensor->sha256) ||
        !get_list(place, "shape", &shape))
        return false;
    tensor->shape = need(shape->count, sizeof *tensor->shape);
    for (const struct json *size = shape->first; size; size = size->next) {
        if (size->kind != JSON_NUMBER || !size->whole)
            return wrong(place, "shape", "whole numbers expected");
        tensor->shape[tensor->rank++] = size->integer;
    }
    return true;
}

static bool read_input(const struct place *place, struct job_input *input)
{
    static const char *const names[] = {"name", "tensors", NULL};
    if (!open_object(place, names) || !get_text(place, "name", &input->name))
        return false;
    const struct json *tensors = json_member(place->object, "tensors");
    if (tensors == NULL || tensors->kind != JSON_OBJECT)
        return wrong(place, "tensors", tensors ? "an object expected" : "missing");
    input->tensors = need(tensors->count, sizeof *input->tensors);
    for (const struct json *member = tensors->first; member; member = member->next) {
        struct place inner = {.object = member, .failure = place->failure};
        snprintf(inner.where, sizeof inner.where, "%.60stensors.%.60s.", place->where, member->key);
        struct tensor_file *tensor = &input->tensors[input->count++];
        tensor->name = member->key;
        if (!read_tensor_file(&inner, tensor))
            return false;
    }
    return true;
}

static int by_name(const void *one, const void *other)
{
    const struct job_input *const *a = one, *const *b = other;
    return strcmp((*a)->name, (*b)->name);
}

static int name_with(const void *name, const void *input)
{
    const struct job_input *const *each = input;
    return strcmp(name, (*each)->name);
}

/* Every name once, and which of them repeat_only names. A name there that no input has is no failure:
 * the local worker passes it over too. */
static bool mark_repeated(const struct place *place, struct job *job)
{
    struct job_input **sorted = need(job->count, sizeof *sorted);
    const struct json *only = optional(place, "repeat_only");
    for (size_t i = 0; i < job->count; i++) {
        sorted[i] = &job->inputs[i];
        sorted[i]->repeated = only == NULL;
    }
    qsort(sorted, job->count, sizeof *sorted, by_name);
    bool good = only == NULL || only->kind == JSON_LIST || wrong(place, "repeat_only", "a list expected");
    for (size_t i = 1; good && i < job->count; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            good = fail(place->failure, BAD_JOB, "job.json: field 'inputs': two are named '%.100s'", sorted[i]->name);
    for (const struct json *name = good && only ? only->first : NULL; name && good; name = name->next) {
        if (name->kind != JSON_TEXT) {
            good = wrong(place, "repeat_only", "texts expected");
            break;
        }
        struct job_input **found = bsearch(name->text, sorted, job->count, sizeof *sorted, name_with);
        if (found)
            (*found)->repeated = true;
    }
    free(sorted);
    return good;
}

static bool read_inputs(const struct place *place, struct job *job)
{
    const struct json *list;
    if (!get_list(place, "inputs", &list))
        return false;
    job->inputs = need(list->count, sizeof *job->inputs);
    for (const struct json *member = list->first; member; member = member->next) {
        struct place inner = {.object = member, .failure = place->failure};
        snprintf(inner.where, sizeof inner.where, "inputs.%zu.", job->count);
        if (!read_input(&inner, &job->inputs[job->count++]))
            return false;
    }
    return mark_repeated(place, job);
}

static bool read_precision(const struct place *place, struct job *job)
{
    static const char *const known[] = {"default", "fp16", "fp32", "fp16-accumulate-fp32"};
    if (!get_text(place, "precision", &job->precision))
        return false;
    for (int i = 0; i < 4; i++)
        if (strcmp(job->precision, known[i]) == 0)
            return job->precision_number = i, true;
    return wrong(place, "precision", "default, fp16, fp32 or fp16-accumulate-fp32 expected");
}

static bool read_limits(const struct place *place, struct job *job)
{
    int64_t memory = 0; /* the harness's to guard; read so that a wrong one is told */
    const struct json *seconds = optional(place, "repeat_seconds");
    if (!get_integer(place, "warmups", 0, FOREVER, &job->warmups) ||
        !get_integer(place, "repeats", 1, FOREVER, &job->repeats) ||
        !get_integer(place, "threads", INT64_MIN, MOST_THREADS, &job->threads) ||
        !get_seconds(place, "repeat_seconds", &job->repeat_seconds) ||
        !get_seconds(place, "timeout_seconds", &job->timeout_seconds))
        return false;
    if (seconds && !(job->repeat_seconds > 0))
        return wrong(place, "repeat_seconds", "more than 0 expected");
    const struct json *timeout = json_member(place->object, "timeout_seconds");
    if (timeout && timeout->kind == JSON_NULL)
        return wrong(place, "timeout_seconds", "a number expected");
    return optional(place, "memory_limit_bytes") == NULL ||
           get_integer(place, "memory_limit_bytes", INT64_MIN, FOREVER, &memory);
}

bool job_read(const char *folder, struct job *job, struct failure *failure)
{
    static const char *const names[] = {
        "model",           "model_sha256", "device", "precision",       "signature",          "inputs",
        "warmups",         "repeats",      "probe",  "repeat_seconds",  "repeat_only",        "threads",
        "timeout_seconds", "memory_limit_bytes",     NULL,
    };
    size_t size;
    char *path = joined(folder, "job.json");
    char *content = read_whole(path, LARGEST_JOB, &size, BAD_JOB, failure);
    free(path);
    if (content == NULL)
        return false;
    struct place place = {.object = json_read(content, size, failure), .failure = failure};
    free(content);
    if (place.object == NULL)
        return false;
    *job = (struct job){.repeats = 1, .threads = 2, .timeout_seconds = 600};
    bool read = open_object(&place, names) && get_text(&place, "model", &job->model) &&
                get_text(&place, "model_sha256", &job->model_sha256) && get_text(&place, "device", &job->device) &&
                read_precision(&place, job) && get_optional_text(&place, "signature", &job->signature) &&
                get_optional_text(&place, "probe", &job->probe) && read_limits(&place, job) &&
                read_inputs(&place, job);
    job->gpu = read && strcmp(job->device, "gpu") == 0;
    return read;
}
