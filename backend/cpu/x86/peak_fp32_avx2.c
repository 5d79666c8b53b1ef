/* peak_fp32_avx2.c - the peak of float32 multiply-adds in avx2; the text is peak.inc. */
#include "backend/cpu/x86/vec_avx2.inc"

#include "backend/cpu/x86/peaks.h"
#include "backend/cpu/kernels/peak.inc"

double cpu_peak_loop__fp32_avx2(int64_t turns, const float *seed, float *ret_sink)
{
    return multiply_add(turns, seed, ret_sink);
}
