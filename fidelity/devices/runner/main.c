/* fidelity-runner: runs one job folder on the machine it is on, as fidelity/devices/job.py's contract
 * says, and nothing else. It is what runs on an Android device; it obeys the same contract as the local
 * worker (fidelity/devices/worker.py). It needs no library but libLiteRt.so, opened when it runs. */

#define _XOPEN_SOURCE 700

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compile.h"
#include "files.h"
#include "job.h"
#include "model_file.h"
#include "probe.h"
#include "result.h"
#include "run.h"
#include "system.h"

#ifndef RUNNER_VERSION
#define RUNNER_VERSION "unversioned"
#endif

static const char HELP[] =
    "usage: fidelity-runner JOB_FOLDER [--runtime FOLDER] [--thermal FOLDER]\n"
    "       fidelity-runner --help | --version\n"
    "\n"
    "Runs JOB_FOLDER/job.json and writes result.json, outputs/ and log.txt there.\n"
    "  --runtime FOLDER  has libLiteRt.so and accelerators (default: the folder of this program)\n"
    "  --thermal FOLDER  thermal zones (default: /sys/class/thermal)\n"
    "\n"
    "Exit codes, and the result's status:\n"
    "  0  ok\n"
    "  2  usage, or job.json is not a job: no result.json, the reason is in log.txt and on stderr\n"
    "  3  no_device: no runtime library, or no device of the kind asked for\n"
    "  4  bad_model\n"
    "  5  bad_input\n"
    "  6  refused: the runtime compiles nothing\n"
    "  7  run_failed, or timeout\n"
    "  8  transfer_failed: outputs, log or result cannot be written\n"
    "There is no result.json when the runtime ends the process itself, as it does for some broken models,\n"
    "or when memory runs out (then with code 7).\n";

struct arguments {
    const char *job, *runtime, *thermal;
};

static bool read_arguments(int count, char **given, struct arguments *arguments)
{
    *arguments = (struct arguments){.thermal = "/sys/class/thermal"};
    for (int i = 1; i < count; i++) {
        bool runtime = strcmp(given[i], "--runtime") == 0;
        if (runtime || strcmp(given[i], "--thermal") == 0) {
            if (++i == count)
                return false;
            *(runtime ? &arguments->runtime : &arguments->thermal) = given[i];
        } else if (given[i][0] == '-' || arguments->job) {
            return false;
        } else {
            arguments->job = given[i];
        }
    }
    return arguments->job != NULL;
}

/* The folder of this program, where a device has the runtime too. */
static const char *own_folder(void)
{
    static char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    char *slash = length > 0 ? strrchr(path, '/') : NULL;
    if (slash == NULL)
        return ".";
    *slash = 0;
    return path;
}

/* All that native libraries print goes to log.txt, line by line: what a crash leaves unwritten is lost.
 * `told` is the stderr that this program was given, for its own last word, or -1 if it is that log. */
static bool send_output_to_log(const char *folder, int *told, struct failure *failure)
{
    struct stat log, given;
    char *path = joined(folder, "log.txt");
    int descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
    if (descriptor < 0 || fstat(descriptor, &log) != 0 || !S_ISREG(log.st_mode))
        return fail(failure, NOT_WRITTEN, "%.300s: cannot be written: %s", path,
                    descriptor < 0 ? strerror(errno) : "not a regular file");
    free(path);
    bool same = fstat(STDERR_FILENO, &given) == 0 && given.st_dev == log.st_dev && given.st_ino == log.st_ino;
    *told = same ? -1 : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    fcntl(descriptor, F_SETFL, O_APPEND); /* O_NONBLOCK was for opening only */
    if (dup2(descriptor, STDOUT_FILENO) < 0 || dup2(descriptor, STDERR_FILENO) < 0)
        return fail(failure, NOT_WRITTEN, "log.txt: stdout cannot be sent there: %s", strerror(errno));
    setvbuf(stdout, NULL, _IOLBF, 0);
    close(descriptor);
    return true;
}

/* Everything from the job to its answers. Steps that fail note why, and the rest is left out. */
static void execute(const char *folder, const struct arguments *arguments, struct result *result,
                    struct runtime *runtime, struct compiled *compiled, struct answers *answers,
                    struct failure *failure)
{
    const struct job *job = result->job;
    struct buffers buffers;
    double deadline = seconds_now() + job->timeout_seconds;
    if (!job->gpu && strcmp(job->device, "cpu") != 0) {
        fail(failure, NO_DEVICE, "device '%.100s': this runner has cpu and gpu", job->device);
        return;
    }
    char *path = path_inside(folder, job->model, BAD_MODEL, failure);
    if (path == NULL || !check_model_file(path, job->model, job->model_sha256, failure) ||
        !start_runtime(result->runtime_folder, job->gpu, runtime, failure) ||
        !compile_model(runtime, job, path, compiled, failure) ||
        !open_signature(runtime, job->signature, compiled, failure) || !check_inputs(folder, job, compiled, failure))
        return;
    result->before = read_zones(arguments->thermal);
    if (create_buffers(runtime, compiled, deadline, &buffers, failure))
        run_job(folder, job, &buffers, answers, failure);
    result->after = read_zones(arguments->thermal);
    result->fully_known = job->gpu;
    result->fully_accelerated = job->gpu && fully_accelerated(runtime, compiled);
    if (!job->gpu)
        result->precision_had = "fp32";
    else if (job->probe)
        result->precision_had = probe_precision(runtime, folder, job, deadline);
}

/* The program's last word. Nothing is torn down: a driver that crashes when it is unloaded must not
 * change how a job ended whose result is written. */
static _Noreturn void end(const struct failure *failure, int told)
{
    fflush(NULL);
    if (failure->stage != DONE) {
        fprintf(stderr, "fidelity-runner: %s\n", failure->text);
        if (told >= 0)
            dprintf(told, "fidelity-runner: %s\n", failure->text);
    }
    fflush(NULL);
    _exit((int)failure->stage);
}

int main(int count, char **given)
{
    struct arguments arguments;
    struct job job = {0};
    struct runtime runtime = {0};
    struct compiled compiled = {0};
    struct answers answers = {0};
    struct failure failure = {0}, unwritten = {0};
    int told = -1;
    if (count == 2 && (strcmp(given[1], "--help") == 0 || strcmp(given[1], "--version") == 0)) {
        fputs(given[1][2] == 'h' ? HELP : RUNNER_VERSION "\n", stdout);
        return fflush(stdout) == 0 ? DONE : NOT_WRITTEN;
    }
    if (!read_arguments(count, given, &arguments)) {
        fputs(HELP, stderr);
        return BAD_JOB;
    }
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is a write that fails, like a full disk */
    char *old = joined(arguments.job, "result.json"); /* never to be taken for this run's */
    if (access(arguments.job, R_OK | X_OK) != 0) {
        fail(&failure, BAD_JOB, "%.300s: not a folder that can be read: %s", arguments.job, strerror(errno));
        end(&failure, told);
    }
    unlink(old);
    free(old);
    if (!send_output_to_log(arguments.job, &told, &failure) || !job_read(arguments.job, &job, &failure))
        end(&failure, told);
    struct result result = {
        .job = &job,
        .failure = &failure,
        .version = RUNNER_VERSION,
        .runtime_folder = arguments.runtime ? arguments.runtime : own_folder(),
        .runtime = &runtime,
        .compiled = &compiled,
        .answers = &answers,
        .precision_had = "unknown",
    };
    execute(arguments.job, &arguments, &result, &runtime, &compiled, &answers, &failure);
    if (!write_result(arguments.job, &result, &unwritten))
        end(&unwritten, told);
    end(&failure, told);
}
