/* gemm_avx512.c - linear of the avx512 set; the text is gemm.inc. */
#include "backend/cpu/x86/vec_avx512.inc"

#include "backend/cpu/kernels/gemm.inc"
