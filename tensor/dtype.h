/* dtype.h - element types of files and activations, and their scalar conversions.
 *
 * The conversions are the definition (round to nearest even; F8 by the OCP 8-bit floating point
 * specification: E4M3 has no infinities, 0x7f and 0xff are NaN); kernels have faster ones that must
 * agree bit for bit.
 */
#ifndef DR_TENSOR_DTYPE_H
#define DR_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype {
#define X(name, text, bytes, real) DTYPE_##name,
#include "tensor/dtypes.def"
#undef X
    DTYPE_COUNT
};

size_t dtype_size(enum dtype t);      /* bytes of one element */
bool dtype_is_real(enum dtype t);     /* can be read as float */
const char *dtype_name(enum dtype t); /* as in safetensors: "F16" */
bool dtype_from_name(const char *name, size_t len, enum dtype *ret);

/* n elements; src need not be aligned. Only real types. F64 is rounded to F32. */
void dtype_to_f32(float *dst, const void *src, enum dtype t, int64_t n);
void dtype_from_f32(void *dst, enum dtype t, const float *src, int64_t n);

#endif
