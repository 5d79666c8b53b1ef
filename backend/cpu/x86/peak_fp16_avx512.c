/* peak_fp16_avx512.c - the peak of half-precision multiply-adds: chains of x <- b - x^2 as in
 * peak.inc. */
#include <immintrin.h>

#include "backend/cpu/x86/peaks.h"

#define UNROLL _Pragma("GCC unroll 32")

enum { CHAINS = 24 };

static __m512h operand(const float *seed)
{
    __m256i low = _mm512_cvtps_ph(_mm512_loadu_ps(seed), 0);
    __m256i high = _mm512_cvtps_ph(_mm512_loadu_ps(seed + 16), 0);
    return _mm512_castsi512_ph(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}

double cpu_peak_loop__fp16_avx512(int64_t turns, const float *seed, float *ret_sink)
{
    __m512h x[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++) x[i] = operand(seed + 32 * i);
    __m512h b = _mm512_fmadd_ph(operand(seed + 32 * CHAINS), _mm512_set1_ph((_Float16)0.4f),
                                _mm512_set1_ph((_Float16)1.55f));
    for (int64_t t = 0; t < turns; t++) {
        UNROLL for (int i = 0; i < CHAINS; i++) x[i] = _mm512_fnmadd_ph(x[i], x[i], b);
    }
    UNROLL for (int i = 1; i < CHAINS; i++) x[0] = _mm512_add_ph(x[0], x[i]);
    *ret_sink = (float)_mm512_reduce_add_ph(x[0]);
    return (double)CHAINS * (double)turns;
}
