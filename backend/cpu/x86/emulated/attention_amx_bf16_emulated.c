/* attention_amx_bf16_emulated.c - attention of the amx_bf16 set for tests on other
 * processors; the text is attention_pairs.inc. */
#include "backend/cpu/x86/emulated/vec_amx_bf16_emulated.inc"

#include "backend/cpu/x86/block_tiles.inc"
#include "backend/cpu/kernels/attention_pairs.inc"
