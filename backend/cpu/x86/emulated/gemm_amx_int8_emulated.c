/* gemm_amx_int8_emulated.c - linear, conv2d and upsample_conv of the amx_int8 set for
 * tests on other processors; the text is gemm_int8_tiles.inc. */
#include "backend/cpu/x86/emulated/vec_amx_int8_emulated.inc"

#include "backend/cpu/x86/gemm_int8_tiles.inc"
