/* winograd_small_avx512.c - forms of two and four outputs; the text is winograd_form.inc. */
#include "backend/cpu/x86/vec_avx512.inc"

#include "backend/cpu/kernels/winograd_form.inc"

DEFINE_FORM(3)
DEFINE_FORM(4)
DEFINE_FORM(6)
