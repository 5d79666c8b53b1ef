/* norm_avx512_fp16.c - group_norm and layer_norm of the avx512_fp16 set; the text is norm.inc. */
#include "backend/cpu/x86/vec_avx512_fp16.inc"

#include "backend/cpu/kernels/norm.inc"
