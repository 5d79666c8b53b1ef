/* gemm_avx512.c - linear, conv2d and upsample_conv of the avx512 set; the text is gemm.inc. */
#include "backend/cpu/kernels/vec_avx512.inc"

#include "backend/cpu/kernels/gemm.inc"

#include "backend/cpu/kernels/winograd.inc"
