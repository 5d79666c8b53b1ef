/* norm_amx_bf16_emulated.c - group_norm and layer_norm that go with the amx_bf16 set, for tests on
 * other processors; the text is norm.inc. */
#include "backend/cpu/x86/emulated/vec_amx_bf16_emulated.inc"

#include "backend/cpu/kernels/norm.inc"
