/* gemm_amx_bf16.c - linear, conv2d and upsample_conv of the amx_bf16 set; the text is
 * gemm_tiles.inc. */
#include "backend/cpu/x86/vec_amx_bf16.inc"

#include "backend/cpu/x86/gemm_tiles.inc"
