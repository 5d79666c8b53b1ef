/* session.c - see session.h. */
#include "testing/helpers/session.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/npy.h"
#include "testing/helpers/base_files.h"

enum { PATH_BYTES = 1200, ANSWER_MS = 280000 };

/* ---- talking ---- */

static void on_event(void *user, const char *json)
{
    struct session *s = user;
    struct dr_error err;
    json_t *event;
    assert_int_equal(jx_parse(json, strlen(json), NULL, "event", &event, &err), 0);
    const char *type = json_string_value(json_object_get(event, "type"));
    if (!json_object_get(event, "request_id") || (type && !strcmp(type, "progress"))) {
        json_decref(event); /* the ready line */
        return;
    }
    json_decref(s->answer);
    s->answer = event;
    s->answers++;
    s->answered = dr_now();
}

void session_open(struct session *s, const char *options)
{
    char error[512];
    jx_init();
    memset(s, 0, sizeof *s);
    s->worker.in = s->worker.out = -1;
    json_t *o = json_loads(options, 0, NULL);
    assert_non_null(o);
    json_object_set_new(o, "roots", json_pack("[s,s]", test_dir(), test_source("testing/golden")));
    char *text = json_dumps(o, JSON_COMPACT);
    if (darkroom_open(text, on_event, s, &s->engine, error, sizeof error) < 0)
        fail_msg("%s", error);
    dr_free(text);
    json_decref(o);
}

void session_start(struct session *s, const char *threads, const char *kernels)
{
    struct dr_error err;
    jx_init();
    memset(s, 0, sizeof *s);
    const char *roots[] = { test_dir(), test_source("testing/golden") };
    struct worker_options options = {
        .roots = roots, .n_roots = 2, .threads = threads, .kernels = kernels
    };
    if (worker_start(&s->worker, &options, NULL, &err) < 0)
        fail_msg("%s", err.text);
}

void session_close(struct session *s)
{
    if (s->engine)
        darkroom_close(s->engine);
    else
        worker_stop(&s->worker);
    json_decref(s->answer);
    memset(s, 0, sizeof *s);
}

static json_t *message(const char *type, const char *id, json_t *data)
{
    json_t *m = json_pack("{s:s,s:s,s:o}", "type", type, "request_id", id, "data",
                          data ? data : json_object());
    assert_non_null(m);
    return m;
}

void session_send(struct session *s, const char *type, const char *id, json_t *data)
{
    json_t *m = message(type, id, data);
    char *text = json_dumps(m, JSON_COMPACT);
    s->answers = 0;
    darkroom_submit(s->engine, text);
    dr_free(text);
    json_decref(m);
}

json_t *session_ask(struct session *s, const char *type, json_t *data)
{
    static unsigned count;
    char id[32];
    snprintf(id, sizeof id, "ask-%u", ++count);
    if (s->engine) {
        session_send(s, type, id, data);
        darkroom_drain(s->engine);
        assert_int_equal(s->answers, 1);
        return s->answer;
    }
    struct dr_error err;
    if (worker_send(&s->worker, message(type, id, data), &err) < 0)
        fail_msg("%s", err.text);
    json_decref(s->answer);
    s->answer = NULL;
    if (worker_receive(&s->worker, ANSWER_MS, &s->answer, &err) < 0)
        fail_msg("%s", err.text);
    return s->answer;
}

json_t *session_must(struct session *s, const char *type, json_t *data)
{
    json_t *answer = session_ask(s, type, data);
    if (!json_is_true(json_object_get(answer, "success")))
        fail_msg("%s: %s", type, json_string_value(json_object_get(answer, "error")));
    return json_object_get(answer, "data");
}

double session_number(const json_t *data, const char *path)
{
    char part[64];
    const json_t *at = data;
    for (const char *p = path; at;) {
        size_t n = strcspn(p, ".");
        snprintf(part, sizeof part, "%.*s", (int)n, p);
        at = json_object_get(at, part);
        if (!p[n])
            break;
        p += n + 1;
    }
    if (!json_is_number(at))
        fail_msg("no number '%s' in the answer", path);
    return json_number_value(at);
}

const char *const *session_kernels(struct session *s)
{
    static char names[8][32];
    static const char *list[9];
    size_t i, n = 0;
    json_t *entry;
    const json_t *sets = json_object_get(
        json_array_get(json_object_get(session_must(s, "devices", NULL), "devices"), 0),
        "kernel_sets");
    assert_true(json_array_size(sets) > 0);
    json_array_foreach(sets, i, entry)
    {
        const char *precision = json_string_value(json_object_get(entry, "precision"));
        if (!json_is_true(json_object_get(entry, "usable")) || !strcmp(precision, "int8") || n == 8)
            continue;
        snprintf(names[n], sizeof names[n], "%s",
                 json_string_value(json_object_get(entry, "name")));
        list[n] = names[n];
        n++;
    }
    list[n] = NULL;
    return list;
}

/* ---- cases ---- */

static void model_of(const char *set, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s",
             test_source(strcmp(set, "tiny") ? "testing/golden/odd/model" : "share/models/tiny"));
}

bool session_has(const char *set)
{
    char model[PATH_BYTES], index[PATH_BYTES];
    model_of(set, model);
    return !dr_path_join(index, sizeof index, model, "model_index.json") && dr_is_file(index);
}

json_t *session_case(const char *set, const char *name, const char *stages)
{
    char path[PATH_BYTES];
    struct dr_error err;
    json_t *cases, *entry, *found = NULL;
    size_t i;
    snprintf(path, sizeof path, "%s/testing/golden/%s/cases.json", test_source(""), set);
    if (jx_parse_file(path, NULL, &cases, &err) < 0)
        fail_msg("%s", err.text);
    json_array_foreach(cases, i,
                       entry) if (!strcmp(json_string_value(json_object_get(entry, "name")), name))
        found = json_deep_copy(json_object_get(entry, "request"));
    json_decref(cases);
    if (!found)
        fail_msg("%s: no case '%s'", path, name);
    model_of(set, path);
    json_object_set_new(found, "model", json_string(path));
    if (stages)
        json_object_set_new(found, "dump_stages", json_sprintf("%s/%s", test_dir(), stages));
    return found;
}

/* ---- stages ---- */

static void stage_file(char path[PATH_BYTES], const char *stages, const char *name)
{
    snprintf(path, PATH_BYTES, "%s/%s/%s", test_dir(), stages, name);
}

static struct npy load(const char *stages, const char *name)
{
    char path[PATH_BYTES];
    struct npy a;
    struct dr_error err;
    stage_file(path, stages, name);
    if (npy_load(path, &a, &err) < 0)
        fail_msg("%s", err.text);
    return a;
}

static int count_stages(const char *stages)
{
    char path[PATH_BYTES];
    int n = 0;
    stage_file(path, stages, "");
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += strstr(e->d_name, ".npy") != NULL;
    closedir(dir);
    return n;
}

/* Elements of `a` from `offset` against all of `b`. */
static void same_elements(const char *where, const char *name, const struct npy *a, int64_t offset,
                          const struct npy *b)
{
    size_t size = npy_size_of(b->dtype);
    const char *x = (const char *)a->data + (size_t)offset * size, *y = b->data;
    assert_int_equal(a->dtype, b->dtype);
    for (int64_t i = 0; i < b->count; i++)
        if (memcmp(x + (size_t)i * size, y + (size_t)i * size, size))
            fail_msg("%s: %s: element %lld of %lld differs", where, name, (long long)i,
                     (long long)b->count);
}

typedef void compare_fn(const char *b, const char *name, const struct npy *x, const struct npy *y,
                        int index);

static void each_stage(const char *a, const char *b, int index, compare_fn *compare)
{
    char path[PATH_BYTES];
    stage_file(path, a, "");
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        if (!strstr(e->d_name, ".npy"))
            continue;
        struct npy x = load(a, e->d_name), y = load(b, e->d_name);
        compare(b, e->d_name, &x, &y, index);
        npy_free(&x);
        npy_free(&y);
    }
    closedir(dir);
}

static void whole(const char *b, const char *name, const struct npy *x, const struct npy *y,
                  int index)
{
    (void)index;
    assert_int_equal(x->ndim, y->ndim);
    assert_memory_equal(x->shape, y->shape, (size_t)x->ndim * sizeof *x->shape);
    same_elements(b, name, x, 0, y);
}

void session_same(const char *a, const char *b, int least)
{
    int n = count_stages(a);
    assert_true(n >= least);
    assert_int_equal(n, count_stages(b));
    each_stage(a, b, 0, whole);
}

/* Stages of four dimensions have a batch; the others belong to all pictures. */
static void of_picture(const char *b, const char *name, const struct npy *x, const struct npy *y,
                       int index)
{
    same_elements(b, name, x, x->ndim == 4 ? index * y->count : 0, y);
}

void session_same_picture(const char *batch, int index, const char *alone)
{
    assert_int_equal(count_stages(batch), count_stages(alone));
    each_stage(batch, alone, index, of_picture);
}
