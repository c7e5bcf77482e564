/* Warm-ups, runs and kept outputs; see run.h. */

#define _XOPEN_SOURCE 700

#include "run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "files.h"
#include "system.h"
#include "text.h"

static void add_time(struct times *times, double seconds)
{
    if (times->count == times->room) {
        size_t room = times->room ? 2 * times->room : 16;
        double *more = need(room, sizeof *more);
        if (times->count)
            memcpy(more, times->seconds, times->count * sizeof *more);
        free(times->seconds);
        times->seconds = more;
        times->room = room;
    }
    times->seconds[times->count++] = seconds;
}

static const struct tensor_file *file_for(const struct job_input *input, const char *name)
{
    for (size_t i = 0; i < input->count; i++)
        if (strcmp(input->tensors[i].name, name) == 0)
            return &input->tensors[i];
    return NULL;
}

static void free_inputs(void **contents, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(contents[i]);
    free(contents);
}

/* The contents of one input's files in the signature's order; NULL with a failure. */
static void **load(const char *folder, const struct job_input *input, const struct compiled *compiled,
                   struct failure *failure)
{
    void **contents = need(compiled->inputs, sizeof *contents);
    bool good = input->count == compiled->inputs ||
                fail(failure, BAD_INPUT, "input set '%.100s': %zu inputs given, the signature %.100s takes %zu",
                     input->name, input->count, compiled->key, compiled->inputs);
    for (size_t i = 0; i < compiled->inputs && good; i++) {
        const struct port *port = &compiled->input[i];
        const struct tensor_file *file = file_for(input, port->name);
        if (file == NULL)
            good = fail(failure, BAD_INPUT, "input set '%.100s': '%.100s' is missing, which the signature %.100s takes",
                        input->name, port->name, compiled->key);
        else
            good = (contents[i] = read_tensor(folder, file, port, failure)) != NULL;
    }
    if (good)
        return contents;
    free_inputs(contents, compiled->inputs);
    return NULL;
}

bool check_inputs(const char *folder, const struct job *job, const struct compiled *compiled, struct failure *failure)
{
    for (size_t i = 0; i < job->count; i++) {
        void **contents = load(folder, &job->inputs[i], compiled, failure);
        if (contents == NULL)
            return false;
        free_inputs(contents, compiled->inputs);
    }
    return true;
}

static bool in_time(const struct buffers *buffers, struct failure *failure)
{
    if (seconds_now() <= buffers->deadline)
        return true;
    failure->timed_out = failure->stage == DONE;
    return fail(failure, RUN_FAILED, "the job passed its limit of timeout_seconds between two runs");
}

/* Stores the outputs of the run that was just made. */
static bool keep(const char *folder, const char *name, struct buffers *buffers, struct answer *answer,
                 struct failure *failure)
{
    const struct compiled *compiled = buffers->compiled;
    struct output *outputs = need(compiled->outputs, sizeof *outputs);
    for (size_t i = 0; i < compiled->outputs; i++) {
        const struct port *port = &compiled->output[i];
        char safe[SAFE_NAME], *both = joined(name, port->name);
        size_t room = sizeof "outputs/.raw" + SAFE_NAME;
        safe_name(both, safe);
        free(both);
        outputs[i].file = need(room, 1);
        snprintf(outputs[i].file, room, "outputs/%s.raw", safe);
        sha256_hex(buffers->content[i], port->bytes, outputs[i].sha256);
        if (!write_whole(folder, outputs[i].file, buffers->content[i], port->bytes, failure))
            return false;
    }
    answer->outputs = outputs;
    return true;
}

/* The kept outputs, in memory, for the comparison of later runs with them. */
static void **copies(const struct buffers *buffers)
{
    const struct compiled *compiled = buffers->compiled;
    void **kept = need(compiled->outputs, sizeof *kept);
    for (size_t i = 0; i < compiled->outputs; i++) {
        kept[i] = need(compiled->output[i].bytes, 1);
        memcpy(kept[i], buffers->content[i], compiled->output[i].bytes);
    }
    return kept;
}

static bool equal(const struct buffers *buffers, void *const *kept)
{
    for (size_t i = 0; i < buffers->compiled->outputs; i++)
        if (memcmp(kept[i], buffers->content[i], buffers->compiled->output[i].bytes) != 0)
            return false;
    return true;
}

/* The first run was made and kept; as many more as the job says. */
static bool repeat(const struct job *job, struct buffers *buffers, void *const *contents, struct answer *answer,
                   struct failure *failure)
{
    void **kept = copies(buffers);
    double total = answer->run.seconds[0], seconds, enqueue;
    bool good = true;
    for (int64_t done = 1; done < job->repeats && good; done++) {
        if (done >= 2 && job->repeat_seconds > 0 && total >= job->repeat_seconds)
            break;
        good = in_time(buffers, failure) && run_once(buffers, contents, &seconds, &enqueue, failure);
        if (good) {
            add_time(&answer->run, seconds);
            add_time(&answer->enqueue, enqueue);
            total += seconds;
            answer->same = answer->same && equal(buffers, kept);
        }
    }
    free_inputs(kept, buffers->compiled->outputs);
    return good;
}

static bool run_input(const char *folder, const struct job *job, size_t index, struct buffers *buffers,
                      struct answers *answers, struct failure *failure)
{
    const struct job_input *input = &job->inputs[index];
    struct answer *answer = &answers->answer[index];
    double seconds, enqueue;
    void **contents = load(folder, input, buffers->compiled, failure); /* read anew: one input is held at a time */
    if (contents == NULL)
        return false;
    bool good = true;
    for (int64_t i = 0; index == 0 && i < job->warmups && good; i++) {
        good = in_time(buffers, failure) && run_once(buffers, contents, &seconds, &enqueue, failure);
        if (good)
            add_time(&answers->warmup, seconds);
    }
    good = good && in_time(buffers, failure) && run_once(buffers, contents, &seconds, &enqueue, failure);
    if (good) {
        answer->same = true;
        add_time(&answer->run, seconds);
        add_time(&answer->enqueue, enqueue);
        good = keep(folder, input->name, buffers, answer, failure);
    }
    if (good && input->repeated)
        good = repeat(job, buffers, contents, answer, failure);
    free_inputs(contents, buffers->compiled->inputs);
    answers->count += good;
    return good;
}

/* A real folder of ours: outputs are not written through a link that somebody left there. */
static bool make_outputs_folder(const char *folder, struct failure *failure)
{
    struct stat status;
    char *path = joined(folder, "outputs");
    bool made = mkdir(path, 0755) == 0 || errno == EEXIST;
    made = made && lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
    if (!made)
        fail(failure, NOT_WRITTEN, "%.300s: cannot be made a folder", path);
    free(path);
    return made;
}

bool run_job(const char *folder, const struct job *job, struct buffers *buffers, struct answers *answers,
             struct failure *failure)
{
    answers->answer = need(job->count, sizeof *answers->answer);
    if (!make_outputs_folder(folder, failure))
        return false;
    for (size_t i = 0; i < job->count; i++)
        if (!run_input(folder, job, i, buffers, answers, failure))
            return false;
    return true;
}
