/* sets.c - see sets.h. */
#include "backend/cpu/x86/emulated/sets.h"

#include <string.h>

#include "backend/cpu/x86/features.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/panel.h"

#define KERNEL(op, set) extern const struct kernel cpu_##op##__##set##_emulated;
KERNEL(linear, avx512_fp16)
KERNEL(group_norm, avx512_fp16)
KERNEL(layer_norm, avx512_fp16)
KERNEL(attention, avx512_fp16)
KERNEL(linear, amx_bf16)
KERNEL(conv2d, amx_bf16)
KERNEL(upsample_conv, amx_bf16)
KERNEL(group_norm, amx_bf16)
KERNEL(layer_norm, amx_bf16)
KERNEL(attention, amx_bf16)
KERNEL(linear, amx_int8)
KERNEL(conv2d, amx_int8)
KERNEL(upsample_conv, amx_int8)
#undef KERNEL
#define KERNEL(op, set) [OP_KIND_##op] = &cpu_##op##__##set##_emulated

static struct added_kernel_set avx512_fp16 = {
    .set = { "avx512_fp16_emulated", CPU_AVX2 | CPU_AVX512, PRECISION_F16, &packing_f16_pairs,
             .kernels = { KERNEL(linear, avx512_fp16), KERNEL(group_norm, avx512_fp16),
                          KERNEL(layer_norm, avx512_fp16), KERNEL(attention, avx512_fp16) } },
};

static struct added_kernel_set amx_bf16 = {
    .set = { "amx_bf16_emulated", CPU_AVX2 | CPU_AVX512, PRECISION_BF16, &packing_bf16_pairs,
             .kernels = { KERNEL(linear, amx_bf16), KERNEL(conv2d, amx_bf16),
                          KERNEL(upsample_conv, amx_bf16), KERNEL(group_norm, amx_bf16),
                          KERNEL(layer_norm, amx_bf16), KERNEL(attention, amx_bf16) } },
};

static struct added_kernel_set amx_int8 = {
    .set = { "amx_int8_emulated", CPU_AVX2 | CPU_AVX512, PRECISION_INT8, &packing_int8,
             .kernels = { KERNEL(linear, amx_int8), KERNEL(conv2d, amx_int8),
                          KERNEL(upsample_conv, amx_int8) } },
};

static void add(struct added_kernel_set *set, const char *rest)
{
    const struct kernel_set *s;
    for (set->rest = 0; (s = kernel_set_at(set->rest)) && strcmp(s->name, rest); set->rest++)
        ;
    kernel_set_add(set);
}

void emulated_sets_add(void)
{
    add(&avx512_fp16, "avx512_bf16"); /* its convolutions of float32 */
    add(&amx_bf16, "avx512");
    add(&amx_int8, "amx_bf16_emulated");
}
