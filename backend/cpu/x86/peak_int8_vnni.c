/* peak_int8_vnni.c - the peak of VPDPBUSD on random bytes; the loop is peak_block.inc. */
#include <immintrin.h>

#include "backend/cpu/x86/peaks.h"

#define SUM __m512i
#define OPERAND __m512i
#define MULTIPLY(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#include "backend/cpu/kernels/peak_block.inc"

static inline __m512i add(__m512i a, __m512i b)
{
    return _mm512_add_epi32(a, b);
}

double cpu_peak_loop__int8_vnni(int64_t turns, const float *seed, float *ret_sink)
{
    __m512i operands[ROWS + COLUMNS], spread = _mm512_set1_epi32((int)0x9e3779b1);
    for (int i = 0; i < ROWS + COLUMNS; i++)
        operands[i] = _mm512_mullo_epi32(_mm512_loadu_si512(seed + 16 * i), spread);
    __m512i all = multiply_block(turns, operands, operands, operands + ROWS, add);
    *ret_sink = _mm512_reduce_add_ps(_mm512_cvtepi32_ps(all));
    return (double)(ROWS * COLUMNS) * (double)turns;
}
