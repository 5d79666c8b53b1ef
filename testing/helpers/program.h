/* program.h - the built programs, run by tests.
 *
 *     struct program p;
 *     program_run(&p, 0, "generate", "-p", "a red circle", NULL);
 *     assert_int_equal(p.status, 0);
 *     ... program_out(&p), program_err(&p) ...
 *     program_free(&p);
 *
 * The program is $DARKROOM_BIN. It runs in the test's own folder; nothing is read from the
 * terminal.
 */
#ifndef DR_TESTING_HELPERS_PROGRAM_H
#define DR_TESTING_HELPERS_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "testing/helpers/test.h"

#include "base/buf.h"
#include "base/json.h"

enum { PROGRAM_SECONDS = 120 };

struct program {
    pid_t pid;
    int status;          /* exit status; 128 + signal when one ended it */
    struct buf out, err; /* after the end */
    char out_path[128], err_path[128];
};

/* Starts it; the arguments end with NULL. */
void program_start(struct program *p, const char *const *argv);
/* Waits for its end (a test fails after PROGRAM_SECONDS) and reads what it wrote. */
void program_finish(struct program *p);
void program_free(struct program *p);

/* Both, with up to 40 arguments. A status other than `expected` fails the test and shows what was
 * said; -1: any. */
void program_run(struct program *p, int expected, ...);

const char *program_out(const struct program *p);
const char *program_err(const struct program *p);

/* Its stdout, which is one line of JSON; a new reference. */
json_t *program_json(const struct program *p);

/* Programs read that file as their stdin from now on; NULL: nothing. */
void program_input(const char *path);

/* Changes into a fresh empty folder of the test and returns its path. */
const char *program_folder(void);

/* Programs read their configuration below that folder from now on; NULL: where they did first. */
void program_configure(const char *folder);

/* Entries of a folder, without . and .. */
int program_entries(const char *folder);

/* The random-weight model of the golden vectors. */
const char *program_model(void);

/* Orphans of programs become children of the test (call it first); whether none is left, soon. */
void program_adopt(void);
bool program_alone(void);

/* What a worker says first. */
#define PROGRAM_READY "echo '{\"success\":true,\"status\":\"ready\",\"protocol\":1}'\n"
/* Nothing that a program sends it ends it. */
#define PROGRAM_DEAF "trap '' INT TERM HUP PIPE\n"

/* A shell script is the worker of programs that start from now on. */
void program_worker(const char *script);

/* Arguments of a run that takes minutes, with more (NULL-terminated; NULL: none). Static. */
const char *const *program_long_job(const char *const *more);

/* Seconds that a signal may take on a machine that does other things as well. Two are promised;
 * where a worker is not ended by force it takes 15. */
enum { PROGRAM_SOON = 12 };

/* Sends a signal. The program must end soon, as one that was interrupted does: status 130, nothing
 * left in the folder, no worker. */
void program_interrupt(struct program *p, int signal, const char *folder);

#endif
