/* dtype.h - element types of files and activations, and their scalar conversions.
 *
 * The conversions are the definition (round to nearest even; F8 by the OCP 8-bit floating point
 * specification: E4M3 has no infinities, 0x7f and 0xff are NaN; the types of GGUF by
 * tensor/quant_blocks.h); kernels have faster ones that must agree bit for bit. */
#ifndef DR_TENSOR_DTYPE_H
#define DR_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype {
#define X(name, text, bytes, block, real) DTYPE_##name,
#include "tensor/dtypes.def"
#undef X
    DTYPE_COUNT
};

size_t dtype_size(enum dtype t);      /* bytes of one element, or of a block of several */
int64_t dtype_block(enum dtype t);    /* elements that are stored together: 1, or 32 or 256 */
bool dtype_is_real(enum dtype t);     /* can be read as float */
const char *dtype_name(enum dtype t); /* as in safetensors and GGUF: "F16", "Q4_K" */
bool dtype_from_name(const char *name, size_t len, enum dtype *ret);

/* Bytes of so many elements, in whole blocks; false when that does not fit. */
bool dtype_bytes(enum dtype t, int64_t count, int64_t *ret);

/* Elements [first, first + n) of those that lie at src, which need not be aligned. Only real types
 * and I8. F64 is rounded to F32. */
void dtype_read(float *dst, const void *src, enum dtype t, int64_t first, int64_t n);
/* n elements, whole blocks of them. Writing: not Q2_K, Q3_K, Q5_K, Q6_K, Q4_0 to Q5_1. */
void dtype_to_f32(float *dst, const void *src, enum dtype t, int64_t n);
void dtype_from_f32(void *dst, enum dtype t, const float *src, int64_t n);

#endif
