/* gemm_avx512_bf16.c - linear, conv2d and upsample_conv of the avx512_bf16 set; the text is
 * gemm_pairs.inc. */
#include "backend/cpu/kernels/vec_avx512_bf16.inc"

#include "backend/cpu/kernels/gemm_pairs.inc"
