/* worker_host.c - see worker_host.h. */
#include "testing/helpers/worker_host.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "testing/helpers/program.h"

extern char **environ;

enum { WAIT_MS = 60000 };

void host_spawn(struct host *h, const char *option, const char *value)
{
    const char *program = getenv("DARKROOM_WORKER");
    const char *argv[] = { program, option, value, NULL };
    int to[2], from[2];
    posix_spawn_file_actions_t files;
    assert_non_null(program);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, to[0], 0);
    posix_spawn_file_actions_adddup2(&files, from[1], 1);
    assert_int_equal(posix_spawn(&h->pid, program, &files, NULL, (char *const *)argv, environ), 0);
    posix_spawn_file_actions_destroy(&files);
    close(to[0]);
    close(from[1]);
    h->in = to[1];
    h->out = from[0];
    line_reader_init(&h->reader, h->out, 256 << 20);
}

json_t *host_hear(struct host *h)
{
    static const struct jx_limits limits = { .bytes = 256 << 20 };
    const char *line;
    size_t n;
    json_t *event;
    struct dr_error err = { 0 };
    int r = line_read(&h->reader, WAIT_MS, &line, &n, &err);
    if (r < 0)
        fail_msg("%s", err.text);
    if (!r)
        return NULL;
    if (jx_parse(line, n, &limits, "stdout", &event, &err))
        fail_msg("%s: %.200s", err.text, line);
    return event;
}

void host_begin(struct host *h, const char *option, const char *value)
{
    host_spawn(h, option, value);
    h->ready = host_hear(h);
    h->kept = json_array();
    assert_non_null(h->ready);
}

void host_say(struct host *h, const char *text)
{
    size_t n = strlen(text);
    while (n) {
        ssize_t k = write(h->in, text, n);
        assert_true(k > 0);
        text += k;
        n -= (size_t)k;
    }
}

void host_say_json(struct host *h, json_t *message)
{
    char *text = json_dumps(message, JSON_COMPACT);
    assert_non_null(text);
    host_say(h, text);
    host_say(h, "\n");
    dr_free(text);
    json_decref(message);
}

void host_ask_picture(struct host *h, const char *id, json_t *more)
{
    json_t *data = json_pack("{s:s,s:s,s:i,s:i,s:i,s:i}", "model", program_model(), "prompt", "x",
                             "width", 64, "height", 48, "steps", 2, "seed", 1);
    if (more)
        json_object_update(data, more);
    json_decref(more);
    host_say_json(h,
                  json_pack("{s:s,s:s,s:o}", "type", "generate", "request_id", id, "data", data));
}

void host_ask_long(struct host *h, const char *id)
{
    host_ask_picture(
        h, id,
        json_pack("{s:i,s:i,s:i,s:b}", "width", 512, "height", 512, "steps", 500, "stream", 1));
}

const char *host_text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

bool host_is_progress(const json_t *event)
{
    return !strcmp(host_text(json_object_get(event, "data"), "type"), "progress");
}

json_t *host_answer(struct host *h, const char *id)
{
    for (size_t i = 0; i < json_array_size(h->kept); i++) {
        json_t *event = json_array_get(h->kept, i);
        if (!strcmp(host_text(event, "request_id"), id)) {
            json_incref(event);
            json_array_remove(h->kept, i);
            return event;
        }
    }
    for (;;) {
        json_t *event = host_hear(h);
        if (!event)
            fail_msg("no answer to %s", id);
        bool progress = host_is_progress(event);
        if (!progress && !strcmp(host_text(event, "request_id"), id))
            return event;
        if (progress)
            json_decref(event);
        else
            json_array_append_new(h->kept, event);
    }
}

void host_must_fail(struct host *h, const char *id, const char *code, const char *path)
{
    json_t *event = host_answer(h, id);
    const json_t *detail = json_array_get(json_object_get(event, "details"), 0);
    if (!json_is_false(json_object_get(event, "success")) ||
        strcmp(host_text(event, "error_code"), code) ||
        (path && strcmp(host_text(detail, "path"), path)))
        fail_msg("%s: %s %s: %s", id, host_text(event, "error_code"), host_text(detail, "path"),
                 host_text(event, "error"));
    json_decref(event);
}

void host_must_be_healthy(struct host *h)
{
    host_say(h, "{\"type\":\"health\",\"request_id\":\"health\"}\n");
    json_t *event = host_answer(h, "health");
    assert_string_equal(host_text(json_object_get(event, "data"), "status"), "healthy");
    json_decref(event);
}

int host_end(struct host *h)
{
    int status = -1;
    json_t *event;
    if (h->in >= 0)
        close(h->in);
    while ((event = host_hear(h)))
        json_decref(event);
    assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
    line_reader_free(&h->reader);
    close(h->out);
    json_decref(h->ready);
    json_decref(h->kept);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
