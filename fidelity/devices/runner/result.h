/* result.json: fidelity.devices.job.JobResult, written last and whole. */

#ifndef FIDELITY_RESULT_H
#define FIDELITY_RESULT_H

#include "compile.h"
#include "run.h"
#include "system.h"

struct result {
    const struct job *job;
    const struct failure *failure;
    const char *version, *runtime_folder;
    const struct runtime *runtime;
    const struct compiled *compiled; /* what it describes is told only when something was run */
    const struct answers *answers;
    const char *precision_had;
    bool fully_known, fully_accelerated;
    struct zones before, after;
};

bool write_result(const char *folder, const struct result *result, struct failure *failure);

#endif
