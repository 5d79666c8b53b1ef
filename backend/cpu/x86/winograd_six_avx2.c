/* winograd_six_avx2.c - forms of six outputs; the text is winograd_form.inc. */
#include "backend/cpu/x86/vec_avx2.inc"

#include "backend/cpu/kernels/winograd_form.inc"

DEFINE_FORM(7)
DEFINE_FORM(8)
