/* gemm_avx512_fp16.c - linear of the avx512_fp16 set; the text is
 * gemm_half.inc. */
#include "backend/cpu/x86/vec_avx512_fp16.inc"

#include "backend/cpu/kernels/gemm_half.inc"
