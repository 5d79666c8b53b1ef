/* gemm_avx512_fp16_emulated.c - the products of the avx512_fp16 set for tests on other processors;
 * the text is gemm_half.inc. */
#include "backend/cpu/x86/emulated/vec_avx512_fp16_emulated.inc"

#include "backend/cpu/kernels/gemm_half.inc"
