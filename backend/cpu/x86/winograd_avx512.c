/* winograd_avx512.c - conv2d and upsample_conv of the avx512 set, fast convolutions of
 * avx512_bf16; the text is winograd.inc. */
#include "backend/cpu/x86/vec_avx512.inc"

#include "backend/cpu/kernels/winograd.inc"

/* The 16-bit sets have their convolutions from here: by Winograd's forms they are faster in
 * float32, and nearer. */
CONV_FUNCTIONS(conv_fast_16, FAST_16)
const struct kernel cpu_conv2d_fast__avx512_bf16 = CONV_KERNEL(conv_fast_16, 1e-4);
const struct kernel cpu_upsample_conv_fast__avx512_bf16 = CONV_KERNEL(conv_fast_16, 1e-4);

/* So are those of I8 filters that have a form; but a network's deepest filters meet pictures of few
 * output tiles, for which transforming them does not pay. */
enum { INT8_FORM_OUTPUTS = 1024 };

static bool int8_with_form(const struct weight_desc *d)
{
    return d->int8 && d->kernel == 3 && d->in >= FORM_CHANNELS && d->out <= INT8_FORM_OUTPUTS &&
           !d->downsamples;
}
const struct kernel cpu_conv2d_fast__avx512_int8 = CONV_KERNEL(conv_fast_16, 1e-4,
                                                               .fits = int8_with_form);
