/* rng.h - normal random numbers, the ones that torch draws.
 *
 * DR_RNG_CPU is torch's CPUGeneratorImpl: mt19937 (Matsumoto and Nishimura 1998) seeded with the
 * low 32 bits of the seed, and torch.randn's two paths: from 16 values on, 24-bit uniforms through
 * Box-Muller in blocks of 16; below, 53-bit uniforms with the second value of each pair cached
 * across calls. The integer stream and what each call consumes are exact; values agree to 2e-6
 * absolute (torch's own builds differ by 1.4e-6). DR_RNG_CUDA is torch's CUDAGeneratorImpl with the
 * kernel of normal_: Philox 4x32-10 (Salmon et al. 2011), see rng.c.
 *
 * The state is flat: memcpy saves it, memcpy restores it.
 */
#ifndef DR_BASE_RNG_H
#define DR_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

enum dr_rng_kind {
    DR_RNG_CPU,
    DR_RNG_CUDA,
};

enum { DR_RNG_WORDS = 624 };

struct dr_rng {
    uint64_t seed;
    uint64_t offset; /* CUDA: numbers drawn per thread, a multiple of 4 */
    double cached;   /* CPU: the second normal of a pair, when has_cached */
    int32_t kind;    /* enum dr_rng_kind */
    int32_t has_cached;
    uint32_t index;              /* CPU: next word; DR_RNG_WORDS: twist first */
    uint32_t reserved;           /* 0 */
    uint32_t word[DR_RNG_WORDS]; /* CPU */
};

/* Deterministic: the state after it depends on kind and seed only, padding included. */
void dr_rng_seed(struct dr_rng *g, enum dr_rng_kind kind, uint64_t seed);

/* torch.randn(n, generator=g) in float32: mean 0, variance 1. n 0 draws nothing. */
void dr_rng_normal(struct dr_rng *g, float *dst, size_t n);

/* Of dr_rng_normal(g, .., total) the n values from `first` on; the generator is where that leaves
 * it. */
void dr_rng_normal_part(struct dr_rng *g, float *dst, size_t first, size_t n, size_t total);

/* The raw 32-bit stream of a CPU generator (torch's random()). */
uint32_t dr_rng_u32(struct dr_rng *g);

/* One Philox 4x32-10 block: counter and key to four words. */
void dr_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t ret_words[4]);

/* A seed nobody chose, from the operating system. Below 2^32, which is all that torch's CPU
 * generator reads, and exact in programs that keep numbers as doubles. */
uint32_t dr_rng_entropy(void);

#endif
