/* add_avx512.c - add of the avx512 set; the text is add.inc. */
#include "backend/cpu/x86/vec_avx512.inc"

#include "backend/cpu/kernels/add.inc"
