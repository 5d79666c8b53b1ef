/* peak.c - see peak.h. A round is one tile for every thread of the pool, each begun when all have
 * come and timed by the clock of the thread that runs it: a neighbour that takes the processor away
 * for a while is not the machine, one that shares its core is. */
#include "backend/cpu/peak.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu/cpu.h"

enum { ROUNDS = 6, PIECES = 16, TURNS = 30000, ADDITIONS = 200000, THREADS_MOST = 1024 };

const char *cpu_peak_family(int family)
{
    return family >= 0 && family < cpu_arch.n_families ? cpu_arch.families[family].name : NULL;
}

bool cpu_peak_usable(int family)
{
    return cpu_peak_family(family) && !(cpu_arch.families[family].needs & ~cpu_arch.features());
}

int cpu_peak_family_of(const struct kernel_set *set)
{
    const char *name;
    for (int f = 0; set->family && (name = cpu_peak_family(f)); f++)
        if (!strcmp(name, set->family))
            return f;
    return -1;
}

/* ---- a round ---- */

struct share {
    double instructions, seconds; /* of the loop */
    double hz;                    /* the median of the pieces: an interrupt is not the clock */
};

struct round {
    const struct peak_family *family;
    int threads;
    float seed[CPU_PEAK_SEEDS];
    atomic_int arrived;
    struct share share[THREADS_MOST]; /* by tile */
};

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(void *ctx, int64_t tile, int thread)
{
    (void)thread;
    struct round *r = ctx;
    struct share s = { 0 };
    double hz[PIECES];
    int64_t x = tile, y = 3;
    float sink;
    atomic_fetch_add(&r->arrived, 1);
    while (atomic_load(&r->arrived) < r->threads)
        sched_yield();
    for (int i = 0; i < PIECES; i++) {
        double start = thread_seconds();
        s.instructions += r->family->loop(TURNS, r->seed, &sink);
        double between = thread_seconds();
        x = cpu_arch.add_chain(ADDITIONS, x, y);
        hz[i] = ADDITIONS / (thread_seconds() - between);
        s.seconds += between - start;
    }
    qsort(hz, PIECES, sizeof *hz, by_value);
    s.hz = hz[PIECES / 2];
    r->share[tile] = s;
}

/* What the threads did, as if each had a core of its own; more threads than cores add nothing. */
static struct device_peak round_result(const struct round *r)
{
    int cores = cpu_affinity_count();
    struct device_peak p = { 0 };
    for (int i = 0; i < r->threads; i++) {
        const struct share *s = &r->share[i];
        if (!(s->seconds > 0))
            return (struct device_peak){ 0 };
        double rate = s->instructions / s->seconds;
        p.flops += rate * r->family->flops;
        p.hz += s->hz / r->threads;
        p.instructions += rate / s->hz / r->threads;
    }
    if (r->threads > cores)
        p.flops *= (double)cores / r->threads;
    p.per_cycle = p.instructions * r->family->flops;
    return p;
}

static void seed_round(struct round *r)
{
    uint32_t state = 1;
    for (int i = 0; i < CPU_PEAK_SEEDS; i++) {
        state = state * 1664525u + 1013904223u;
        r->seed[i] = (float)(state >> 8) * 0x1p-24f;
    }
}

struct device_peak cpu_peak_measure(struct backend *be, int family)
{
    struct cpu_backend *cpu = (struct cpu_backend *)be;
    struct device_peak best = { 0 };
    int threads = cpu->base.threads;
    if (!cpu_peak_usable(family))
        return best;
    struct round *r = dr_malloc(DR_TAG_BASE, sizeof *r);
    if (!r)
        return best;
    r->family = &cpu_arch.families[family];
    r->threads = threads < THREADS_MOST ? threads : THREADS_MOST;
    seed_round(r);
    for (int i = 0; i < ROUNDS; i++) {
        atomic_store(&r->arrived, 0);
        pool_run(cpu->pool, measure, r, r->threads, NULL);
        struct device_peak p = round_result(r);
        if (p.flops > best.flops)
            best = p;
    }
    dr_free(r);
    return best;
}
