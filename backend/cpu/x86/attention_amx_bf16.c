/* attention_amx_bf16.c - attention of the amx_bf16 set; the text is attention_pairs.inc. */
#include "backend/cpu/x86/vec_amx_bf16.inc"

#include "backend/cpu/x86/block_tiles.inc"
#include "backend/cpu/kernels/attention_pairs.inc"
