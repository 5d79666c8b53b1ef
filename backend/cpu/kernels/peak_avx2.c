/* peak_avx2.c - the multiply-add loop of cpu_peak in avx2; the text is peak.inc. */
#include "backend/cpu/kernels/vec_avx2.inc"

#include "backend/cpu/kernels/peak.inc"
