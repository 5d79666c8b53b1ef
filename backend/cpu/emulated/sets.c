/* sets.c - see sets.h. */
#include "backend/cpu/emulated/sets.h"

#include <string.h>

#include "backend/cpu/features.h"
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
#undef KERNEL
#define KERNEL(op, set) [OP_KIND_##op] = &cpu_##op##__##set##_emulated

static struct added_kernel_set avx512_fp16 = {
    .set = { "avx512_fp16_emulated", CPU_AVX2 | CPU_AVX512, PRECISION_F16, &packing_f16_pairs },
    .kernels = { KERNEL(linear, avx512_fp16), KERNEL(group_norm, avx512_fp16),
                 KERNEL(layer_norm, avx512_fp16), KERNEL(attention, avx512_fp16) },
};

static struct added_kernel_set amx_bf16 = {
    .set = { "amx_bf16_emulated", CPU_AVX2 | CPU_AVX512, PRECISION_BF16, &packing_bf16_pairs },
    .kernels = { KERNEL(linear, amx_bf16), KERNEL(conv2d, amx_bf16),
                 KERNEL(upsample_conv, amx_bf16), KERNEL(group_norm, amx_bf16),
                 KERNEL(layer_norm, amx_bf16), KERNEL(attention, amx_bf16) },
};

void emulated_sets_add(void)
{
    int rest = 0;
    for (const char *name; (name = kernel_set_name(rest)) && strcmp(name, "avx512"); rest++)
        ;
    avx512_fp16.rest = amx_bf16.rest = rest;
    kernel_set_add(&avx512_fp16);
    kernel_set_add(&amx_bf16);
}
