/* norm_avx512.c - group_norm and layer_norm of the avx512 set; the text is norm.inc. */
#include "backend/cpu/x86/vec_avx512.inc"

#include "backend/cpu/kernels/norm.inc"
