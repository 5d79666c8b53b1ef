/* gemm_amx_bf16_emulated.c - the products of the amx_bf16 set for tests on other processors; the
 * text is gemm_tiles.inc. */
#include "backend/cpu/x86/emulated/vec_amx_bf16_emulated.inc"

#include "backend/cpu/x86/gemm_tiles.inc"
