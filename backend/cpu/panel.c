/* panel.c - see panel.h. */
#include "backend/cpu/panel.h"

#include <string.h>

#include "backend/ops/int8.h"

struct panel_layout panel_layout(const struct weight_desc *d, int group)
{
    bool conv = d->kind == WEIGHT_CONV;
    struct panel_layout l = { .in = d->in,
                              .taps = conv ? d->kernel * d->kernel : 1,
                              .outputs = d->out,
                              .gated = d->gated,
                              .group = group };
    int64_t most = l.taps == 1 ? PANEL_CHANNELS_1 : PANEL_CHANNELS_9;
    l.channels = panel_block(l.in, most * group / 2);
    l.groups = (l.in + group - 1) / group * l.taps;
    l.panels = (l.outputs + PANEL_COLUMNS - 1) / PANEL_COLUMNS;
    return l;
}

int64_t panel_width(const struct panel_layout *l, int64_t panel)
{
    int64_t left = l->outputs - panel * PANEL_COLUMNS;
    if (l->gated || left > 2 * PANEL_VECTOR)
        return PANEL_COLUMNS;
    return left > PANEL_VECTOR ? 2 * PANEL_VECTOR : PANEL_VECTOR;
}

int64_t panel_output(const struct panel_layout *l, int64_t panel, int64_t column)
{
    int64_t half = PANEL_COLUMNS / 2, values = l->outputs / 2;
    if (!l->gated) {
        int64_t output = panel * PANEL_COLUMNS + column;
        return output < l->outputs ? output : -1;
    }
    int64_t output = panel * half + column % half;
    if (output >= values)
        return -1;
    return column < half ? output : output + values;
}

/* ---- bfloat16 pairs ---- */

static bool is_product(const struct weight_desc *d)
{
    return d->kind == WEIGHT_LINEAR || d->kind == WEIGHT_CONV;
}

static size_t pairs_bytes(const struct weight_desc *d)
{
    if (!is_product(d))
        return 0;
    struct panel_layout l = panel_layout(d, 2);
    return (size_t)(panel_at(&l, l.panels - 1) + l.groups * panel_width(&l, l.panels - 1)) *
           sizeof(uint32_t);
}

static int64_t pairs_pieces(const struct weight_desc *d)
{
    return panel_layout(d, 2).panels;
}

/* Float32 bits to the nearest bfloat16, ties to even; NaN to the quiet one: as dtype_from_f32. */
static inline uint16_t narrow(uint32_t bits)
{
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16 & 0x8000u) | 0x7fc0u
                                                         : rounded);
}

/* As dtype_to_f32: below the normal numbers a float16 is its mantissa times 2^-24; exponents move
 * by 112, that of infinities and NaN twice. Without branches, so that compilers take many at once.
 */
static inline uint32_t widen_f16(uint32_t h)
{
    const uint32_t move = 112u << 23;
    uint32_t magnitude = h & 0x7fffu, bits;
    uint32_t small = -(uint32_t)(magnitude < 0x400u), special = -(uint32_t)(magnitude >= 0x7c00u);
    float f = (float)(int32_t)magnitude * 0x1p-24f;
    memcpy(&bits, &f, sizeof bits);
    uint32_t large = (magnitude << 13) + move + (move & special);
    return (h & 0x8000u) << 16 | (bits & small) | (large & ~small);
}

enum { WIDE = 64 }; /* values of other types converted at once */

void panel_narrow(uint16_t *dst, const void *src, enum dtype dtype, int64_t n)
{
    const char *from = src;
    float wide[WIDE];
    uint16_t h;
    uint32_t u;
    switch (dtype) {
    case DTYPE_F16:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, from + 2 * i, sizeof h);
            dst[i] = narrow(widen_f16(h));
        }
        break;
    case DTYPE_BF16:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, from + 2 * i, sizeof h);
            dst[i] = narrow((uint32_t)h << 16);
        }
        break;
    case DTYPE_F32:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&u, from + 4 * i, sizeof u);
            dst[i] = narrow(u);
        }
        break;
    default:
        for (int64_t i = 0; i < n; i += WIDE) {
            int64_t count = n - i < WIDE ? n - i : WIDE;
            dtype_to_f32(wide, from + (size_t)i * dtype_size(dtype), dtype, count);
            dtype_from_f32(dst + i, DTYPE_BF16, wide, count);
        }
    }
}

/* The source that holds output *row of the weight; *row becomes its row there. */
static const struct weight_source *part_of(const struct host_weight *w, int64_t *row)
{
    int part = 0;
    while (*row >= w->source[part].shape.d[0])
        *row -= w->source[part++].shape.d[0];
    return &w->source[part];
}

/* Values [first, first + n) of output `row`, all taps of a channel together, as bfloat16. */
static void narrow_row(const struct host_weight *w, int64_t row, int64_t first, int64_t n,
                       int64_t k, uint16_t *dst)
{
    float wide[WIDE];
    const struct weight_source *s = part_of(w, &row);
    const char *from = s->data;
    if (!s->scales && dtype_block(s->dtype) == 1) {
        panel_narrow(dst, from + (size_t)(row * k + first) * dtype_size(s->dtype), s->dtype, n);
        return;
    }
    for (int64_t i = 0; i < n; i += WIDE) {
        int64_t count = n - i < WIDE ? n - i : WIDE;
        weight_row(s, row, first + i, count, wide);
        panel_narrow(dst + i, wide, DTYPE_F32, count);
    }
}

enum {
    TAPS = 9,
    ROW = PANEL_CHANNELS_1 > PANEL_CHANNELS_9 *TAPS ? PANEL_CHANNELS_1 : PANEL_CHANNELS_9 *TAPS
};

static inline uint32_t pair_of(uint32_t low, uint32_t high)
{
    return low | high << 16;
}

/* A row of n channels as words of its pairs, tap after tap, to every width-th word at dst; a
 * missing last channel is a zero. */
static void spread_row(const uint16_t *row, int64_t n, int64_t taps, int64_t width, uint32_t *dst)
{
    int64_t pairs = (n + 1) / 2;
    for (int64_t tap = 0; tap < taps; tap++) {
        const uint16_t *from = row + tap;
        uint32_t *to = dst + tap * pairs * width;
        for (int64_t p = 0; p < n / 2; p++)
            to[p * width] = pair_of(from[2 * p * taps], from[(2 * p + 1) * taps]);
        if (n % 2)
            to[(pairs - 1) * width] = from[(n - 1) * taps];
    }
}

static void zero_column(int64_t words, int64_t width, uint32_t *dst)
{
    for (int64_t i = 0; i < words; i++)
        dst[i * width] = 0;
}

/* Sixteen columns after each other fill whole cache lines while these are near. */
static void pairs_piece(const struct host_weight *w, int64_t panel, void *dst)
{
    struct panel_layout l = panel_layout(w->desc, 2);
    int64_t width = panel_width(&l, panel);
    uint32_t *to = (uint32_t *)dst + panel_at(&l, panel);
    uint16_t row[ROW];
    for (int64_t vector = 0; vector < width; vector += PANEL_VECTOR)
        for (int64_t first = 0; first < l.in; first += l.channels) {
            int64_t n = l.in - first < l.channels ? l.in - first : l.channels;
            uint32_t *block = to + panel_block_at(&l, first, width) + vector;
            for (int64_t column = 0; column < PANEL_VECTOR; column++) {
                int64_t output = panel_output(&l, panel, vector + column);
                if (output < 0) {
                    zero_column((n + 1) / 2 * l.taps, width, block + column);
                    continue;
                }
                narrow_row(w, output, first * l.taps, n * l.taps, l.in * l.taps, row);
                spread_row(row, n, l.taps, width, block + column);
            }
        }
}

const struct packing packing_bf16_pairs = { .bytes = pairs_bytes,
                                            .pieces = pairs_pieces,
                                            .piece = pairs_piece };

/* ---- 8-bit quads ---- */

static size_t int8_bytes(const struct weight_desc *d)
{
    if (!d->int8)
        return pairs_bytes(d);
    struct panel_layout l = panel_layout(d, 4);
    return (size_t)panel_tail_at(&l, l.panels) * sizeof(uint32_t);
}

static int64_t int8_pieces(const struct weight_desc *d)
{
    return panel_layout(d, 4).panels;
}

/* One column of a panel; what its sums begin with. */
static int32_t quads_column(const struct panel_layout *l, const int8_t *row, int64_t width,
                            int8_t *to)
{
    int32_t sum = 0;
    for (int64_t first = 0; first < l->in; first += l->channels) {
        int64_t n = l->in - first < l->channels ? l->in - first : l->channels;
        int8_t *block = to + 4 * panel_block_at(l, first, width);
        int64_t tap_quads = (n + 3) / 4;
        for (int64_t c = 0; c < n; c++)
            for (int64_t tap = 0; tap < l->taps; tap++) {
                int8_t value = row[(first + c) * l->taps + tap];
                block[(tap * tap_quads + c / 4) * 4 * width + c % 4] = value;
                sum += value;
            }
    }
    return -INT8_OFFSET * sum;
}

static void quads_piece(const struct host_weight *w, int64_t panel, void *dst)
{
    struct panel_layout l = panel_layout(w->desc, 4);
    int64_t width = panel_width(&l, panel);
    int8_t *to = (int8_t *)((uint32_t *)dst + panel_at(&l, panel));
    int32_t *start = (int32_t *)dst + panel_tail_at(&l, panel);
    float *scale = (float *)(start + PANEL_COLUMNS);
    memset(to, 0, (size_t)(l.groups * width) * sizeof(uint32_t));
    memset(start, 0, 2 * PANEL_COLUMNS * sizeof *start);
    for (int64_t column = 0; column < width; column++) {
        int64_t output = panel_output(&l, panel, column);
        if (output < 0)
            continue;
        const struct weight_source *s = part_of(w, &output);
        const int8_t *row = (const int8_t *)s->data + output * l.in * l.taps;
        start[column] = quads_column(&l, row, width, to + 4 * column);
        memcpy(&scale[column], (const char *)s->scales + (size_t)output * sizeof *scale,
               sizeof *scale);
    }
}

static void int8_piece(const struct host_weight *w, int64_t panel, void *dst)
{
    if (w->desc->int8)
        quads_piece(w, panel, dst);
    else
        pairs_piece(w, panel, dst);
}

const struct packing packing_int8 = { .bytes = int8_bytes,
                                      .pieces = int8_pieces,
                                      .piece = int8_piece };
