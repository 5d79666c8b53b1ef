/* peak.c - see peak.h. A round is one tile for every thread of the pool, each begun when all have
 * come and timed by the clock of the thread that runs it: a neighbour that takes the processor away
 * for a while is not the machine, one that shares its core is. */
#include "backend/cpu/peak.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/x86/features.h"

enum { ROUNDS = 6, PIECES = 16, TURNS = 30000, ADDITIONS = 200000, THREADS_MOST = 1024 };

static const struct family {
    const char *name;
    unsigned needs;
    double flops;
    cpu_peak_loop *loop;
} families[] = {
#define FAMILY(name, needs, flops) { #name, needs, flops, cpu_peak_loop__##name },
#include "backend/cpu/x86/peaks.def"
};
enum { FAMILIES = sizeof families / sizeof *families };

static const struct {
    const char *set, *family;
} sets[] = {
#define OF(set, family) { #set, #family },
#include "backend/cpu/x86/peaks.def"
};

const char *cpu_peak_family(int family)
{
    return family >= 0 && family < FAMILIES ? families[family].name : NULL;
}

bool cpu_peak_usable(int family)
{
    return cpu_peak_family(family) && !(families[family].needs & ~cpu_features());
}

int cpu_peak_family_of(const char *kernel_set)
{
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        for (int f = 0; f < FAMILIES && !strcmp(sets[i].set, kernel_set); f++)
            if (!strcmp(families[f].name, sets[i].family))
                return f;
    return -1;
}

/* ---- a round ---- */

struct share {
    double instructions, seconds; /* of the loop */
    double hz;                    /* the median of the pieces: an interrupt is not the clock */
};

struct round {
    const struct family *family;
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

/* Each addition waits for the last. The operand is in a register: some processors add small
 * constants for nothing. */
static int64_t add_chain(int64_t additions, int64_t x, int64_t y)
{
    enum { UNROLLED = 20 };
#if defined(__x86_64__)
#define ADD "add %1, %0\n\t"
#define ADD5 ADD ADD ADD ADD ADD
    for (int64_t i = 0; i < additions / UNROLLED; i++)
        __asm__ volatile(ADD5 ADD5 ADD5 ADD5 : "+r"(x) : "r"(y));
#undef ADD5
#undef ADD
#else
    for (int64_t i = 0; i < additions; i++) {
        x += y;
        __asm__ volatile("" : "+r"(x));
    }
#endif
    return x;
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
        x = add_chain(ADDITIONS, x, y);
        hz[i] = ADDITIONS / (thread_seconds() - between);
        s.seconds += between - start;
    }
    qsort(hz, PIECES, sizeof *hz, by_value);
    s.hz = hz[PIECES / 2];
    r->share[tile] = s;
}

/* What the threads did, as if each had a core of its own; more threads than cores add nothing. */
static struct cpu_peak round_result(const struct round *r)
{
    int cores = cpu_affinity_count();
    struct cpu_peak p = { 0 };
    for (int i = 0; i < r->threads; i++) {
        const struct share *s = &r->share[i];
        if (!(s->seconds > 0))
            return (struct cpu_peak){ 0 };
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

struct cpu_peak cpu_peak_measure(struct backend *be, int family)
{
    struct cpu_backend *cpu = (struct cpu_backend *)(be->inner ? be->inner : be);
    struct cpu_peak best = { 0 };
    int threads = cpu->base.threads;
    if (!cpu_peak_usable(family))
        return best;
    struct round *r = dr_malloc(DR_TAG_BASE, sizeof *r);
    if (!r)
        return best;
    r->family = &families[family];
    r->threads = threads < THREADS_MOST ? threads : THREADS_MOST;
    seed_round(r);
    for (int i = 0; i < ROUNDS; i++) {
        atomic_store(&r->arrived, 0);
        pool_run(cpu->pool, measure, r, r->threads, NULL);
        struct cpu_peak p = round_result(r);
        if (p.flops > best.flops)
            best = p;
    }
    dr_free(r);
    return best;
}

double cpu_peak(struct backend *be)
{
    return cpu_peak_measure(be, cpu_peak_family_of(backend_kernel_set(be))).flops;
}
