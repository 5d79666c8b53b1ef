/* quant_blocks.h - the quantised types of GGUF: runs of 32 or 256 numbers of a few bits with their
 * scales.
 *
 * A block is 32 elements with a half-precision scale (and a minimum, in Q4_1 and Q5_1), or 256 in
 * eight or sixteen parts whose scales are small integers times a half-precision one (the "K"
 * types). The values are those of the reference bit for bit: each is one product, or one product
 * and one sum, in float32, in the reference's order. Reference: dequantize_blocks and
 * quantize_blocks of the Python package gguf 0.19 (quants.py), which the C functions of ggml agree
 * with. */
#ifndef DR_TENSOR_QUANT_BLOCKS_H
#define DR_TENSOR_QUANT_BLOCKS_H

#include "tensor/dtype.h"

/* Elements [first, first + n) of an array of blocks, at any alignment. */
void blocks_to_f32(float *dst, const void *src, enum dtype t, int64_t first, int64_t n);

/* n elements, whole blocks, to the nearest of the type: Q8_0 as the reference rounds, Q4_K by a
 * search of its own. Not for other types. */
void blocks_from_f32(void *dst, enum dtype t, const float *src, int64_t n);

#endif
