/* gemm_avx2.c - linear of the avx2 set; the text is gemm.inc. */
#include "backend/cpu/x86/vec_avx2.inc"

#include "backend/cpu/kernels/gemm.inc"
