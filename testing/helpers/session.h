/* session.h - a test that talks to an engine, in this process or in a worker of its own.
 *
 *     struct session s;
 *     session_open(&s, "{\"threads\": 2}");
 *     json_t *data = session_must(&s, "generate", json_pack("{s:s}", "prompt", "a circle"));
 *     ...                                     borrowed until the next message
 *     session_close(&s);
 *
 * For tests of the whole engine (testing/fidelity). Whatever goes wrong with the talk itself ends
 * the test.
 */
#ifndef DR_TESTING_HELPERS_SESSION_H
#define DR_TESTING_HELPERS_SESSION_H

#include <jansson.h>

#include "testing/helpers/test.h"

#include "coordination/supervisor/worker_process.h"
#include "include/darkroom.h"

struct session {
    struct darkroom *engine; /* in this process, or */
    struct worker_process worker;
    json_t *answer;  /* the last one */
    int answers;     /* since the last message was sent */
    double answered; /* when, by dr_now */
};

/* Options of darkroom_open; "roots" is set to the test's folder and the golden vectors. */
void session_open(struct session *s, const char *options);
/* A new process of $DARKROOM_WORKER; threads and kernels as text, NULL: its own choice. */
void session_start(struct session *s, const char *threads, const char *kernels);
void session_close(struct session *s);

/* Sends a message (takes data over), waits for its answer and returns it whole, borrowed. */
json_t *session_ask(struct session *s, const char *type, json_t *data);
/* The same for one that must succeed: the answer's data. */
json_t *session_must(struct session *s, const char *type, json_t *data);
/* Sends without waiting, to an engine in this process; wait with darkroom_drain. */
void session_send(struct session *s, const char *type, const char *id, json_t *data);

/* A number of an answer, dots reaching into objects; the test fails without it. */
double session_number(const json_t *data, const char *path);

/* Names of kernel sets that this machine runs, but for those of models with 8-bit weights;
 * NULL-terminated. */
const char *const *session_kernels(struct session *s);

/* The request of one of testing/golden/SET/cases.json as a new object, with the set's model and a
 * folder for its stages (below the test's folder, made empty). */
json_t *session_case(const char *set, const char *name, const char *stages);
/* Whether a model folder is there whole: "odd" always, "tiny" once it is trained. */
bool session_has(const char *set);

/* Every .npy of one folder of stages has the bytes of the other's; both hold the same names, at
 * least `least` of them. */
void session_same(const char *a, const char *b, int least);
/* Picture `index` of a folder's batch equals the one picture of another's, in every stage that has
 * a batch. */
void session_same_picture(const char *batch, int index, const char *alone);

#endif
