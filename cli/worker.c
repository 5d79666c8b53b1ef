/* worker.c - `darkroom worker`: runs darkroom-worker in its place. */
#include "cli/cli.h"

#include <signal.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "coordination/supervisor/worker_process.h"

static int worker(struct cli_call *call, struct dr_error *err)
{
    char program[DR_PATH_MAX];
    int r = worker_program(program, sizeof program, err);
    if (r < 0)
        return r;
    char **argv = dr_calloc(DR_TAG_BASE, (size_t)call->raw_count + 2, sizeof *argv);
    if (!argv)
        return dr_fail(err, DR_ENOMEM, "out of memory");
    argv[0] = program;
    for (int i = 0; i < call->raw_count; i++)
        argv[i + 1] = call->raw[i];
    signal(SIGPIPE, SIG_DFL);
    execv(program, argv);
    r = dr_fail_errno(err, program, "start");
    dr_free(argv);
    return r;
}

const struct cli_verb cli_worker = {
    .name = "worker",
    .synopsis = "[OPTION]...",
    .summary = "run darkroom-worker (JSON lines on stdin and stdout)",
    .notes = "Arguments are those of darkroom-worker (see darkroom-worker --help).\n",
    .raw = true,
    .run = worker,
};
