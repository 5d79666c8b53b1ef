/* gemm_avx512_bf16.c - linear of the avx512_bf16 set; the text is gemm_pairs.inc. Convolutions are
 * faster in float32 by Winograd's forms, and nearer. */
#include "backend/cpu/x86/vec_avx512_bf16.inc"

#include "backend/cpu/kernels/gemm_pairs.inc"
