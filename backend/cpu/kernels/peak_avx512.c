/* peak_avx512.c - the multiply-add loop of cpu_peak in avx512; the text is peak.inc. */
#include "backend/cpu/kernels/vec_avx512.inc"

#include "backend/cpu/kernels/peak.inc"
