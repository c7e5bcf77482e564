/* From what was measured to result.json; see result.h. `adapter` and `residency` are left to the
 * harness, which reads them from the log. */

#define _XOPEN_SOURCE 700

#include "result.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "files.h"
#include "json_write.h"
#include "text.h"

static void write_output(struct json_text *json, const struct port *port, const struct output *output)
{
    open_bracket(json, port->name, '{');
    write_text(json, "file", output->file);
    write_text(json, "dtype", port->dtype);
    open_bracket(json, "shape", '[');
    for (size_t i = 0; i < port->type.layout.rank; i++)
        write_integer(json, NULL, port->type.layout.dimensions[i]);
    close_bracket(json, ']');
    write_text(json, "sha256", output->sha256);
    close_bracket(json, '}');
}

static void write_answers(struct json_text *json, const struct result *result)
{
    open_bracket(json, "outputs", '[');
    for (size_t i = 0; i < result->answers->count; i++) {
        const struct answer *answer = &result->answers->answer[i];
        open_bracket(json, NULL, '{');
        write_text(json, "input", result->job->inputs[i].name);
        open_bracket(json, "tensors", '{');
        for (size_t j = 0; j < result->compiled->outputs; j++)
            write_output(json, &result->compiled->output[j], &answer->outputs[j]);
        close_bracket(json, '}');
        write_numbers(json, "seconds", answer->run.seconds, answer->run.count);
        write_numbers(json, "enqueue_seconds", answer->enqueue.seconds, answer->enqueue.count);
        write_word(json, "deterministic", answer->run.count < 2 ? "null" : answer->same ? "true" : "false");
        close_bracket(json, '}');
    }
    close_bracket(json, ']');
}

static int by_size(const void *one, const void *other)
{
    const double *a = one, *b = other;
    return (*a > *b) - (*a < *b);
}

/* The median of all kept runs but the very first run of the job, which is the one that compiles shaders. */
static bool steady_seconds(const struct answers *answers, double *steady)
{
    size_t total = 0, count = 0;
    for (size_t i = 0; i < answers->count; i++)
        total += answers->answer[i].run.count;
    double *all = need(total, sizeof *all);
    for (size_t i = 0; i < answers->count; i++)
        for (size_t j = 0; j < answers->answer[i].run.count; j++)
            if (answers->warmup.count || i || j)
                all[count++] = answers->answer[i].run.seconds[j];
    qsort(all, count, sizeof *all, by_size);
    if (count)
        *steady = (all[(count - 1) / 2] + all[count / 2]) / 2;
    free(all);
    return count > 0;
}

static void write_timing(struct json_text *json, const struct result *result)
{
    const struct answers *answers = result->answers;
    double steady;
    if (answers->count == 0) {
        write_word(json, "timing", "null");
        return;
    }
    open_bracket(json, "timing", '{');
    write_number(json, "compile", result->compiled->seconds);
    write_number(json, "first", answers->warmup.count ? answers->warmup.seconds[0] : answers->answer[0].run.seconds[0]);
    if (steady_seconds(answers, &steady))
        write_number(json, "steady", steady);
    else
        write_word(json, "steady", "null");
    write_numbers(json, "warmup", answers->warmup.seconds, answers->warmup.count);
    close_bracket(json, '}');
}

static void write_zones(struct json_text *json, const char *key, const struct zones *zones)
{
    open_bracket(json, key, '{');
    for (size_t i = 0; i < zones->count; i++)
        write_number(json, zones->zone[i].name, zones->zone[i].celsius);
    close_bracket(json, '}');
}

static void write_thermal(struct json_text *json, const struct result *result)
{
    if (result->before.count == 0 && result->after.count == 0) {
        write_word(json, "thermal", "null");
        return;
    }
    open_bracket(json, "thermal", '{');
    write_zones(json, "before", &result->before);
    write_zones(json, "after", &result->after);
    close_bracket(json, '}');
}

static void write_digest(struct json_text *json, const char *folder, const char *file)
{
    char digest[SHA256_HEX], *path = joined(folder, file);
    sha256_file(path, digest);
    write_text(json, file, *digest ? digest : "missing");
    free(path);
}

static int is_accelerator(const struct dirent *entry)
{
    static const char start[] = "libLiteRt", end[] = "Accelerator.so";
    size_t length = strlen(entry->d_name);
    return length >= sizeof start + sizeof end - 2 && is_utf8(entry->d_name) &&
           strncmp(entry->d_name, start, sizeof start - 1) == 0 &&
           strcmp(entry->d_name + length - (sizeof end - 1), end) == 0;
}

/* Which runner, libraries and machine: a runtime has no version of its own to ask, its hash is what it is known by. */
static void write_runtime(struct json_text *json, const struct result *result)
{
    struct dirent **found = NULL;
    struct utsname machine;
    char names[512] = "";
    int count = scandir(result->runtime_folder, &found, is_accelerator, alphasort);
    open_bracket(json, "runtime", '{');
    write_text(json, "runner", result->version);
    write_digest(json, result->runtime_folder, "libLiteRt.so");
    for (int i = 0; i < count; i++) {
        write_digest(json, result->runtime_folder, found[i]->d_name);
        if (strlen(names) + strlen(found[i]->d_name) + 3 < sizeof names)
            strcat(strcat(names, *names ? ", " : ""), found[i]->d_name);
        free(found[i]);
    }
    free(found);
    write_text(json, "accelerator", *names ? names : "none");
    write_text(json, "registered", *result->runtime->accelerators ? result->runtime->accelerators : "none");
    if (uname(&machine) == 0) {
        make_printable(machine.machine);
        write_text(json, "machine", machine.machine);
    }
    close_bracket(json, '}');
}

bool write_result(const char *folder, const struct result *result, struct failure *failure)
{
    struct json_text json = {0};
    int64_t peak = peak_memory();
    open_bracket(&json, NULL, '{');
    write_text(&json, "status", status_of(result->failure));
    write_text(&json, "error", result->failure->stage == DONE ? NULL : result->failure->text);
    write_text(&json, "device", result->job->device);
    write_text(&json, "precision_asked", result->job->precision);
    write_text(&json, "precision_had", result->precision_had);
    write_word(&json, "adapter", "null");
    write_word(&json, "fully_accelerated",
               !result->fully_known ? "null" : result->fully_accelerated ? "true" : "false");
    write_word(&json, "residency", "null");
    write_answers(&json, result);
    write_timing(&json, result);
    write_thermal(&json, result);
    if (peak)
        write_integer(&json, "peak_memory_bytes", peak);
    else
        write_word(&json, "peak_memory_bytes", "null");
    write_runtime(&json, result);
    write_text(&json, "model_sha256", result->job->model_sha256);
    close_bracket(&json, '}');
    bool written = write_whole(folder, "result.json", json.text, json.length, failure);
    free(json.text);
    return written;
}
