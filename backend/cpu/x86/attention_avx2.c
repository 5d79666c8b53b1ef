/* attention_avx2.c - attention of the avx2 set; the text is attention.inc. */
#include "backend/cpu/x86/vec_avx2.inc"

#include "backend/cpu/kernels/attention.inc"
