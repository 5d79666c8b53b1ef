/* prompt_weigh.c - what weights of words do to hidden states.
 *
 * They act after the encoders, whose results so depend on the ids alone and can be found again.
 * References: EmphasisOriginal of AUTOMATIC1111's modules/sd_emphasis.py, encode_token_weights of
 * ComfyUI's comfy/sd1_clip.py. A chunk whose weights are all 1 keeps its bits. */
#include <math.h>
#include <string.h>

#include "conditioning/prompt_language.h"
#include "conditioning/prompt_processor.h"

/* One encoder's states of one chunk: columns [column, column + width) of tokens rows. */
struct chunk {
    float *text; /* of its first token */
    const float *weight;
    int64_t tokens, stride, column, width;
};

static bool weighted(const struct chunk *c)
{
    for (int64_t i = 0; i < c->tokens; i++)
        if (c->weight[i] != 1)
            return true;
    return false;
}

static double mean(const struct chunk *c)
{
    double sum = 0;
    for (int64_t i = 0; i < c->tokens; i++)
        for (int64_t k = 0; k < c->width; k++)
            sum += c->text[i * c->stride + c->column + k];
    return sum / (double)(c->tokens * c->width);
}

static void scale(const struct chunk *c, bool restore)
{
    double before = mean(c);
    for (int64_t i = 0; i < c->tokens; i++)
        for (int64_t k = 0; k < c->width; k++)
            c->text[i * c->stride + c->column + k] *= c->weight[i];
    double factor = restore ? before / mean(c) : 1;
    if (factor == 1 || !isfinite(factor))
        return;
    for (int64_t i = 0; i < c->tokens; i++)
        for (int64_t k = 0; k < c->width; k++)
            c->text[i * c->stride + c->column + k] *= (float)factor;
}

static void from_empty(const struct chunk *c, const float *empty)
{
    for (int64_t i = 0; i < c->tokens; i++)
        for (int64_t k = 0; c->weight[i] != 1 && k < c->width; k++) {
            float *v = &c->text[i * c->stride + c->column + k];
            float base = empty[i * c->stride + c->column + k];
            *v = (*v - base) * c->weight[i] + base;
        }
}

static void weigh_row(struct prompt_embeds *m, int row)
{
    struct chunk c = { .tokens = m->chunk, .stride = m->width };
    for (int e = 0; e < PROMPT_ENCODERS; e++) {
        c.width = m->columns[e];
        for (int64_t at = 0; m->weight[e] && at < prompt_read(m, row); at += m->chunk) {
            c.text = m->text + (row * m->length + at) * m->width;
            c.weight = m->weight[e] + row * m->length + at;
            if (!weighted(&c))
                continue;
            if (m->language->weighing == PROMPT_WEIGHS_FROM_EMPTY)
                from_empty(&c, m->text + m->empty * m->length * m->width);
            else
                scale(&c, m->emphasis == PROMPT_EMPHASIS_ORIGINAL);
        }
        c.column += c.width;
    }
}

void prompt_weigh(struct prompt_embeds *m)
{
    for (int row = 0; row < m->rows; row++) {
        if (m->weighted && row != m->empty && !(m->zero_negative && !row))
            weigh_row(m, row);
        float *text = m->text + row * m->length * m->width;
        int64_t last = prompt_read(m, row) - 1;
        for (int64_t i = last + 1; i < m->tokens[row]; i++)
            memcpy(text + i * m->width, text + last * m->width, (size_t)m->width * sizeof *text);
    }
}
