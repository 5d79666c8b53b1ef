/* attention_avx512_fp16.c - attention of the avx512_fp16 set; the text is attention_pairs.inc. */
#include "backend/cpu/x86/vec_avx512_fp16.inc"

#include "backend/cpu/kernels/block_half.inc"
#include "backend/cpu/kernels/attention_pairs.inc"
