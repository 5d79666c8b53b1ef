/* base_worker.c - see base_worker.h. A list of waiting jobs, one thread that runs them. */
#include "core/base_worker.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/system.h"

enum { QUEUE_DEFAULT = 64 };

struct queued_job {
    struct queued_job *next;
    struct message message;
    atomic_int stop;
    bool answered; /* under the queue's lock: its id is free again, a cancel comes too late */
    atomic_int step, total;
    double submitted, started; /* dr_now */
};

struct base_worker {
    struct worker_config config;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the list, running, closing */
    pthread_cond_t work, idle;
    struct queued_job *first, *last, *running;
    int waiting;
    bool closing, started;
    atomic_bool shutting_down;
    pthread_mutex_t emit_lock;
    uint64_t done, failed;
    double opened;
    _Atomic(void *) reserve; /* given up so that an answer is not lost; NULL: it was */
};

enum { RESERVE_BYTES = 256 * 1024 }; /* the system takes back a block of this size at once */

static _Thread_local bool emitting; /* inside the owner's emit: no second event now */

int base_worker_emit(struct base_worker *w, json_t *event)
{
    if (!event) {
        dr_log_line(DR_LOG_ERROR, "worker", "out of memory: an event is lost");
        return DR_ENOMEM;
    }
    pthread_mutex_lock(&w->emit_lock);
    emitting = true;
    w->config.emit(w->config.user, event);
    emitting = false;
    pthread_mutex_unlock(&w->emit_lock);
    json_decref(event);
    return 0;
}

/* An answer must not be lost when out of memory: the last resort carries only the ids, and is made
 * where the reserve was. */
static void emit_failure(struct base_worker *w, const struct message_ids *ids,
                         const struct dr_error *error)
{
    json_t *event = message_failure(ids, error);
    if (!event) {
        dr_free(atomic_exchange(&w->reserve, NULL));
        event = message_failure(ids, error);
    }
    if (!event)
        event = json_pack(
            "{s:b,s:s,s:s,s:s}", "success", 0,
            *ids->request_id || !*ids->correlation_id ? "request_id" : "correlationId",
            message_id(ids), "error", "out of memory", "error_code", dr_code_wire(DR_ENOMEM));
    base_worker_emit(w, event);
    void *again = atomic_load(&w->reserve) ? NULL : dr_malloc(DR_TAG_BASE, RESERVE_BYTES);
    if (again)
        dr_free(atomic_exchange(&w->reserve, again));
}

static void emit_result(struct base_worker *w, const struct message_ids *ids, json_t *data)
{
    json_t *event = message_result(ids, data);
    struct dr_error error;
    if (event) {
        base_worker_emit(w, event);
        return;
    }
    dr_fail(&error, DR_ENOMEM, "out of memory for the answer");
    emit_failure(w, ids, &error);
}

static void job_free(struct queued_job *j)
{
    message_free(&j->message);
    dr_free(j);
}

static int call_handler(struct base_worker *w, struct worker_job *job, json_t **ret_data,
                        struct dr_error *err)
{
    worker_handler handler = w->config.handler[job->verb];
    if (!handler)
        return dr_fail_field(err, DR_EUNSUPPORTED, "type", verb_name(job->verb),
                             "a verb this worker answers (see capabilities)", NULL);
    return handler(w->config.ctx, job, ret_data, err);
}

/* One line for the end of any job; texts are in the answer. */
static void log_end(struct worker_job *job, double seconds, int r, const struct dr_error *error)
{
    static const char *const how[] = { "job done", "job failed", "job cancelled" };
    struct dr_log_fields f = { .n = 0 };
    if (!dr_log_on(DR_LOG_INFO))
        return;
    dr_log_text(&f, "verb", verb_name(job->verb));
    dr_log_real(&f, "seconds", seconds);
    if (r < 0) {
        dr_log_text(&f, "code", dr_code_wire(error->code));
        dr_log_text(&f, "error", error->text);
    }
    size_t room = sizeof f.bytes - f.n;
    if (job->log.n < room) {
        memcpy(f.bytes + f.n, job->log.bytes, job->log.n);
        f.n += job->log.n;
    }
    dr_log_event(DR_LOG_INFO, "worker", &f, "%s", how[r >= 0 ? 0 : r == DR_ECANCELED ? 2 : 1]);
}

static void log_refused(const struct message_ids *ids, const struct dr_error *error)
{
    struct dr_log_fields f = { .n = 0 };
    if (!dr_log_on(DR_LOG_INFO))
        return;
    dr_log_text(&f, "id", message_id(ids));
    dr_log_text(&f, "code", dr_code_wire(error->code));
    dr_log_text(&f, "error", error->text);
    dr_log_event(DR_LOG_INFO, "worker", &f, "request refused");
}

static void log_taken(const struct message *m, int waiting)
{
    struct dr_log_fields f = { .n = 0 };
    if (!dr_log_on(waiting ? DR_LOG_INFO : DR_LOG_DEBUG))
        return;
    dr_log_text(&f, "id", message_id(&m->ids));
    dr_log_text(&f, "verb", verb_name(m->verb));
    if (waiting)
        dr_log_int(&f, "waiting", waiting);
    dr_log_event(waiting ? DR_LOG_INFO : DR_LOG_DEBUG, "worker", &f,
                 waiting ? "job taken" : "answered at once");
}

static void run_job(struct base_worker *w, struct queued_job *j)
{
    struct worker_job job = { .verb = j->message.verb,
                              .ids = &j->message.ids,
                              .data = j->message.data,
                              .stop = &j->stop,
                              .worker = w };
    struct dr_error error = { 0 };
    json_t *data = NULL;
    j->started = dr_now();
    dr_log_job(message_id(&j->message.ids));
    int r = atomic_load(&j->stop) ? dr_fail(&error, DR_ECANCELED, "cancelled before it began")
                                  : call_handler(w, &job, &data, &error);
    if (r < 0 && !error.code)
        dr_fail(&error, r, "%s", dr_code_meaning(r));
    if (r == DR_ECANCELED && atomic_load(&j->stop) && strncmp(error.text, "cancelled", 9) != 0)
        dr_fail(&error, r, "cancelled"); /* wherever it was */
    system_memory_explain(&error);
    pthread_mutex_lock(&w->lock);
    j->answered = true;
    w->done += r >= 0;
    w->failed += r < 0;
    pthread_mutex_unlock(&w->lock);
    log_end(&job, dr_now() - j->started, r, &error);
    dr_log_job("");
    if (r < 0)
        emit_failure(w, &j->message.ids, &error);
    else
        emit_result(w, &j->message.ids, data);
}

static void *engine_thread(void *arg)
{
    struct base_worker *w = arg;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->first && !w->closing)
            pthread_cond_wait(&w->work, &w->lock);
        if (!w->first)
            break;
        struct queued_job *j = w->first;
        w->first = j->next;
        w->last = w->first ? w->last : NULL;
        w->waiting--;
        w->running = j;
        pthread_mutex_unlock(&w->lock);
        run_job(w, j);
        pthread_mutex_lock(&w->lock);
        w->running = NULL;
        job_free(j);
        if (!w->first)
            pthread_cond_broadcast(&w->idle);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int base_worker_new(const struct worker_config *config, struct base_worker **ret,
                    struct dr_error *err)
{
    struct base_worker *w = dr_calloc(DR_TAG_BASE, 1, sizeof *w);
    if (!w)
        return dr_fail(err, DR_ENOMEM, "out of memory for a worker");
    w->config = *config;
    if (!w->config.queue)
        w->config.queue = QUEUE_DEFAULT;
    w->opened = dr_now();
    pthread_mutex_init(&w->lock, NULL);
    pthread_mutex_init(&w->emit_lock, NULL);
    pthread_cond_init(&w->work, NULL);
    pthread_cond_init(&w->idle, NULL);
    atomic_init(&w->reserve, dr_malloc(DR_TAG_BASE, RESERVE_BYTES));
    if (!w->reserve || pthread_create(&w->thread, NULL, engine_thread, w)) {
        base_worker_free(w);
        return dr_fail(err, DR_ENOMEM, "cannot start the engine's thread");
    }
    w->started = true;
    *ret = w;
    return 0;
}

void base_worker_free(struct base_worker *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    for (struct queued_job *j = w->first; j; j = j->next)
        atomic_store(&j->stop, 1);
    if (w->running)
        atomic_store(&w->running->stop, 1);
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    if (w->started)
        pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->idle);
    pthread_mutex_destroy(&w->lock);
    pthread_mutex_destroy(&w->emit_lock);
    dr_free(w->reserve);
    dr_free(w);
}

/* The job of that id, running or waiting; the lock is held. */
static struct queued_job *find_job(struct base_worker *w, const char *id)
{
    if (w->running && !w->running->answered && !strcmp(message_id(&w->running->message.ids), id))
        return w->running;
    for (struct queued_job *j = w->first; j; j = j->next)
        if (!strcmp(message_id(&j->message.ids), id))
            return j;
    return NULL;
}

/* Takes a waiting job out of the queue; the lock is held. */
static void unlink_job(struct base_worker *w, struct queued_job *j)
{
    struct queued_job *before = NULL;
    for (struct queued_job *k = w->first; k != j; k = k->next)
        before = k;
    if (before)
        before->next = j->next;
    else
        w->first = j->next;
    if (w->last == j)
        w->last = before;
    w->waiting--;
}

bool base_worker_cancel(struct base_worker *w, const char *id)
{
    struct dr_error error;
    pthread_mutex_lock(&w->lock);
    struct queued_job *j = find_job(w, id);
    if (j)
        atomic_store(&j->stop, 1);
    /* a waiting job is answered now, or in its turn if this is called from inside an event */
    bool now = j && j != w->running && !emitting;
    if (now) {
        unlink_job(w, j);
        w->failed++;
        if (!w->first && !w->running)
            pthread_cond_broadcast(&w->idle);
    }
    pthread_mutex_unlock(&w->lock);
    if (now) {
        dr_fail(&error, DR_ECANCELED, "cancelled before it began");
        log_refused(&j->message.ids, &error);
        emit_failure(w, &j->message.ids, &error);
        job_free(j);
    }
    return j != NULL;
}

void base_worker_stop(struct base_worker *w, bool running)
{
    struct dr_error error;
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->shutting_down, true);
    if (running && w->running)
        atomic_store(&w->running->stop, 1);
    for (struct queued_job *j = w->first; j; j = j->next)
        atomic_store(&j->stop, 1);
    /* inside an event they are answered in their turn */
    struct queued_job *list = emitting ? NULL : w->first;
    if (list) {
        w->failed += (uint64_t)w->waiting;
        w->first = w->last = NULL;
        w->waiting = 0;
    }
    if (!w->first && !w->running)
        pthread_cond_broadcast(&w->idle);
    pthread_mutex_unlock(&w->lock);
    dr_fail(&error, DR_ECANCELED, "cancelled: the worker is stopping");
    while (list) {
        struct queued_job *next = list->next;
        log_refused(&list->message.ids, &error);
        emit_failure(w, &list->message.ids, &error);
        job_free(list);
        list = next;
    }
}

void base_worker_drain(struct base_worker *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->first || w->running)
        pthread_cond_wait(&w->idle, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

bool base_worker_wait(struct base_worker *w, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&w->lock);
    int timeout = 0;
    while ((w->first || w->running) && !timeout)
        timeout = pthread_cond_timedwait(&w->idle, &w->lock, &until);
    bool idle = !w->first && !w->running;
    pthread_mutex_unlock(&w->lock);
    return idle;
}

bool base_worker_shutting_down(const struct base_worker *w)
{
    return atomic_load(&w->shutting_down);
}

/* The job that the data of a cancel or status message names; "" if none. */
static int target_of(const struct message *m, const char **ret_id, struct dr_error *err)
{
    static const char *const keys[] = { "target", "request_id", "session_id", "correlationId" };
    static const char *const members[] = { "target", "reason", NULL }; /* hosts say why */
    int r = message_only(m->data, members, err);
    *ret_id = "";
    for (size_t i = 0; !r && !**ret_id && i < sizeof keys / sizeof *keys; i++)
        r = jx_opt_string(m->data, "data", keys[i], ret_id, err);
    return r;
}

static int answer_cancel(struct base_worker *w, const struct message *m, json_t **ret_data,
                         struct dr_error *err)
{
    const char *id;
    int r = target_of(m, &id, err);
    if (r < 0)
        return r;
    if (!*id)
        return dr_fail_field(err, DR_EINVAL, "data.target", "nothing", "the request_id of a job",
                             NULL);
    bool found = base_worker_cancel(w, id);
    *ret_data = json_pack("{s:s,s:s,s:b}", "target", id, "session_id", id, "cancelled", found);
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
}

static json_t *job_json(const struct queued_job *j, bool running)
{
    int step = atomic_load(&j->step), total = atomic_load(&j->total);
    double now = dr_now();
    json_t *all = total < 0 ? json_null() : json_integer(total);
    json_t *share = total < 0 ? json_null() : json_real(total ? (double)step / total : 0);
    return json_pack("{s:s,s:s,s:s,s:i,s:o,s:o,s:f}", "session_id", message_id(&j->message.ids),
                     "type", verb_name(j->message.verb), "status", running ? "running" : "waiting",
                     "step", step, "total_steps", all, "progress", share, "seconds",
                     now - (running ? j->started : j->submitted));
}

/* The job that runs and is not answered; the lock is held. Who has the answer must find the worker
 * idle, although its thread is still about to put the job away. */
static struct queued_job *unanswered(const struct base_worker *w)
{
    return w->running && !w->running->answered ? w->running : NULL;
}

static int answer_status(struct base_worker *w, const struct message *m, json_t **ret_data,
                         struct dr_error *err)
{
    const char *id;
    int r = target_of(m, &id, err);
    if (r < 0)
        return r;
    bool named = *id != '\0';
    id = named ? id : message_id(&m->ids);
    pthread_mutex_lock(&w->lock);
    struct queued_job *j = find_job(w, id);
    if (!j && !named)
        j = unanswered(w); /* without a name: the running job */
    if (j)
        *ret_data = job_json(j, j == w->running);
    else
        *ret_data = json_pack("{s:s,s:s}", "session_id", id, "status", "not_found");
    pthread_mutex_unlock(&w->lock);
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
}

static json_t *memory_json(void)
{
    json_t *tags = json_object();
    for (int t = 0; tags && t < DR_TAG_COUNT; t++) {
        struct dr_alloc_stats s = dr_alloc_stats((enum dr_tag)t);
        if (jx_set(tags, dr_tag_name((enum dr_tag)t),
                   json_pack("{s:I,s:I}", "bytes", (json_int_t)s.bytes, "peak",
                             (json_int_t)s.peak)) < 0) {
            json_decref(tags);
            return NULL;
        }
    }
    if (jx_set(tags, "kept", json_pack("{s:I}", "bytes", (json_int_t)dr_alloc_kept())) < 0) {
        json_decref(tags);
        return NULL;
    }
    return tags;
}

static int answer_health(struct base_worker *w, json_t **ret_data, struct dr_error *err)
{
    pthread_mutex_lock(&w->lock);
    const struct queued_job *running = unanswered(w);
    json_t *job = running ? job_json(running, true) : json_null();
    json_t *data = json_pack("{s:s,s:s,s:i,s:I,s:I,s:f,s:o}", "status", "healthy", "state",
                             running ? "busy" : "idle", "waiting", w->waiting, "jobs_done",
                             (json_int_t)w->done, "jobs_failed", (json_int_t)w->failed, "uptime",
                             dr_now() - w->opened, "job", job);
    pthread_mutex_unlock(&w->lock);
    int r = jx_set(data, "memory", memory_json());
    if (!r && w->config.health)
        r = w->config.health(w->config.ctx, data);
    if (r < 0) {
        json_decref(data);
        return dr_fail(err, r, "cannot describe the worker: %s", dr_code_meaning(r));
    }
    *ret_data = data;
    return 0;
}

static int answer_now(struct base_worker *w, const struct message *m, json_t **ret_data,
                      struct dr_error *err)
{
    static const atomic_int never;
    static const char *const none[] = { NULL };
    struct worker_job job = {
        .verb = m->verb, .ids = &m->ids, .data = m->data, .stop = &never, .worker = w
    };
    if (m->verb == VERB_cancel)
        return answer_cancel(w, m, ret_data, err);
    if (m->verb == VERB_status)
        return answer_status(w, m, ret_data, err);
    int r = message_only(m->data, none, err); /* the others have no data */
    if (r < 0)
        return r;
    switch (m->verb) {
    case VERB_health:
        return answer_health(w, ret_data, err);
    case VERB_shutdown:
        atomic_store(&w->shutting_down, true);
        *ret_data = json_pack("{s:s}", "status", "draining");
        return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
    default:
        return call_handler(w, &job, ret_data, err);
    }
}

/* Takes over *m on success. */
static int enqueue(struct base_worker *w, struct message *m, struct dr_error *err)
{
    int r = 0;
    struct queued_job *j = dr_calloc(DR_TAG_BASE, 1, sizeof *j);
    if (!j)
        return dr_fail(err, DR_ENOMEM, "out of memory for a job");
    j->message = *m;
    j->submitted = dr_now();
    const char *id = message_id(&m->ids);
    char got[32];
    pthread_mutex_lock(&w->lock);
    if (w->closing || atomic_load(&w->shutting_down)) {
        r = dr_fail(err, DR_ESTATE, "the worker is shutting down");
    } else if (w->waiting >= w->config.queue) {
        snprintf(got, sizeof got, "%d waiting", w->waiting);
        r = dr_fail_field(err, DR_ELIMIT, "queue", got, "room in the queue", "try again later");
    } else if (*id && find_job(w, id)) {
        r = dr_fail_field(err, DR_ESTATE, "request_id", id, "an id that is not in use", NULL);
    } else {
        if (w->last)
            w->last->next = j;
        else
            w->first = j;
        w->last = j;
        w->waiting++;
        log_taken(m, w->waiting); /* under the lock: before the line of its end */
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
    if (r < 0)
        dr_free(j);
    return r;
}

int base_worker_submit(struct base_worker *w, const char *line, size_t n)
{
    struct dr_error error;
    struct message m;
    json_t *data = NULL;
    memset(&error, 0, sizeof error);
    int r = message_parse(line, n, &m, &error);
    if (!r && !verb_immediate(m.verb)) {
        r = enqueue(w, &m, &error);
        if (!r)
            return 0;
    } else if (!r) {
        r = answer_now(w, &m, &data, &error);
    }
    if (r < 0)
        log_refused(&m.ids, &error);
    else
        log_taken(&m, 0);
    if (r < 0)
        emit_failure(w, &m.ids, &error);
    else
        emit_result(w, &m.ids, data);
    message_free(&m);
    return r;
}

void worker_progress(struct worker_job *job, int step, int total, bool stream, json_t *data)
{
    struct base_worker *w = job->worker;
    struct queued_job *j = w->running; /* set by this very thread */
    atomic_store(&j->step, step);
    atomic_store(&j->total, total);
    if (!stream) {
        json_decref(data);
        return;
    }
    int r = jx_set(data, "step", json_integer(step));
    if (!r)
        r = jx_set(data, "total_steps", total < 0 ? json_null() : json_integer(total));
    if (!r)
        r = jx_set(data, "percentage",
                   total < 0 ? json_null() : json_real(total ? 100.0 * step / total : 0));
    if (r < 0) {
        json_decref(data);
        data = NULL;
    }
    base_worker_emit(w, message_progress(job->ids, data));
}
