/* gemm_amx_int8.c - linear, conv2d and upsample_conv of the amx_int8 set, for I8 weights; the
 * text is gemm_int8_tiles.inc. */
#include "backend/cpu/x86/vec_amx_int8.inc"

#include "backend/cpu/x86/gemm_int8_tiles.inc"
