/* attention_avx512.c - attention of the avx512 set; the text is attention.inc. */
#include "backend/cpu/x86/vec_avx512.inc"

#include "backend/cpu/kernels/attention.inc"
