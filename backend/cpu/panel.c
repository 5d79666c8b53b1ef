/* panel.c - see panel.h. */
#include "backend/cpu/panel.h"

#include <string.h>

struct panel_layout panel_layout(const struct weight_desc *d, int group)
{
    bool conv = d->kind == WEIGHT_CONV;
    struct panel_layout l = { .in = d->in,
                              .taps = conv ? d->kernel * d->kernel : 1,
                              .outputs = d->out,
                              .gated = d->gated,
                              .group = group };
    l.channels = panel_block(l.in, l.taps == 1 ? PANEL_CHANNELS_1 : PANEL_CHANNELS_9);
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

/* The weight's output in a column of a panel; -1: none. */
static int64_t output_at(const struct panel_layout *l, int64_t panel, int64_t column)
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

enum { RUN = 576 }; /* values widened at once: PANEL_CHANNELS_9 * 9 */

/* Values [first, first + n) of output `row`, all taps of a channel together, as bfloat16. */
static void narrow_row(const struct cpu_weight *w, int64_t row, int64_t first, int64_t n, int64_t k,
                       uint16_t *dst)
{
    float wide[RUN];
    int part = 0;
    while (row >= w->source[part].shape.d[0])
        row -= w->source[part++].shape.d[0];
    const struct weight_source *s = &w->source[part];
    for (int64_t i = 0; i < n; i += RUN) {
        int64_t count = n - i < RUN ? n - i : RUN;
        dtype_to_f32(wide,
                     (const char *)s->data + (size_t)(row * k + first + i) * dtype_size(s->dtype),
                     s->dtype, count);
        dtype_from_f32(dst + i, DTYPE_BF16, wide, count);
    }
}

static void pairs_piece(const struct cpu_weight *w, int64_t panel, void *dst)
{
    struct panel_layout l = panel_layout(&w->desc, 2);
    int64_t width = panel_width(&l, panel);
    uint16_t *to = (uint16_t *)((uint32_t *)dst + panel_at(&l, panel));
    uint16_t row[PANEL_CHANNELS_1];
    memset(to, 0, (size_t)(l.groups * width) * sizeof(uint32_t));
    for (int64_t column = 0; column < width; column++) {
        int64_t output = output_at(&l, panel, column);
        for (int64_t first = 0; output >= 0 && first < l.in; first += l.channels) {
            int64_t n = l.in - first < l.channels ? l.in - first : l.channels;
            uint16_t *block = to + 2 * panel_block_at(&l, first, width) + 2 * column;
            int64_t tap_pairs = (n + 1) / 2;
            narrow_row(w, output, first * l.taps, n * l.taps, l.in * l.taps, row);
            for (int64_t c = 0; c < n; c++)
                for (int64_t tap = 0; tap < l.taps; tap++)
                    block[(tap * tap_pairs + c / 2) * 2 * width + c % 2] = row[c * l.taps + tap];
        }
    }
}

const struct packing packing_bf16_pairs = { .bytes = pairs_bytes,
                                            .pieces = pairs_pieces,
                                            .piece = pairs_piece };
