/* panel.h - how packed weights lie in memory, for those who write them and the kernels that read.
 *
 * Outputs are cut into panels of 64 (of a gated weight: 32 values, then their 32 gates), the last
 * as narrow as 16, 32 or 64 columns allow. Within a panel K runs over blocks of input channels,
 * within a block over the taps of the kernel, within a tap over groups of channels: two 16-bit
 * values, or four 8-bit ones, fill 32 bits, and the groups of the panel's columns lie side by side.
 * That is the operand of the dot-product instructions of both AVX-512 and AMX. Channels beyond the
 * end and columns beyond the last are zeros.
 */
#ifndef DR_BACKEND_CPU_PANEL_H
#define DR_BACKEND_CPU_PANEL_H

#include <string.h>

#include "backend/cpu/kernel.h"

enum {
    PANEL_COLUMNS = 64,
    PANEL_VECTOR = 16,      /* 32-bit columns in 512 bits */
    PANEL_CHANNELS_1 = 640, /* of a block of K, at most, as pairs: 80 KiB; of quads twice that */
    PANEL_CHANNELS_9 = 64,  /* times 9 taps: 72 KiB */
    PANEL_F16_TOP = 3,      /* scaled weights in half precision are below 2^4 */
};

/* Channels of each block of K but the last: about equal, a multiple of 16 unless there is but one.
 * */
static inline int64_t panel_block(int64_t in, int64_t most)
{
    int64_t blocks = (in + most - 1) / most;
    int64_t channels = ((in + blocks - 1) / blocks + 15) / 16 * 16;
    return channels > in ? in : channels;
}

struct panel_layout {
    int64_t in, taps, outputs;
    bool gated;
    int64_t channels; /* of a block */
    int group;        /* channels in 32 bits */
    int64_t groups;   /* of a column, over all of K */
    int64_t panels;
};

struct panel_layout panel_layout(const struct weight_desc *d, int group);

/* Columns of a panel, padding included: 16, 32 or 64. */
int64_t panel_width(const struct panel_layout *l, int64_t panel);

/* 32-bit words before a panel; before a block of a panel `width` wide. */
static inline int64_t panel_at(const struct panel_layout *l, int64_t panel)
{
    return panel * l->groups * PANEL_COLUMNS;
}

static inline int64_t panel_block_at(const struct panel_layout *l, int64_t channel, int64_t width)
{
    return channel / l->group * l->taps * width;
}

/* The weight's output in a column of a panel; -1: none. */
int64_t panel_output(const struct panel_layout *l, int64_t panel, int64_t column);

/* Values as bfloat16: what dtype_to_f32 and then dtype_from_f32 give, many at a time. */
void panel_narrow(uint16_t *dst, const void *src, enum dtype dtype, int64_t n);

/* Of quads: words before what lies behind all panels for one of them: PANEL_COLUMNS numbers that
 * its sums begin with (minus the offset of A's rows times the sum of the column), then as many
 * scales. */
static inline int64_t panel_tail_at(const struct panel_layout *l, int64_t panel)
{
    return panel_at(l, l->panels) + panel * 2 * PANEL_COLUMNS;
}

/* After the panels of packing_f16_pairs lie float32 numbers, one for each of their columns and
 * PANEL_COLUMNS a panel: the power of two that undoes the scale of the weight, as its exponent. */
static inline int64_t panel_exponents_at(const struct panel_layout *l, int64_t panel)
{
    return panel_at(l, l->panels) + panel * PANEL_COLUMNS;
}

/* The power of two that brings the largest of some values, given the bits of its magnitude as
 * float32, into [2^top, 2^(top + 1)), and the exponent of the one that undoes it. An infinity stays
 * one. */
static inline float panel_scale(uint32_t bits, int top, float *ret_exponent)
{
    int up = top + 127 - (int)(bits >> 23);
    up = up < -126 ? -126 : up > 126 ? 126 : up;
    uint32_t to = (uint32_t)(127 + up) << 23;
    float scale;
    memcpy(&scale, &to, sizeof scale);
    *ret_exponent = (float)-up;
    return scale;
}

/* The packings of kernels.def. */
extern const struct packing packing_bf16_pairs, packing_f16_pairs;
extern const struct packing packing_int8; /* I8 weights as quads, others as pairs */

#endif
