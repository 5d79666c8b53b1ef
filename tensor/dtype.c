/* dtype.c - see dtype.h. Plain integer arithmetic: the same bits on every processor. */
#include "tensor/dtype.h"

#include <string.h>

#include "base/checked.h"
#include "tensor/quant_blocks.h"

size_t dtype_size(enum dtype t)
{
    static const size_t sizes[] = {
#define X(name, text, bytes, block, real) bytes,
#include "tensor/dtypes.def"
#undef X
    };
    return sizes[t];
}

int64_t dtype_block(enum dtype t)
{
    static const int16_t blocks[] = {
#define X(name, text, bytes, block, real) block,
#include "tensor/dtypes.def"
#undef X
    };
    return blocks[t];
}

bool dtype_bytes(enum dtype t, int64_t count, int64_t *ret)
{
    int64_t block = dtype_block(t);
    return dr_mul_i64(count / block + (count % block != 0), (int64_t)dtype_size(t), ret);
}

bool dtype_is_real(enum dtype t)
{
    static const bool reals[] = {
#define X(name, text, bytes, block, real) real,
#include "tensor/dtypes.def"
#undef X
    };
    return reals[t];
}

static const char *const names[] = {
#define X(name, text, bytes, block, real) text,
#include "tensor/dtypes.def"
#undef X
};

const char *dtype_name(enum dtype t)
{
    return names[t];
}

bool dtype_from_name(const char *name, size_t len, enum dtype *ret)
{
    for (int t = 0; t < DTYPE_COUNT; t++) {
        if (strlen(names[t]) == len && !memcmp(names[t], name, len)) {
            *ret = (enum dtype)t;
            return true;
        }
    }
    return false;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* A small float of e exponent and m mantissa bits (after the sign) with the given bias, widened
 * exactly. `special` is the all-ones exponent: infinities and NaN, but for E4M3, where only the top
 * code is NaN. */
static float widen(uint32_t x, int e, int m, int bias, bool infinities)
{
    uint32_t sign = (x >> (e + m)) << 31;
    uint32_t exponent = (x >> m) & ((1u << e) - 1);
    uint32_t mantissa = x & ((1u << m) - 1);
    uint32_t top = (1u << e) - 1;
    if (exponent == top && (infinities || mantissa == (1u << m) - 1))
        return from_bits(sign | 0x7f800000u | (infinities ? mantissa << (23 - m) : 0x400000u));
    if (exponent)
        return from_bits(sign | (exponent + 127u - (uint32_t)bias) << 23 | mantissa << (23 - m));
    if (!mantissa)
        return from_bits(sign);
    int shift = 0;
    while (!(mantissa & (1u << m))) {
        mantissa <<= 1;
        shift++;
    }
    mantissa &= (1u << m) - 1;
    return from_bits(sign | (uint32_t)(128 - bias - shift) << 23 | mantissa << (23 - m));
}

/* The reverse, to nearest even. Overflow: infinity where there is one, else NaN. */
static uint32_t narrow(float f, int e, int m, int bias, bool infinities)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = (u >> 31) << (e + m);
    uint32_t mag = u & 0x7fffffffu;
    uint32_t top = ((1u << e) - 1) << m;
    uint32_t nan = infinities ? top | 1u << (m - 1) : top | ((1u << m) - 1);
    uint32_t over = infinities ? top : nan;
    if (mag > 0x7f800000u)
        return sign | nan;
    bool normal = mag >> 23;
    int exponent = (normal ? (int)(mag >> 23) : 1) - 127 + bias;
    if (exponent >= (1 << e))
        return sign | over;
    uint64_t mantissa = (mag & 0x7fffffu) | (normal ? 0x800000u : 0);
    int drop = 23 - m;
    if (exponent <= 0 || !normal) {
        drop += 1 - exponent;
        exponent = 0;
        if (drop > 40)
            return sign;
    } else {
        mantissa &= 0x7fffffu;
    }
    uint64_t kept = mantissa >> drop;
    uint64_t rest = mantissa & (((uint64_t)1 << drop) - 1);
    uint64_t half = (uint64_t)1 << (drop - 1);
    kept += rest > half || (rest == half && (kept & 1));
    uint32_t r = (uint32_t)kept + ((uint32_t)exponent << m);
    uint32_t limit = infinities ? top : nan;
    return sign | (r >= limit ? over : r);
}

/* Of the types that dtype_to_f32 has no loop for. */
static float one_to_f32(const unsigned char *p, enum dtype t)
{
    double d;
    switch (t) {
    case DTYPE_F64:
        memcpy(&d, p, sizeof d);
        return (float)d;
    case DTYPE_I8:
        return (float)(int8_t)*p;
    default:
        return 0;
    }
}

/* Models are made of 16-bit and 8-bit types: loops without the switch. The 16-bit ones have no
 * branches and a fixed length, so that compilers take several numbers at once; the 8-bit ones have
 * normal numbers first. */
enum { RUN = 16 }; /* numbers whose loop has a fixed length */

static inline void f16_run(float *dst, const uint16_t *src)
{
    const uint32_t move = 112u << 23; /* of exponents; that of infinities and NaN moves twice */
    for (int i = 0; i < RUN; i++) {
        uint32_t h = src[i], magnitude = h & 0x7fffu, bits;
        uint32_t small = -(uint32_t)(magnitude < 0x400u), top = -(uint32_t)(magnitude >= 0x7c00u);
        float f = (float)(int32_t)magnitude * 0x1p-24f; /* below the normal numbers */
        memcpy(&bits, &f, sizeof bits);
        uint32_t large = (magnitude << 13) + move + (move & top);
        dst[i] = from_bits((h & 0x8000u) << 16 | (bits & small) | (large & ~small));
    }
}

static inline void bf16_run(float *dst, const uint16_t *src)
{
    for (int i = 0; i < RUN; i++)
        dst[i] = from_bits((uint32_t)src[i] << 16);
}

static inline void halves_run(float *dst, const uint16_t halves[RUN], bool bf16)
{
    if (bf16)
        bf16_run(dst, halves);
    else
        f16_run(dst, halves);
}

static inline void halves_to_f32(float *dst, const unsigned char *src, int64_t n, bool bf16)
{
    uint16_t halves[RUN] = { 0 };
    float last[RUN];
    int64_t i = 0;
    for (; i + RUN <= n; i += RUN) {
        memcpy(halves, src + 2 * i, sizeof halves);
        halves_run(dst + i, halves, bf16);
    }
    if (i == n)
        return;
    memcpy(halves, src + 2 * i, 2 * (size_t)(n - i));
    halves_run(last, halves, bf16);
    memcpy(dst + i, last, (size_t)(n - i) * sizeof *last);
}

static void e4m3_to_f32(float *dst, const unsigned char *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t magnitude = src[i] & 0x7fu, sign = (uint32_t)(src[i] & 0x80u) << 24;
        bool normal = magnitude >= 8 && magnitude < 0x7f;
        dst[i] = normal ? from_bits(sign | ((magnitude << 20) + (120u << 23)))
                        : widen(src[i], 4, 3, 7, false);
    }
}

static void e5m2_to_f32(float *dst, const unsigned char *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t magnitude = src[i] & 0x7fu, sign = (uint32_t)(src[i] & 0x80u) << 24;
        bool normal = magnitude >= 4 && magnitude < 0x7c;
        dst[i] = normal ? from_bits(sign | ((magnitude << 21) + (112u << 23)))
                        : widen(src[i], 5, 2, 15, true);
    }
}

void dtype_to_f32(float *dst, const void *src, enum dtype t, int64_t n)
{
    if (dtype_block(t) > 1) {
        blocks_to_f32(dst, src, t, 0, n);
        return;
    }
    switch (t) {
    case DTYPE_F32:
        memcpy(dst, src, (size_t)n * sizeof *dst);
        return;
    case DTYPE_F16:
        halves_to_f32(dst, src, n, false);
        return;
    case DTYPE_BF16:
        halves_to_f32(dst, src, n, true);
        return;
    case DTYPE_F8_E4M3:
        e4m3_to_f32(dst, src, n);
        return;
    case DTYPE_F8_E5M2:
        e5m2_to_f32(dst, src, n);
        return;
    default:
        break;
    }
    size_t size = dtype_size(t);
    for (int64_t i = 0; i < n; i++)
        dst[i] = one_to_f32((const unsigned char *)src + (size_t)i * size, t);
}

void dtype_read(float *dst, const void *src, enum dtype t, int64_t first, int64_t n)
{
    if (dtype_block(t) > 1)
        blocks_to_f32(dst, src, t, first, n);
    else
        dtype_to_f32(dst, (const char *)src + (size_t)first * dtype_size(t), t, n);
}

static void one_from_f32(unsigned char *p, enum dtype t, float f)
{
    uint16_t h;
    double d = f;
    switch (t) {
    case DTYPE_F32:
        memcpy(p, &f, sizeof f);
        break;
    case DTYPE_F16:
        h = (uint16_t)narrow(f, 5, 10, 15, true);
        memcpy(p, &h, sizeof h);
        break;
    case DTYPE_BF16:
        h = (uint16_t)narrow(f, 8, 7, 127, true);
        memcpy(p, &h, sizeof h);
        break;
    case DTYPE_F8_E4M3:
        *p = (unsigned char)narrow(f, 4, 3, 7, false);
        break;
    case DTYPE_F8_E5M2:
        *p = (unsigned char)narrow(f, 5, 2, 15, true);
        break;
    case DTYPE_F64:
        memcpy(p, &d, sizeof d);
        break;
    default:
        break;
    }
}

void dtype_from_f32(void *dst, enum dtype t, const float *src, int64_t n)
{
    if (dtype_block(t) > 1) {
        blocks_from_f32(dst, t, src, n);
        return;
    }
    size_t size = dtype_size(t);
    for (int64_t i = 0; i < n; i++)
        one_from_f32((unsigned char *)dst + (size_t)i * size, t, src[i]);
}
