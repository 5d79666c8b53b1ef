/* norm_avx2.c - group_norm and layer_norm of the avx2 set; the text is norm.inc. */
#include "backend/cpu/x86/vec_avx2.inc"

#include "backend/cpu/kernels/norm.inc"
