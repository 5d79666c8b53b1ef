/* pool.c - see pool.h.
 *
 * A run is published in one atomic word: generation, open, number of threads inside. A thread that
 * wakes late finds the run closed and goes back to sleep, so the caller waits only for threads that
 * hold a tile; that matters on a machine that is not ours alone. Threads spin for a moment before
 * they sleep, since ops follow each other within microseconds.
 *
 * The tiles are cut into one share a thread, in order, each with a counter of its own. A thread
 * takes from its share first, then from those of the threads after it. So the i-th part of an
 * activation is written, and first touched, by thread i in every op: it lies in that thread's
 * caches, and on a machine of several nodes in its node's memory.
 */
#include "backend/cpu/pool.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "base/system.h"

#define INSIDE 0xffffu
#define OPEN 0x10000u
#define GENERATION ((uint64_t)1 << 32)
enum { SPINS = 4000, THREADS_MAX = 1024 };

struct member {
    struct pool *pool;
    pthread_t id;
    int index;
};

/* Tiles next .. end - 1 are to be handed out. */
struct pool_share {
    _Alignas(64) atomic_int_fast64_t next;
    int64_t end;
};

struct pool {
    int threads, started;
    int spins;
    bool quit;
    pthread_mutex_t turn; /* one caller at a time */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_int sleepers;
    atomic_bool waiting;
    _Alignas(64) atomic_uint_fast64_t state;
    _Alignas(64) atomic_bool stopped;
    /* The run; written while the state is closed and nobody inside. */
    pool_fn fn;
    void *ctx;
    const atomic_int *stop;
    struct pool_share *shares; /* [threads] */
    struct member members[];
};

static void relax(void)
{
#if defined(__x86_64__)
    __asm__ volatile("pause");
#endif
}

/* A run is cut short only where it has tiles left. */
static void cut_short(struct pool *p)
{
    for (int i = 0; i < p->threads; i++)
        if (atomic_load_explicit(&p->shares[i].next, memory_order_relaxed) < p->shares[i].end)
            atomic_store_explicit(&p->stopped, true, memory_order_relaxed);
}

static void work(struct pool *p, int index)
{
    for (int i = 0; i < p->threads; i++) {
        struct pool_share *s = &p->shares[(index + i) % p->threads];
        /* looked at before it is added to: shares that are empty stay in everybody's cache */
        while (atomic_load_explicit(&s->next, memory_order_relaxed) < s->end) {
            if (p->stop && atomic_load_explicit(p->stop, memory_order_relaxed)) {
                cut_short(p);
                return;
            }
            int64_t tile = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
            if (tile < s->end)
                p->fn(p->ctx, tile, index);
        }
    }
}

static void share_out(struct pool *p, int64_t tiles)
{
    int64_t each = tiles / p->threads, more = tiles % p->threads, next = 0;
    for (int i = 0; i < p->threads; i++) {
        struct pool_share *s = &p->shares[i];
        s->end = next + each + (i < more);
        atomic_store(&s->next, next);
        next = s->end;
    }
}

/* Enters the run of generation `seen` if it is still open. */
static bool enter(struct pool *p, uint64_t state)
{
    while (state & OPEN) {
        uint64_t was = state;
        if (atomic_compare_exchange_weak(&p->state, &state, state + 1))
            return true;
        if (state / GENERATION != was / GENERATION)
            return false;
    }
    return false;
}

static void leave(struct pool *p)
{
    uint64_t state = atomic_fetch_sub(&p->state, 1) - 1;
    if ((state & INSIDE) || (state & OPEN) || !atomic_load(&p->waiting))
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->lock);
}

/* The state once its generation differs from `seen`; false to quit. */
static bool next_state(struct pool *p, uint64_t seen, uint64_t *ret)
{
    for (int i = 0; i < p->spins; i++) {
        *ret = atomic_load(&p->state);
        if (*ret / GENERATION != seen)
            return true;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while ((*ret = atomic_load(&p->state)) / GENERATION == seen && !p->quit)
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    bool quit = p->quit;
    pthread_mutex_unlock(&p->lock);
    return !quit;
}

static void *thread_main(void *arg)
{
    struct member *m = arg;
    struct pool *p = m->pool;
    uint64_t seen = 0, state;
    fesetenv(FE_DFL_ENV);
    while (next_state(p, seen, &state)) {
        seen = state / GENERATION;
        if (!enter(p, state))
            continue;
        work(p, m->index);
        leave(p);
    }
    return NULL;
}

static void run_open(struct pool *p)
{
    uint64_t generation = atomic_load(&p->state) / GENERATION + 1;
    atomic_store(&p->state, (generation & 0xffffffffu) * GENERATION | OPEN);
    if (atomic_load(&p->sleepers)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
}

static void run_close(struct pool *p)
{
    uint64_t state = atomic_fetch_and(&p->state, ~(uint64_t)OPEN);
    for (int i = 0; (state & INSIDE) && i < p->spins; i++) {
        relax();
        state = atomic_load(&p->state);
    }
    if (!(state & INSIDE))
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->waiting, true);
    while (atomic_load(&p->state) & INSIDE)
        pthread_cond_wait(&p->done, &p->lock);
    atomic_store(&p->waiting, false);
    pthread_mutex_unlock(&p->lock);
}

int pool_run(struct pool *p, pool_fn fn, void *ctx, int64_t tiles, const atomic_int *stop)
{
    fenv_t env;
    pthread_mutex_lock(&p->turn);
    p->fn = fn;
    p->ctx = ctx;
    p->stop = stop;
    share_out(p, tiles);
    atomic_store(&p->stopped, false);
    fegetenv(&env);
    fesetenv(FE_DFL_ENV);
    bool shared = p->started && tiles > 1;
    if (shared)
        run_open(p);
    work(p, 0);
    if (shared)
        run_close(p);
    fesetenv(&env);
    bool cut = atomic_load(&p->stopped);
    pthread_mutex_unlock(&p->turn);
    return cut ? DR_ECANCELED : 0;
}

/* Thread i on the i-th processor of the mask; a failure to pin is no failure. */
static void pin(pthread_t id, int index)
{
    cpu_set_t mask, one;
    CPU_ZERO(&mask);
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof mask, &mask))
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &mask) && index-- == 0) {
            CPU_SET(cpu, &one);
            pthread_setaffinity_np(id, sizeof one, &one);
            return;
        }
}

int pool_new(int threads, struct pool **ret, struct dr_error *err)
{
    if (threads < 1 || threads > THREADS_MAX)
        return dr_fail(err, DR_EINVAL, "threads: got %d, expected 1 to %d", threads, THREADS_MAX);
    struct pool *p = dr_calloc(DR_TAG_BASE, 1, sizeof *p + (size_t)threads * sizeof p->members[0]);
    struct pool_share *shares = dr_calloc(DR_TAG_BASE, (size_t)threads, sizeof *shares);
    if (!p || !shares) {
        dr_free(p);
        dr_free(shares);
        return dr_fail(err, DR_ENOMEM, "out of memory for threads");
    }
    p->shares = shares;
    p->threads = threads;
    p->spins = threads <= cpu_count() ? SPINS : 0;
    pthread_mutex_init(&p->turn, NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    for (int i = 1; i < threads; i++) {
        struct member *m = &p->members[i];
        m->pool = p;
        m->index = i;
        if (pthread_create(&m->id, NULL, thread_main, m)) {
            pool_free(p);
            return dr_fail(err, DR_ENOMEM, "cannot start %d threads", threads);
        }
        p->started++;
        if (threads == cpu_affinity_count())
            pin(m->id, i);
    }
    *ret = p;
    return 0;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    atomic_fetch_add(&p->state, GENERATION); /* ends the spinning */
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->members[i].id, NULL);
    pthread_mutex_destroy(&p->turn);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->done);
    dr_free(p->shares);
    dr_free(p);
}

int cpu_affinity_count(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

int cpu_count(void)
{
    return system_cpu_quota("", cpu_affinity_count());
}
