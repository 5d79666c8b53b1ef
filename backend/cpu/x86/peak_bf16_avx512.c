/* peak_bf16_avx512.c - the peak of VDPBF16PS; the loop is peak_block.inc. */
#include <immintrin.h>

#include "backend/cpu/x86/peaks.h"

#define SUM __m512
#define OPERAND __m512bh
#define MULTIPLY(sum, a, b) _mm512_dpbf16_ps(sum, a, b)
#include "backend/cpu/kernels/peak_block.inc"

static inline __m512 add(__m512 a, __m512 b)
{
    return _mm512_add_ps(a, b);
}

/* Between 1 and 2 with random signs and mantissas, so that nothing overflows. */
static __m512bh operand(const float *seed)
{
    __m512i bits = _mm512_loadu_si512(seed);
    __m512i low = _mm512_and_si512(_mm512_slli_epi32(bits, 9), _mm512_set1_epi32(0x007f007f));
    __m512i sign = _mm512_and_si512(_mm512_slli_epi32(bits, 13),
                                    _mm512_set1_epi32((int)0x80008000));
    return (__m512bh)_mm512_or_si512(_mm512_or_si512(low, sign), _mm512_set1_epi32(0x3f803f80));
}

double cpu_peak_loop__bf16_avx512(int64_t turns, const float *seed, float *ret_sink)
{
    __m512bh operands[ROWS + COLUMNS];
    __m512 start = _mm512_loadu_ps(seed);
    for (int i = 0; i < ROWS + COLUMNS; i++)
        operands[i] = operand(seed + 16 * i);
    __m512 all = multiply_block(turns, &start, operands, operands + ROWS, add);
    *ret_sink = _mm512_reduce_add_ps(all);
    return (double)(ROWS * COLUMNS) * (double)turns;
}
