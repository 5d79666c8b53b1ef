/* peak.c - see peak.h. A round is a few tiles for every thread of the pool, timed together, so that
 * one that starts late or is held up for a moment does not count against the machine. */
#include "backend/cpu/peak.h"

#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/features.h"
#include "base/clock.h"

enum { SEEDS = 512, ROUNDS = 6, TILES = 8, TURNS = 200000 };

struct round {
    double (*loop)(int64_t turns, const float *seed, float *ret_sink);
    float seed[SEEDS];
    _Atomic double flops;
};

static void measure(void *ctx, int64_t tile, int thread)
{
    (void)tile;
    (void)thread;
    struct round *r = ctx;
    float sink;
    double flops = r->loop(TURNS, r->seed, &sink), was = r->flops;
    while (!atomic_compare_exchange_weak(&r->flops, &was, was + flops))
        ;
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
        r.flops = 0;
        double start = dr_now();
        pool_run(cpu->pool, measure, &r, (int64_t)TILES * cpu->base.threads, NULL);
        double rate = r.flops / (dr_now() - start);
        if (rate > best)
            best = rate;
    }
    return best;
}
