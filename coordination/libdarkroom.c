/* libdarkroom.c - libdarkroom: the public header over the base worker and the engine's verbs. */
#include "include/darkroom.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "backend/device.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mapguard.h"
#include "base/path_text.h"
#include "base/system.h"
#include "coordination/engine.h"
#include "core/communication/message.h"
#include "schedulers/scheduler_factory.h"

#define X(name, value, wire, meaning)                                                              \
    _Static_assert((int)DARKROOM_##name == (int)DR_##name, "darkroom.h: DARKROOM_" #name);
#include "base/errors.def"
#undef X
_Static_assert((int)DARKROOM_LOG_ERROR == (int)DR_LOG_ERROR &&
                   (int)DARKROOM_LOG_DEBUG == (int)DR_LOG_DEBUG,
               "darkroom.h: enum darkroom_log_level");

struct darkroom {
    struct engine engine;
    struct base_worker *worker;
    darkroom_event_fn on_event;
    void *user;
    struct buf line; /* under the worker's emit lock */
    bool ready;      /* the ready line is out */
    int lost;        /* why it could not be written */
    bool uses_share; /* the option was given */
};

/* Code, stacks and heap of libraries that are resident once a job has run, measured: 3.6 to 3.9 MB.
 */
enum { FIRST_JOB_BYTES = 3700000 };

struct engine_options {
    int64_t threads, queue, memory_limit, cache_limit;
    const char *kernels, *cache, *share;
    json_t *roots, *models;
};

static void emit(void *user, const json_t *event)
{
    struct darkroom *d = user;
    buf_clear(&d->line);
    int r = jx_dump(event, &d->line);
    if (r < 0) {
        /* not an answer: opening fails or progress is dropped */
        if (!d->ready || message_is_progress(event)) {
            d->lost = d->ready ? 0 : r;
            return;
        }
        /* an answer is never dropped: send the fixed out-of-memory reply */
        bool other = !json_object_get(event, "request_id") &&
                     json_object_get(event, "correlationId");
        const char *key = other ? "correlationId" : "request_id";
        const char *id = json_string_value(json_object_get(event, key));
        char last[MESSAGE_ID_BYTES + 128];
        bool plain = id && !strpbrk(id, "\"\\");
        for (const char *c = id; plain && *c; c++)
            plain = (unsigned char)*c >= ' ';
        dr_log_line(DR_LOG_ERROR, "engine", "an event cannot be written: %s", dr_code_meaning(r));
        snprintf(last, sizeof last,
                 "{\"success\":false,\"%s\":\"%s\",\"error\":\"out of memory\","
                 "\"error_code\":\"OUT_OF_MEMORY\"}",
                 key, plain ? id : "");
        d->on_event(d->user, last);
        return;
    }
    d->on_event(d->user, d->line.data);
}

/* `field` is the member of the options, `option` the worker's own name of it. */
static int add_roots(struct roots *roots, const json_t *list, const char *field, const char *option,
                     struct dr_error *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return dr_fail_field(err, DR_EINVAL, field, jx_kind(item), "an array of strings", NULL);
        char folder[DR_PATH_MAX];
        int r = path_text_read(field, json_string_value(item), folder, err);
        struct dr_error inner = { 0 };
        if (!r && (r = roots_add(roots, folder, &inner)) < 0)
            dr_fail(err, r, "%s (%s): %s", field, option, inner.text);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_options(const json_t *o, struct engine_options *ret, struct dr_error *err)
{
    static const char *const names[] = { "threads", "kernels",     "roots",
                                         "models",  "queue",       "memory_limit",
                                         "cache",   "cache_limit", "share" };
    const char *key;
    json_t *value;
    if (!json_is_object(o) || jx_literal(o))
        return dr_fail_field(err, DR_EINVAL, "options", jx_kind(o), "an object", NULL);
    json_object_foreach((json_t *)o, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            known |= !strcmp(key, names[i]);
        if (!known)
            return dr_fail_field(err, DR_EINVAL, key, NULL,
                                 "threads, kernels, roots, models, queue, memory_limit, cache, "
                                 "cache_limit or share",
                                 NULL);
    }
    int r = jx_opt_int(o, "", "threads", 0, 4096, &ret->threads, err);
    if (!r)
        r = jx_opt_int(o, "", "queue", 0, 100000, &ret->queue, err);
    if (!r)
        r = jx_opt_int(o, "", "memory_limit", 0, INT64_MAX, &ret->memory_limit, err);
    if (!r)
        r = jx_opt_int(o, "", "cache_limit", 0, INT64_MAX, &ret->cache_limit, err);
    if (!r)
        r = jx_opt_string(o, "", "cache", &ret->cache, err);
    if (!r)
        r = jx_opt_string(o, "", "share", &ret->share, err);
    if (!r)
        r = jx_opt_string(o, "", "kernels", &ret->kernels, err);
    if (!r)
        r = jx_opt_array(o, "", "roots", &ret->roots, err);
    return r ? r : jx_opt_array(o, "", "models", &ret->models, err);
}

static int open_engine(struct engine *e, const struct engine_options *o, struct dr_error *err)
{
    int r = device_manager_new(o->kernels, (int)o->threads, &e->devices, err);
    if (!r)
        r = pipeline_manager_new(&e->pipelines, err);
    if (!r)
        r = add_roots(&e->roots, o->roots, "roots", "--root", err);
    if (!r)
        r = add_roots(&e->models, o->models, "models", "--models", err);
    char cache[DR_PATH_MAX] = "";
    if (!r && o->cache)
        r = path_text_read("cache", o->cache, cache, err);
    if (!r)
        r = pack_store_init(&e->store, cache, (uint64_t)o->cache_limit, err);
    e->memory_limit = (size_t)o->memory_limit;
    e->queue = o->queue ? (int)o->queue : 64;
    e->baseline = system_resident() + FIRST_JOB_BYTES;
    return r;
}

static void close_engine(struct engine *e)
{
    pipeline_manager_free(e->pipelines);
    device_manager_free(e->devices);
    roots_free(&e->roots);
    roots_free(&e->models);
}

static int open_worker(struct darkroom *d, struct dr_error *err)
{
    struct worker_config config = {
        .handler = {
            [VERB_generate] = engine_generate,
            [VERB_inspect] = engine_inspect,
            [VERB_plan] = engine_plan,
            [VERB_tokens] = engine_tokens,
            [VERB_load_model] = engine_load_model,
            [VERB_unload_model] = engine_unload_model,
            [VERB_check] = engine_check,
            [VERB_bench] = engine_bench,
            [VERB_convert] = engine_convert,
            [VERB_lora] = engine_lora,
            [VERB_models] = engine_models,
            [VERB_cache] = engine_cache,
            [VERB_validate] = engine_validate,
            [VERB_devices] = engine_devices,
            [VERB_capabilities] = engine_capabilities,
        },
        .ctx = &d->engine,
        .queue = d->engine.queue,
        .emit = emit,
        .user = d,
    };
    return base_worker_new(&config, &d->worker, err);
}

static int send_ready(struct darkroom *d, struct dr_error *err)
{
    json_t *event = engine_capabilities_json(&d->engine);
    int r = jx_set(event, "success", json_true());
    if (!r)
        r = jx_set(event, "status", json_string("ready"));
    if (!r)
        r = jx_set(event, "message", json_string("darkroom-worker " DR_VERSION " is ready"));
    if (!r)
        r = jx_set(event, "protocol", json_integer(MESSAGE_PROTOCOL));
    if (!r)
        r = jx_set(event, "version", json_string(DR_VERSION));
    if (!r)
        r = jx_set(event, "worker_type", json_string("sdxl_worker"));
    if (r < 0) {
        json_decref(event);
        return dr_fail(err, DR_ENOMEM, "out of memory for the ready line");
    }
    r = base_worker_emit(d->worker, event);
    if (!r && d->lost)
        r = dr_fail(err, d->lost, "cannot write the ready line: %s", dr_code_meaning(d->lost));
    d->ready = !r;
    return r;
}

/* Reports an incomplete descriptor before anything uses it. */
static int check_tables(struct dr_error *err)
{
    int r = sched_tables_check(err);
    return r ? r : device_tables_check(err);
}

static void log_started(const struct engine *e)
{
    struct dr_log_fields f = { .n = 0 };
    if (!dr_log_on(DR_LOG_INFO))
        return;
    json_t *devices = device_manager_json(e->devices);
    const json_t *cpu = json_array_get(json_object_get(devices, "devices"), 0);
    const char *kernels = json_string_value(json_object_get(cpu, "default_kernels"));
    dr_log_text(&f, "version", DR_VERSION);
    dr_log_text(&f, "kernels", kernels ? kernels : "");
    dr_log_int(&f, "threads", json_integer_value(json_object_get(cpu, "threads")));
    if (e->memory_limit)
        dr_log_int(&f, "memory_limit", (int64_t)e->memory_limit);
    dr_log_int(&f, "available", json_integer_value(json_object_get(cpu, "available_bytes")));
    dr_log_int(&f, "queue", e->queue);
    dr_log_text(&f, "cache", e->store.limit ? e->store.folder : "");
    dr_log_int(&f, "cache_limit", (int64_t)e->store.limit);
    dr_log_event(DR_LOG_INFO, "engine", &f, "started");
    json_decref(devices);
}

int darkroom_open(const char *options, darkroom_event_fn on_event, void *user,
                  struct darkroom **ret_engine, char *error, size_t error_size)
{
    struct dr_error err;
    struct engine_options o = { .kernels = "auto", .cache_limit = (int64_t)PACK_STORE_LIMIT };
    json_t *json = NULL;
    memset(&err, 0, sizeof err);
    jx_init();
    struct darkroom *d = dr_calloc(DR_TAG_BASE, 1, sizeof *d);
    int r = d ? 0 : dr_fail(&err, DR_ENOMEM, "out of memory for an engine");
    if (!r) {
        d->on_event = on_event;
        d->user = user;
        pthread_mutex_init(&d->engine.sink_lock, NULL);
        buf_init(&d->line, DR_TAG_BASE, 0);
    }
    if (!r && options)
        r = jx_parse(options, strlen(options), NULL, "options", &json, &err);
    if (!r && json)
        r = read_options(json, &o, &err);
    if (!r && o.share) {
        r = dr_share_use(o.share, &err);
        d->uses_share = !r;
    }
    if (!r)
        r = check_tables(&err);
    if (!r)
        r = mapguard_install(&err);
    if (!r)
        r = open_engine(&d->engine, &o, &err);
    if (!r)
        r = open_worker(d, &err);
    if (!r)
        log_started(&d->engine);
    if (!r)
        r = send_ready(d, &err);
    json_decref(json);
    if (r < 0) {
        system_memory_explain(&err);
        snprintf(error, error_size, "%s", err.text);
        darkroom_close(d);
        return r;
    }
    *ret_engine = d;
    return 0;
}

int darkroom_submit_bytes(struct darkroom *d, const char *message, size_t n)
{
    return base_worker_submit(d->worker, message, n);
}

int darkroom_submit(struct darkroom *d, const char *message)
{
    return darkroom_submit_bytes(d, message, strlen(message));
}

int darkroom_cancel(struct darkroom *d, const char *request_id)
{
    return base_worker_cancel(d->worker, request_id);
}

void darkroom_stop(struct darkroom *d, int running)
{
    base_worker_stop(d->worker, running != 0);
}

void darkroom_drain(struct darkroom *d)
{
    base_worker_drain(d->worker);
}

int darkroom_wait(struct darkroom *d, int timeout_ms)
{
    return base_worker_wait(d->worker, timeout_ms);
}

int darkroom_shutting_down(const struct darkroom *d)
{
    return base_worker_shutting_down(d->worker);
}

void darkroom_close(struct darkroom *d)
{
    if (!d)
        return;
    base_worker_free(d->worker);
    close_engine(&d->engine);
    if (d->uses_share)
        dr_share_release();
    pthread_mutex_destroy(&d->engine.sink_lock);
    buf_free(&d->line);
    dr_free(d);
}

void darkroom_set_image_callback(struct darkroom *d, darkroom_image_fn on_image, void *user)
{
    pthread_mutex_lock(&d->engine.sink_lock);
    d->engine.sink = (struct image_sink){ .fn = on_image, .user = user };
    pthread_mutex_unlock(&d->engine.sink_lock);
}

const char *darkroom_version(void)
{
    return DR_VERSION;
}

const char *darkroom_code_name(int code)
{
    return dr_code_wire(code);
}

/* The host's log function behind base/log's, which knows no type of the public header. */
static struct {
    pthread_mutex_t lock; /* one darkroom_set_log at a time */
    struct host_sink {
        darkroom_log_fn fn;
        void *user;
    } sink[2]; /* the one in use, and the next */
    int next;
} host_log = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void log_line(void *user, enum dr_log_level level, const char *component, const char *text)
{
    const struct host_sink *sink = user;
    sink->fn(sink->user, (enum darkroom_log_level)level, component, text);
}

void darkroom_set_log(enum darkroom_log_level level, darkroom_log_fn on_line, void *user)
{
    pthread_mutex_lock(&host_log.lock);
    struct host_sink *sink = &host_log.sink[host_log.next];
    *sink = (struct host_sink){ on_line, user };
    host_log.next = !host_log.next;
    dr_log_set_level((enum dr_log_level)level);
    dr_log_sink(on_line ? log_line : NULL, sink); /* from here on the other one is free */
    pthread_mutex_unlock(&host_log.lock);
}
