/* winograd_eight_avx512.c - form of eight outputs; the text is winograd_form.inc. */
#include "backend/cpu/x86/vec_avx512.inc"

#include "backend/cpu/kernels/winograd_form.inc"

DEFINE_FORM(10)
