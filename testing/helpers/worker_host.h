/* worker_host.h - a host program of darkroom-worker, for tests: lines in, lines out.
 *
 *     struct host h;
 *     host_begin(&h, "--root", folder);
 *     host_ask_picture(&h, "a", NULL);
 *     json_t *event = host_answer(&h, "a");
 *     assert_int_equal(host_end(&h), 0);
 *
 * The worker is $DARKROOM_WORKER. Whatever goes wrong with the talk itself ends the test.
 */
#ifndef DR_TESTING_HELPERS_WORKER_HOST_H
#define DR_TESTING_HELPERS_WORKER_HOST_H

#include <stdbool.h>
#include <sys/types.h>

#include "testing/helpers/test.h"

#include "base/json.h"
#include "core/communication/lines.h"

struct host {
    pid_t pid;
    int in, out;
    struct line_reader reader;
    json_t *ready;
    json_t *kept; /* answers that nobody has asked for yet */
};

/* Starts one with an option (NULL: none); host_begin also reads the ready line. */
void host_spawn(struct host *h, const char *option, const char *value);
void host_begin(struct host *h, const char *option, const char *value);
/* Closes its input and returns its exit status. */
int host_end(struct host *h);

void host_say(struct host *h, const char *text);
void host_say_json(struct host *h, json_t *message); /* takes it over */
/* A quick picture, and one that takes long; `more` (taken over) goes into data. */
void host_ask_picture(struct host *h, const char *id, json_t *more);
void host_ask_long(struct host *h, const char *id);

/* The next line, which must be JSON; NULL at the end. */
json_t *host_hear(struct host *h);
/* The answer to `id`. Answers to others that come before it are kept, progress is dropped. */
json_t *host_answer(struct host *h, const char *id);
/* The answer to `id` is a failure of that code; path: of its first detail, NULL: any. */
void host_must_fail(struct host *h, const char *id, const char *code, const char *path);
void host_must_be_healthy(struct host *h);

/* A text of an object, "" when it has none of that name. */
const char *host_text(const json_t *o, const char *key);
bool host_is_progress(const json_t *event);

#endif
