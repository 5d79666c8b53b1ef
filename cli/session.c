/* session.c - see session.h. */
#include "cli/session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/cli.h"
#include "core/communication/message.h"

enum { TICK_MS = 50, ROOTS = 64 };

/* How long after an interrupt the worker may take to answer, and how long after that it is killed
 * this program may take to end: together below two seconds. END_US: where it is killed at once. */
enum { CANCEL_US = 1400000, FORCE_US = 400000, END_US = 1000000 };

/* What the signal handler uses. */
static volatile sig_atomic_t interrupts, answering, forced;
static struct session *volatile current;

static void kill_worker(int number)
{
    struct session *s = current;
    if (s && s->worker.pid > 0)
        kill(-s->worker.pid, number);
}

/* setitimer is a bare system call: a handler may use it. 0: off. */
static void alarm_in(int us)
{
    struct itimerval timer = { .it_value.tv_usec = us % 1000000,
                               .it_value.tv_sec = us / 1000000,
                               .it_interval.tv_usec = us ? FORCE_US : 0 };
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* Before the worker is ready, and from the second signal on, it can only be killed. */
static void on_signal(int number)
{
    (void)number;
    bool force = !answering || interrupts > 0;
    interrupts = interrupts + 1;
    if (force)
        kill_worker(SIGKILL); /* also ends one that is stopped */
    forced = forced || force;
    alarm_in(force ? END_US : CANCEL_US);
}

/* Time is up for the worker, and at the next alarm for us, if an uninterruptible call keeps us. */
static void on_alarm(int number)
{
    (void)number;
    if (forced)
        _exit(CLI_EXIT_INTERRUPTED);
    forced = 1;
    kill_worker(SIGKILL);
}

/* In on_stop: the worker continues only when the next stop is caught again. */
static volatile sig_atomic_t stopping;

/* Ctrl-Z and the like: also stops the worker, whose process group the terminal does not signal. */
static void on_stop(int number)
{
    struct sigaction ours, normal = { .sa_handler = SIG_DFL };
    sigset_t only, before;
    int saved = errno;
    sigemptyset(&normal.sa_mask);
    sigemptyset(&only);
    sigaddset(&only, number);
    stopping = 1;
    kill_worker(SIGSTOP);
    sigaction(number, &normal, &ours);
    raise(number);
    sigprocmask(SIG_UNBLOCK, &only, &before); /* stops here, and continues here */
    sigprocmask(SIG_SETMASK, &before, NULL);
    sigaction(number, &ours, NULL);
    stopping = 0;
    kill_worker(SIGCONT);
    errno = saved;
}

static void on_continue(int number)
{
    int saved = errno;
    (void)number;
    if (!stopping)
        kill_worker(SIGCONT);
    errno = saved;
}

/* Blocking calls are interrupted, but not by stopping and continuing. A parent may have left the
 * signal blocked. */
static void catch_one(int number, void (*handler)(int))
{
    sigset_t only;
    bool job_control = handler == on_stop || handler == on_continue;
    struct sigaction action = { .sa_handler = handler, .sa_flags = job_control ? SA_RESTART : 0 };
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
    sigemptyset(&only);
    sigaddset(&only, number);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
}

static bool ignored(int number)
{
    struct sigaction before;
    return !sigaction(number, NULL, &before) && before.sa_handler == SIG_IGN;
}

static const int stops[] = { SIGTSTP, SIGTTIN, SIGTTOU };

/* A shell starts background jobs with SIGINT ignored; a SIGINT sent to us explicitly is obeyed all
 * the same. SIGHUP stays ignored under nohup or a shell without job control. */
static void catch_signals(struct session *s)
{
    current = s;
    catch_one(SIGINT, on_signal);
    catch_one(SIGTERM, on_signal);
    catch_one(SIGALRM, on_alarm);
    if (!ignored(SIGHUP))
        catch_one(SIGHUP, on_signal);
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
        if (!ignored(stops[i]))
            catch_one(stops[i], on_stop);
    catch_one(SIGCONT, on_continue);
}

static void release_one(int number)
{
    if (!ignored(number))
        signal(number, SIG_DFL);
}

static void release_signals(void)
{
    alarm_in(0);
    current = NULL;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGALRM, SIG_DFL);
    signal(SIGCONT, SIG_DFL);
    release_one(SIGHUP);
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
        release_one(stops[i]);
}

static int fail_interrupted(struct dr_error *err)
{
    return dr_fail(err, DR_ECANCELED, "interrupted");
}

/* Folders of a request's files. */
struct roots_list {
    const char *folder[ROOTS];
    int n;
};

static int add_root(struct roots_list *list, const char *path, size_t len, struct dr_error *err)
{
    for (int i = 0; i < list->n; i++)
        if (strlen(list->folder[i]) == len && !memcmp(list->folder[i], path, len))
            return 0;
    if (list->n == ROOTS)
        return dr_fail(err, DR_ELIMIT, "files in more than %d folders", ROOTS);
    char *copy = dr_strndup(DR_TAG_BASE, path, len);
    if (!copy)
        return dr_fail(err, DR_ENOMEM, "out of memory");
    list->folder[list->n++] = copy;
    return 0;
}

/* Stages of two runs in one folder could not be distinguished, and none is replaced. Checked here,
 * for the worker sees a private folder only. */
static int check_dump(const char *folder, struct dr_error *err)
{
    char name[256], got[300];
    if (dr_is_file(folder))
        return dr_fail_field(err, DR_EINVAL, "--dump-stages", folder, "a folder, not a file", NULL);
    if (!private_find_stage(folder, name))
        return 0;
    snprintf(got, sizeof got, "%.200s, which has %.60s", folder, name);
    return dr_fail_field(err, DR_EINVAL, "--dump-stages", got,
                         "a folder without stages of an earlier run", NULL);
}

/* The folder that a file really lies in, links followed. */
static int add_folder_of(struct roots_list *list, const char *path, struct dr_error *err)
{
    char real[DR_PATH_MAX];
    int r = dr_realpath(real, sizeof real, path, err);
    size_t n = r ? 0 : (size_t)(dr_path_base(real) - real);
    return r ? r : add_root(list, real, n > 1 ? n - 1 : n, err);
}

static int add_request(struct roots_list *list, const struct request *q, struct dr_error *err)
{
    char folder[DR_PATH_MAX];
    const char *name;
    json_t *file;
    int r = 0;
    if (request_has(q, FIELD_dump_stages)) {
        r = check_dump(request_text(q, FIELD_dump_stages), err);
        if (!r)
            r = private_place(request_text(q, FIELD_dump_stages), folder, err);
        if (!r)
            r = add_root(list, folder, strlen(folder), err);
    }
    if (!r && request_has(q, FIELD_image) &&
        strncasecmp(request_text(q, FIELD_image), "data:", 5) &&
        (r = add_folder_of(list, request_text(q, FIELD_image), err)) < 0)
        dr_while(err, r, "reading --image");
    for (int i = 0; !r && i < request_count(q, FIELD_mask); i++)
        if ((r = add_folder_of(list, request_item_text(q, FIELD_mask, i, "path"), err)) < 0)
            dr_while(err, r, "reading --mask");
    json_object_foreach(q->value[FIELD_load_stage].map, name, file)
    {
        if (!r && (r = add_folder_of(list, json_string_value(file), err)) < 0)
            dr_while(err, r, "reading --load-stage %s", name);
    }
    return r;
}

static int add_private(struct roots_list *list, struct private_folder *p, const char *place,
                       struct dr_error *err)
{
    int r = private_make(p, place, err);
    return r < 0 ? r : add_root(list, p->path, strlen(p->path), err);
}

int session_open(struct session *s, const struct session_options *options, struct dr_error *err)
{
    struct roots_list roots = { .n = 0 };
    memset(s, 0, sizeof *s);
    s->worker.in = s->worker.out = -1;
    catch_signals(s);
    int r = 0;
    if (options->request)
        r = add_request(&roots, options->request, err);
    if (!r && options->root)
        r = add_root(&roots, options->root, strlen(options->root), err);
    if (!r && options->pictures)
        r = add_private(&roots, &s->pictures, options->pictures, err);
    if (!r && options->stages)
        r = add_private(&roots, &s->stages, options->stages, err);
    struct worker_options how = { .roots = roots.folder,
                                  .n_roots = roots.n,
                                  .threads = options->threads,
                                  .cache = options->cache,
                                  .cache_limit = options->cache_limit };
    if (!r && interrupts)
        r = fail_interrupted(err);
    if (!r)
        r = worker_start(&s->worker, &how, &s->ready, err);
    answering = 1;
    if (interrupts)
        r = fail_interrupted(err);
    for (int i = 0; i < roots.n; i++)
        dr_free((void *)roots.folder[i]);
    return r;
}

void session_close(struct session *s)
{
    if (forced)
        worker_kill(&s->worker);
    else
        worker_stop(&s->worker);
    private_remove(&s->pictures);
    private_remove(&s->stages);
    json_decref(s->ready);
    s->ready = NULL;
    answering = 0;
    release_signals();
}

/* Is the event the answer to `id`? A failure without an id is the answer to whatever was sent. */
static bool is_answer(const json_t *event, const char *id)
{
    const char *to = json_string_value(json_object_get(event, "request_id"));
    if (!to || !*to)
        return json_is_false(json_object_get(event, "success"));
    return !strcmp(to, id);
}

static int send_cancel(struct session *s, const char *id, struct dr_error *err)
{
    return worker_send(
        &s->worker, message_request(VERB_cancel, "cancel", json_pack("{s:s}", "target", id)), err);
}

/* The answer itself, whole. */
static int await(struct session *s, const char *id, session_event_fn on_progress, void *ctx,
                 json_t **ret_event, struct dr_error *err)
{
    bool cancelled = false;
    for (;;) {
        json_t *event;
        if (interrupts && !cancelled) {
            cancelled = true;
            if (send_cancel(s, id, err) < 0)
                return fail_interrupted(err);
        }
        int r = worker_receive(&s->worker, TICK_MS, &event, err);
        if (r == DR_ESTATE) {
            if (s->follow && on_progress)
                on_progress(ctx, NULL);
            continue;
        }
        if (r < 0)
            return interrupts ? fail_interrupted(err) : r;
        bool progress = message_is_progress(event);
        if (is_answer(event, id) && !progress) {
            *ret_event = event;
            return 0;
        }
        if (progress && on_progress && (!interrupts || s->follow))
            on_progress(ctx, json_object_get(event, "data"));
        json_decref(event);
    }
}

int session_exchange(struct session *s, json_t *message, const char *id,
                     session_event_fn on_progress, void *ctx, json_t **ret_data,
                     struct dr_error *err)
{
    json_t *event, *data = NULL;
    int r = worker_send(&s->worker, message, err);
    if (r < 0) /* how the worker ended says more than a broken pipe */
        r = s->worker.pid && r == DR_EIO ? worker_receive(&s->worker, TICK_MS, &event, err) : r;
    if (r < 0)
        return interrupts ? fail_interrupted(err) : r;
    r = await(s, id, on_progress, ctx, &event, err);
    if (r < 0)
        return r;
    r = message_answer(event, &data, err);
    if (r && interrupts)
        r = fail_interrupted(err);
    else if (!r) /* also when it was done before the interrupt reached the worker */
        *ret_data = json_incref(data);
    json_decref(event);
    return r;
}

int session_call(struct session *s, enum verb verb, json_t *data, session_event_fn on_progress,
                 void *ctx, json_t **ret_data, struct dr_error *err)
{
    char id[32];
    snprintf(id, sizeof id, "darkroom-%d", ++s->calls);
    json_t *message = data ? message_request(verb, id, data) : NULL;
    if (!message)
        return dr_fail(err, DR_ENOMEM, "out of memory for a request");
    return session_exchange(s, message, id, on_progress, ctx, ret_data, err);
}

int session_ask(const struct session_options *options, enum verb verb, json_t *data,
                json_t **ret_data, struct dr_error *err)
{
    struct session s;
    int r = session_open(&s, options, err);
    if (!r)
        r = session_call(&s, verb, data, NULL, NULL, ret_data, err);
    else
        json_decref(data);
    session_close(&s);
    return r;
}
