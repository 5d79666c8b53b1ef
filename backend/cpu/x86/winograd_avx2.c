/* winograd_avx2.c - conv2d and upsample_conv of the avx2 set; the text is winograd.inc. */
#include "backend/cpu/x86/vec_avx2.inc"

#include "backend/cpu/kernels/winograd.inc"
