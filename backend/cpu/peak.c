/* peak.c - see peak.h. A round is a few tiles for every thread of the pool, each timed by the clock
 * of the thread that runs it: a neighbour that takes the processor away for a while is not the
 * machine, one that shares its core is. */
#include "backend/cpu/peak.h"

#include <string.h>
#include <time.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/features.h"

enum { SEEDS = 512, ROUNDS = 6, TILES = 8, TURNS = 200000 };

struct round {
    double (*loop)(int64_t turns, const float *seed, float *ret_sink);
    float seed[SEEDS];
    _Atomic double flops, seconds; /* over all tiles */
};

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void add_to(_Atomic double *sum, double x)
{
    double was = *sum;
    while (!atomic_compare_exchange_weak(sum, &was, was + x))
        ;
}

static void measure(void *ctx, int64_t tile, int thread)
{
    (void)tile;
    (void)thread;
    struct round *r = ctx;
    float sink;
    double start = thread_seconds(), flops = r->loop(TURNS, r->seed, &sink);
    add_to(&r->seconds, thread_seconds() - start);
    add_to(&r->flops, flops);
}

double cpu_peak(struct backend *be)
{
    struct cpu_backend *cpu = (struct cpu_backend *)(be->inner ? be->inner : be);
    struct round r = { .loop = NULL };
    double best = 0;
    uint32_t state = 1;
    if (cpu_features() & CPU_AVX2)
        r.loop = cpu_peak_loop__avx2;
    if ((cpu_features() & CPU_AVX512) && !strcmp(cpu->base.set, "avx512"))
        r.loop = cpu_peak_loop__avx512;
    if (!r.loop)
        return 0;
    for (int i = 0; i < SEEDS; i++) {
        state = state * 1664525u + 1013904223u;
        r.seed[i] = (float)(state >> 8) * 0x1p-24f;
    }
    for (int i = 0; i < ROUNDS; i++) {
        r.flops = r.seconds = 0;
        pool_run(cpu->pool, measure, &r, (int64_t)TILES * cpu->base.threads, NULL);
        double rate = r.seconds > 0 ? cpu->base.threads * r.flops / r.seconds : 0;
        if (rate > best)
            best = rate;
    }
    return best;
}
