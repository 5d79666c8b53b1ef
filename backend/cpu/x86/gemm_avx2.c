/* gemm_avx2.c - linear, conv2d and upsample_conv of the avx2 set; the text is gemm.inc. */
#include "backend/cpu/x86/vec_avx2.inc"

#include "backend/cpu/kernels/gemm.inc"

#include "backend/cpu/kernels/winograd.inc"
