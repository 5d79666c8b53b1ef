/* norm_avx512_fp16_emulated.c - group_norm and layer_norm of the avx512_fp16 set for tests on other
 * processors; the text is norm.inc. */
#include "backend/cpu/x86/emulated/vec_avx512_fp16_emulated.inc"

#include "backend/cpu/kernels/norm.inc"
