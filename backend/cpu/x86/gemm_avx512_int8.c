/* gemm_avx512_int8.c - linear, conv2d and upsample_conv of the avx512_int8 set, for I8 weights; the
 * text is gemm_quads.inc. */
#include "backend/cpu/x86/vec_avx512_int8.inc"

#include "backend/cpu/kernels/gemm_quads.inc"
