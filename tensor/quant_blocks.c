/* quant_blocks.c - see quant_blocks.h. Numbers are unpacked 32 at a time, which every type has in
 * common: a block of 32, or an eighth of one of 256. Plain loops: the compiler takes many elements
 * at once. */
#include "tensor/quant_blocks.h"

#include <string.h>

enum { GROUP = 32 };

static float half_at(const uint8_t *p)
{
    float f;
    dtype_to_f32(&f, p, DTYPE_F16, 1);
    return f;
}

/* ---- blocks of 32 ---- */

/* The low or high four bits of 16 bytes, and the reverse: elements 0..15, then 16..31. */
static void nibbles(const uint8_t *p, uint8_t dst[GROUP])
{
    for (int i = 0; i < GROUP / 2; i++) {
        dst[i] = p[i] & 15;
        dst[i + GROUP / 2] = p[i] >> 4;
    }
}

/* One more bit above the four: bit i of a little-endian word belongs to element i. */
static void fifth_bits(const uint8_t *p, uint8_t dst[GROUP])
{
    for (int i = 0; i < GROUP; i++)
        dst[i] = (uint8_t)(dst[i] | (p[i / 8] >> (i % 8) & 1) << 4);
}

static void scaled(float *dst, const uint8_t q[GROUP], int offset, float d)
{
    for (int i = 0; i < GROUP; i++)
        dst[i] = d * (float)(q[i] - offset);
}

static void scaled_above(float *dst, const uint8_t q[GROUP], float d, float minimum)
{
    for (int i = 0; i < GROUP; i++)
        dst[i] = d * (float)q[i] + minimum;
}

static void q4_0(const uint8_t *b, int group, float *dst)
{
    uint8_t q[GROUP];
    (void)group;
    nibbles(b + 2, q);
    scaled(dst, q, 8, half_at(b));
}

static void q4_1(const uint8_t *b, int group, float *dst)
{
    uint8_t q[GROUP];
    (void)group;
    nibbles(b + 4, q);
    scaled_above(dst, q, half_at(b), half_at(b + 2));
}

static void q5_0(const uint8_t *b, int group, float *dst)
{
    uint8_t q[GROUP];
    (void)group;
    nibbles(b + 6, q);
    fifth_bits(b + 2, q);
    scaled(dst, q, 16, half_at(b));
}

static void q5_1(const uint8_t *b, int group, float *dst)
{
    uint8_t q[GROUP];
    (void)group;
    nibbles(b + 8, q);
    fifth_bits(b + 4, q);
    scaled_above(dst, q, half_at(b), half_at(b + 2));
}

static void q8_0(const uint8_t *b, int group, float *dst)
{
    float d = half_at(b);
    (void)group;
    for (int i = 0; i < GROUP; i++)
        dst[i] = (float)(int8_t)b[2 + i] * d;
}

/* ---- blocks of 256 ---- */

/* Two bits of each of 32 bytes: groups 0..3 share the first 32 bytes, 4..7 the next. */
static void two_bits(const uint8_t *p, int group, uint8_t dst[GROUP])
{
    const uint8_t *from = p + GROUP * (group / 4);
    for (int i = 0; i < GROUP; i++)
        dst[i] = from[i] >> (2 * (group % 4)) & 3;
}

/* Four bits of each of 32 bytes, two groups to them. */
static void four_bits(const uint8_t *p, int group, uint8_t dst[GROUP])
{
    const uint8_t *from = p + GROUP * (group / 2);
    for (int i = 0; i < GROUP; i++)
        dst[i] = from[i] >> (4 * (group % 2)) & 15;
}

/* scales [16], four bits of scale and four of minimum each; numbers [64]; d; d of the minima */
static void q2_k(const uint8_t *b, int group, float *dst)
{
    uint8_t q[GROUP];
    float d = half_at(b + 80), dmin = half_at(b + 82);
    two_bits(b + 16, group, q);
    for (int half = 0; half < 2; half++) {
        uint8_t s = b[2 * group + half];
        float scale = d * (float)(s & 15), minimum = dmin * (float)(s >> 4);
        for (int i = 16 * half; i < 16 * half + 16; i++)
            dst[i] = scale * (float)q[i] - minimum;
    }
}

/* high bits [32], group by group from the lowest bit; low bits [64]; scales [12], six bits each; d
 * */
static void q3_k(const uint8_t *b, int group, float *dst)
{
    uint8_t q[GROUP];
    const uint8_t *s = b + 96;
    float d = half_at(b + 108);
    two_bits(b + 32, group, q);
    for (int half = 0; half < 2; half++) {
        int j = 2 * group + half;
        int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
        int high = s[8 + j % 4] >> (2 * (j / 4)) & 3;
        float scale = d * (float)((low | high << 4) - 32);
        for (int i = 16 * half; i < 16 * half + 16; i++)
            dst[i] = scale * (float)(q[i] - (b[i] >> group & 1 ? 0 : 4));
    }
}

/* Six bits of scale and of minimum for each of eight groups, in 12 bytes: the first four of each
 * whole, the others in the high two bits of these and four bits of the last bytes. */
static void scale_and_minimum(const uint8_t s[12], int group, int *ret_scale, int *ret_minimum)
{
    if (group < 4) {
        *ret_scale = s[group] & 63;
        *ret_minimum = s[group + 4] & 63;
    } else {
        *ret_scale = (s[group + 4] & 15) | (s[group - 4] >> 6) << 4;
        *ret_minimum = s[group + 4] >> 4 | (s[group] >> 6) << 4;
    }
}

/* What q4_k and q5_k have in common: d, d of the minima, scales and minima. */
static void scaled_k(const uint8_t *b, int group, const uint8_t q[GROUP], float *dst)
{
    int s, m;
    scale_and_minimum(b + 4, group, &s, &m);
    float scale = half_at(b) * (float)s, minimum = half_at(b + 2) * (float)m;
    for (int i = 0; i < GROUP; i++)
        dst[i] = scale * (float)q[i] - minimum;
}

static void q4_k(const uint8_t *b, int group, float *dst)
{
    uint8_t q[GROUP];
    four_bits(b + 16, group, q);
    scaled_k(b, group, q, dst);
}

static void q5_k(const uint8_t *b, int group, float *dst)
{
    uint8_t q[GROUP];
    const uint8_t *high = b + 16;
    four_bits(b + 48, group, q);
    for (int i = 0; i < GROUP; i++)
        q[i] = (uint8_t)(q[i] | (high[i] >> group & 1) << 4);
    scaled_k(b, group, q, dst);
}

/* low four bits [128]; high two [64]; scales [16] int8; d */
static void q6_k(const uint8_t *b, int group, float *dst)
{
    uint8_t high[GROUP];
    const uint8_t *low = b + 64 * (group / 4) + GROUP * (group % 2);
    const int8_t *scales = (const int8_t *)b + 192;
    float d = half_at(b + 208);
    int shift = 4 * (group % 4 / 2);
    two_bits(b + 128, group, high);
    for (int half = 0; half < 2; half++) {
        float scale = d * (float)scales[2 * group + half];
        for (int i = 16 * half; i < 16 * half + 16; i++)
            dst[i] = scale * (float)((low[i] >> shift & 15) + 16 * high[i] - 32);
    }
}

/* ---- reading ---- */

/* Elements [GROUP * group, GROUP * (group + 1)) of one block. */
typedef void group_fn(const uint8_t *block, int group, float *dst);

static group_fn *group_of(enum dtype t)
{
    switch (t) {
    case DTYPE_Q4_0:
        return q4_0;
    case DTYPE_Q4_1:
        return q4_1;
    case DTYPE_Q5_0:
        return q5_0;
    case DTYPE_Q5_1:
        return q5_1;
    case DTYPE_Q8_0:
        return q8_0;
    case DTYPE_Q2_K:
        return q2_k;
    case DTYPE_Q3_K:
        return q3_k;
    case DTYPE_Q4_K:
        return q4_k;
    case DTYPE_Q5_K:
        return q5_k;
    default:
        return q6_k;
    }
}

void blocks_to_f32(float *dst, const void *src, enum dtype t, int64_t first, int64_t n)
{
    group_fn *read = group_of(t);
    int64_t groups = dtype_block(t) / GROUP;
    size_t size = dtype_size(t);
    float whole[GROUP];
    while (n > 0) {
        int64_t group = first / GROUP, skip = first % GROUP;
        int64_t count = GROUP - skip < n ? GROUP - skip : n;
        const uint8_t *block = (const uint8_t *)src + (size_t)(group / groups) * size;
        if (count == GROUP) {
            read(block, (int)(group % groups), dst);
        } else {
            read(block, (int)(group % groups), whole);
            memcpy(dst, whole + skip, (size_t)count * sizeof *dst);
        }
        dst += count;
        first += count;
        n -= count;
    }
}
