/* rng.c - see rng.h.
 *
 * CPU, from torch 2.15's ATen/native/cpu/DistributionTemplates.h (normal_fill, normal_kernel) and
 * ATen/core/DistributionsHelper.h (normal_distribution<double>):
 *   16 values or more: each value first gets a uniform u = (word mod 2^24) / 2^24. Each block of 16
 *   pairs its j-th u with its (j+8)-th: radius sqrt(-2 ln(1-u1)), angle 2 pi u2, cosine at j and
 *   sine at j+8. When n is not a multiple of 16, the last 16 values get fresh uniforms and are
 *   transformed again.
 *   Fewer: per pair u1, u2 of 53 bits from two words each (high word first), radius
 *   sqrt(-2 ln(1-u2)), angle 2 pi u1; the cosine is returned, the sine is kept for the next value
 *   drawn this way, in whichever call.
 *
 * CUDA, from ATen/native/cuda/DistributionTemplates.h and curand: the seed is the key; element i
 * reads the counter (offset/4, i), offset and i 64 bits each, low word first, and makes the first
 * output of curand_normal4 from words 0 and 1. Each call advances the offset by 4. torch gives
 * elements beyond one grid (256 threads times the blocks that the device holds at once, over
 * 100,000 on most) the further outputs of an earlier thread; here they get a subsequence of their
 * own, so that a picture does not depend on the device's size.
 */
#include "base/rng.h"

#include <math.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/dmath.h"

enum { SHIFT = 397, BLOCK = 16, HALF = BLOCK / 2, CUDA_STEP = 4 };

static const double two_pi = 0x1.921fb54442d18p+2;

void dr_rng_seed(struct dr_rng *g, enum dr_rng_kind kind, uint64_t seed)
{
    memset(g, 0, sizeof *g);
    g->seed = seed;
    g->kind = (int32_t)kind;
    g->index = DR_RNG_WORDS;
    if (kind != DR_RNG_CPU)
        return;
    g->word[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < DR_RNG_WORDS; i++)
        g->word[i] = 1812433253u * (g->word[i - 1] ^ g->word[i - 1] >> 30) + i;
}

/* All words anew. */
static void twist(struct dr_rng *g)
{
    uint32_t *w = g->word;
    for (int i = 0; i < DR_RNG_WORDS; i++) {
        uint32_t y = (w[i] & 0x80000000u) | (w[(i + 1) % DR_RNG_WORDS] & 0x7fffffffu);
        w[i] = w[(i + SHIFT) % DR_RNG_WORDS] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    g->index = 0;
}

uint32_t dr_rng_u32(struct dr_rng *g)
{
    if (g->index >= DR_RNG_WORDS)
        twist(g);
    uint32_t y = g->word[g->index++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

static float uniform_24(struct dr_rng *g)
{
    return (float)(dr_rng_u32(g) & 0xffffffu) * 0x1p-24f;
}

static double uniform_53(struct dr_rng *g)
{
    uint64_t high = dr_rng_u32(g);
    uint64_t both = high << 32 | dr_rng_u32(g);
    return (double)(both & 0x1fffffffffffffu) * 0x1p-53;
}

/* Box-Muller in place: uniforms in, normals out. The angle is rounded to float, as torch's is. */
static void transform_block(float v[BLOCK])
{
    for (int j = 0; j < HALF; j++) {
        double radius = sqrt(-2 * dr_log(1 - (double)v[j]));
        float angle = (float)two_pi * v[j + HALF];
        v[j] = (float)(radius * dr_cos(angle));
        v[j + HALF] = (float)(radius * dr_sin(angle));
    }
}

static void fill_blocks(struct dr_rng *g, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = uniform_24(g);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK)
        transform_block(dst + i);
    if (n % BLOCK == 0)
        return;
    float *last = dst + n - BLOCK;
    for (int i = 0; i < BLOCK; i++)
        last[i] = uniform_24(g);
    transform_block(last);
}

static float next_single(struct dr_rng *g)
{
    if (g->has_cached) {
        float kept = (float)g->cached;
        g->has_cached = 0;
        g->cached = 0;
        return kept;
    }
    double u1 = uniform_53(g), u2 = uniform_53(g);
    double radius = sqrt(-2 * dr_log1p(-u2)), angle = two_pi * u1;
    g->cached = radius * dr_sin(angle);
    g->has_cached = 1;
    return (float)(radius * dr_cos(angle));
}

void dr_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t ret_words[4])
{
    uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xd2511f53u * a, q = (uint64_t)0xcd9e8d57u * c;
        a = (uint32_t)(q >> 32) ^ b ^ k0;
        b = (uint32_t)q;
        c = (uint32_t)(p >> 32) ^ d ^ k1;
        d = (uint32_t)p;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    ret_words[0] = a;
    ret_words[1] = b;
    ret_words[2] = c;
    ret_words[3] = d;
}

/* curand's _curand_box_muller, first output: u in (0, 1], angle in (0, 2 pi], both rounded to
 * float; the sine. */
static float cuda_normal(uint32_t x, uint32_t y)
{
    const float turn = (float)(two_pi * 0x1p-32);
    float u = (float)((double)(float)x * 0x1p-32 + 0x1p-33);
    float angle = (float)((double)(float)y * turn + (double)(turn / 2));
    return (float)(sqrt(-2 * dr_log(u)) * dr_sin(angle));
}

static void fill_cuda(struct dr_rng *g, float *dst, size_t first, size_t n)
{
    uint64_t at = g->offset / CUDA_STEP;
    const uint32_t key[2] = { (uint32_t)g->seed, (uint32_t)(g->seed >> 32) };
    for (uint64_t i = first; i < first + n; i++) {
        const uint32_t counter[4] = { (uint32_t)at, (uint32_t)(at >> 32), (uint32_t)i,
                                      (uint32_t)(i >> 32) };
        uint32_t words[4];
        dr_philox(counter, key, words);
        dst[i - first] = cuda_normal(words[0], words[1]);
    }
    g->offset += n ? CUDA_STEP : 0;
}

void dr_rng_normal(struct dr_rng *g, float *dst, size_t n)
{
    if (g->kind == DR_RNG_CUDA) {
        fill_cuda(g, dst, 0, n);
    } else if (n >= BLOCK) {
        fill_blocks(g, dst, n);
    } else {
        for (size_t i = 0; i < n; i++)
            dst[i] = next_single(g);
    }
}

/* What of a block that begins at `at` lies in the part. */
static void keep(float *dst, size_t first, size_t n, const float block[BLOCK], size_t at)
{
    for (size_t i = 0; i < BLOCK; i++)
        if (at + i >= first && at + i < first + n)
            dst[at + i - first] = block[i];
}

void dr_rng_normal_part(struct dr_rng *g, float *dst, size_t first, size_t n, size_t total)
{
    if (g->kind == DR_RNG_CUDA) {
        fill_cuda(g, dst, first, n);
        return;
    }
    for (size_t i = 0; total < BLOCK && i < total; i++) {
        float v = next_single(g);
        if (i >= first && i < first + n)
            dst[i - first] = v;
    }
    float block[BLOCK];
    for (size_t at = 0; total >= BLOCK && at < total; at += BLOCK) {
        size_t count = total - at < BLOCK ? total - at : BLOCK;
        for (size_t i = 0; i < count; i++)
            block[i] = uniform_24(g);
        if (count < BLOCK) { /* the last 16 anew */
            at = total - BLOCK;
            for (size_t i = 0; i < BLOCK; i++)
                block[i] = uniform_24(g);
        }
        transform_block(block);
        keep(dst, first, n, block, at);
    }
}

uint32_t dr_rng_entropy(void)
{
    uint32_t seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        double now = dr_epoch() + dr_now();
        memcpy(&seed, &now, sizeof seed);
        seed ^= (uint32_t)getpid() << 16;
    }
    return seed;
}
