/* panel_f16.c - weights as panels of pairs of halves. Each output is scaled by a power of two that
 * brings its largest weight just below 16, so that sums of halves cannot overflow (block_half.inc);
 * what undoes it lies behind the panels. */
#include <string.h>

#include "backend/cpu/panel.h"

static size_t f16_bytes(const struct weight_desc *d)
{
    if (d->kind != WEIGHT_LINEAR && d->kind != WEIGHT_CONV)
        return 0;
    struct panel_layout l = panel_layout(d, 2);
    return (size_t)panel_exponents_at(&l, l.panels) * sizeof(uint32_t);
}

static int64_t f16_pieces(const struct weight_desc *d)
{
    return panel_layout(d, 2).panels;
}

enum { RUN = 576 }; /* values of a row at once: PANEL_CHANNELS_9 * 9 */

/* A row of the weight's matrix, all taps of a channel together: where it lies. */
struct row {
    const struct weight_source *source;
    int64_t at;
    float scale;
};

static struct row row_at(const struct host_weight *w, int64_t output)
{
    int part = 0;
    while (output >= w->source[part].shape.d[0])
        output -= w->source[part++].shape.d[0];
    return (struct row){ .source = &w->source[part], .at = output, .scale = 1 };
}

/* The scale that the row's largest value asks for; the exponent of what undoes it. */
static float choose_scale(struct row *row, int64_t k)
{
    float wide[RUN], exponent;
    uint32_t top = 0;
    for (int64_t i = 0; i < k; i += RUN) {
        int64_t n = k - i < RUN ? k - i : RUN;
        weight_row(row->source, row->at, i, n, wide);
        for (int64_t j = 0; j < n; j++) {
            uint32_t bits;
            memcpy(&bits, &wide[j], sizeof bits);
            bits &= 0x7fffffffu; /* in the order of the magnitudes */
            top = bits > top ? bits : top;
        }
    }
    row->scale = panel_scale(top, PANEL_F16_TOP, &exponent);
    return exponent;
}

/* Values [first, first + n) of the row, scaled, as halves. */
static void narrow(const struct row *row, int64_t first, int64_t n, uint16_t *dst)
{
    float wide[RUN];
    for (int64_t i = 0; i < n; i += RUN) {
        int64_t count = n - i < RUN ? n - i : RUN;
        weight_row(row->source, row->at, first + i, count, wide);
        for (int64_t j = 0; j < count; j++)
            wide[j] *= row->scale;
        dtype_from_f32(dst + i, DTYPE_F16, wide, count);
    }
}

static void f16_piece(const struct host_weight *w, int64_t panel, void *dst)
{
    struct panel_layout l = panel_layout(w->desc, 2);
    int64_t width = panel_width(&l, panel);
    uint16_t *to = (uint16_t *)((uint32_t *)dst + panel_at(&l, panel));
    float *exponents = (float *)dst + panel_exponents_at(&l, panel);
    uint16_t values[PANEL_CHANNELS_1];
    size_t words = (size_t)(panel_at(&l, panel + 1) - panel_at(&l, panel));
    memset(to, 0, words * sizeof(uint32_t)); /* a narrow last panel leaves some */
    memset(exponents, 0, PANEL_COLUMNS * sizeof *exponents);
    for (int64_t column = 0; column < width; column++) {
        int64_t output = panel_output(&l, panel, column);
        if (output < 0)
            continue;
        struct row row = row_at(w, output);
        exponents[column] = choose_scale(&row, l.in * l.taps);
        for (int64_t first = 0; first < l.in; first += l.channels) {
            int64_t n = l.in - first < l.channels ? l.in - first : l.channels;
            uint16_t *block = to + 2 * panel_block_at(&l, first, width) + 2 * column;
            int64_t tap_pairs = (n + 1) / 2;
            narrow(&row, first * l.taps, n * l.taps, values);
            for (int64_t c = 0; c < n; c++)
                for (int64_t tap = 0; tap < l.taps; tap++)
                    block[(tap * tap_pairs + c / 2) * 2 * width + c % 2] = values[c * l.taps + tap];
        }
    }
}

const struct packing packing_f16_pairs = { .bytes = f16_bytes,
                                           .pieces = f16_pieces,
                                           .piece = f16_piece };
