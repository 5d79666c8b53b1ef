/* add_avx2.c - add of the avx2 set; the text is add.inc. */
#include "backend/cpu/x86/vec_avx2.inc"

#include "backend/cpu/kernels/add.inc"
