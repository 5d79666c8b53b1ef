/* attention_avx512_fp16_emulated.c - attention of the avx512_fp16 set for tests on other
 * processors; the text is attention_pairs.inc. */
#include "backend/cpu/x86/emulated/vec_avx512_fp16_emulated.inc"

#include "backend/cpu/kernels/block_half.inc"
#include "backend/cpu/kernels/attention_pairs.inc"
