/* guidance.c - see guidance.h. */
#include "inference/guidance.h"

#include <math.h>
#include <string.h>

#include "inference/guiders/guiders.h"
#include "models/unet.h"

/* Beside the state twice, as it is and as it will be: the changed negative prediction and what a
 * guider works in. */
enum { WORK = 2 };

static int count(const struct guidance *g)
{
    return g->guiders ? g->guiders->n : 0;
}

/* Whether both rows are needed at an evaluation, and the scale there. */
static bool is_on(const struct guidance *g, const struct sched_ask *ask, double *ret_scale)
{
    double scale = g->scale;
    for (int i = 0; i < count(g); i++)
        if (g->guiders->item[i].info->scale)
            g->guiders->item[i].info->scale(&g->guiders->item[i], ask, &scale);
    *ret_scale = scale;
    return scale > 1 || g->uncond;
}

bool guidance_negative(const struct guidance *g)
{
    double scale;
    return is_on(g, &(struct sched_ask){ .steps = 0 }, &scale);
}

int guidance_rows(const struct guidance *g)
{
    int rows = guidance_negative(g) ? 2 : 1;
    for (int i = 0; i < count(g); i++)
        rows += g->guiders->item[i].info->row;
    return rows;
}

/* Whether the guider has a row of its own at an evaluation. */
static bool has_row(const struct guider *one, const struct sched_ask *ask)
{
    return one->info->row && guider_acts(one, ask);
}

int guidance_expand(const struct guidance *g, const struct sched_ask *ask, float *predictions,
                    size_t n, struct unet_row *rows)
{
    double scale;
    int rows_now = is_on(g, ask, &scale) ? 2 : 1;
    for (int i = 0; i < rows_now; i++) {
        rows[i] = (struct unet_row){ .latent = ask->x,
                                     .timestep = ask->timestep,
                                     .conditioning = i == rows_now - 1 ? g->positive
                                                                       : g->negative };
        rows[i].pred = predictions + (size_t)i * n;
        rows[i].changes = g->guiders ? guiders_changes(g->guiders, NULL, ask) : NULL;
    }
    for (int i = 0; i < count(g); i++) {
        if (!has_row(&g->guiders->item[i], ask))
            continue;
        rows[rows_now] = (struct unet_row){ .latent = ask->x,
                                            .timestep = ask->timestep,
                                            .conditioning = g->positive,
                                            .pred = predictions + (size_t)rows_now * n };
        rows[rows_now].changes = guiders_changes(g->guiders, &g->guiders->item[i], ask);
        rows_now++;
    }
    return rows_now;
}

bool guidance_composes(const struct guidance *g)
{
    for (int i = 0; i < count(g); i++)
        if (g->guiders->item[i].info->scale || g->guiders->item[i].info->row)
            return false;
    return true;
}

const float *guidance_uncond(const struct guidance *g, const float *predictions)
{
    return g->uncond ? predictions : NULL;
}

int guidance_state(const struct guidance *g)
{
    int vectors = 0;
    for (int i = 0; i < count(g); i++)
        vectors += g->guiders->item[i].info->vectors;
    return vectors;
}

int guidance_memory(const struct guidance *g)
{
    return count(g) ? 2 * guidance_state(g) + WORK : 0;
}

void guidance_advance(const struct guidance *g, size_t n, float *memory)
{
    size_t state = (size_t)guidance_state(g) * n;
    if (state)
        memcpy(memory, memory + state, state * sizeof *memory);
}

static double deviation(const float *v, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += v[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (v[i] - mean) * (v[i] - mean);
    return sqrt(squares / ((double)n - 1));
}

static void plain(const struct guider_at *at, float *pred)
{
    for (size_t i = 0; i < at->n; i++)
        pred[i] = (float)(at->negative[i] +
                          at->scale * ((double)at->positive[i] - at->negative[i]));
}

typedef void change_fn(const struct guider *g, const struct guider_at *at, float *io);

enum change { NEGATIVE, COMBINE, AFTER };

static change_fn *change_of(const struct guider_info *info, enum change what)
{
    return what == NEGATIVE ? info->negative : what == COMBINE ? info->combine : info->after;
}

/* Has every guider that acts here make its change of that kind; returns how many did. */
static int each(const struct guidance *g, struct guider_at *at, enum change what, float *state,
                float *io)
{
    size_t offset = 0, all = (size_t)guidance_state(g) * at->n;
    int made = 0;
    for (int i = 0; i < count(g); i++) {
        const struct guider *one = &g->guiders->item[i];
        change_fn *fn = change_of(one->info, what);
        at->state = state + offset;
        at->next = state + all + offset;
        offset += (size_t)one->info->vectors * at->n;
        if (!fn || !guider_acts(one, at->ask))
            continue;
        fn(one, at, io);
        made++;
    }
    return made;
}

/* pred += the multiples of positive - row; the rows follow the positive one. */
static void add_rows(const struct guidance *g, const struct guidance_at *at, const float *positive,
                     float *pred)
{
    const float *row = positive;
    for (int i = 0; i < count(g); i++) {
        const struct guider *one = &g->guiders->item[i];
        if (!has_row(one, at->ask))
            continue;
        double factor = one->info->add(one, at->ask);
        row += at->n;
        for (size_t k = 0; k < at->n; k++)
            pred[k] = (float)(pred[k] + factor * ((double)positive[k] - row[k]));
    }
}

/* Guidance with guiders. */
static void guide(const struct guidance *g, const struct guidance_at *given, double scale,
                  float *pred)
{
    size_t n = given->n, state = (size_t)guidance_state(g) * n;
    float *changed = given->memory + 2 * state;
    struct guider_at at = { .ask = given->ask,
                            .n = n,
                            .channels = given->channels,
                            .scale = scale,
                            .negative = changed,
                            .positive = given->predictions + n,
                            .clean = given->clean,
                            .work = changed + n };
    memcpy(changed, given->predictions, n * sizeof *changed);
    each(g, &at, NEGATIVE, given->memory, changed);
    if (!each(g, &at, COMBINE, given->memory, pred))
        plain(&at, pred);
    add_rows(g, given, at.positive, pred);
    each(g, &at, AFTER, given->memory, pred);
}

void guidance_combine(const struct guidance *g, const struct guidance_at *at, float *pred)
{
    const float *positive = at->predictions + at->n;
    size_t n = at->n, state = (size_t)guidance_state(g) * n;
    struct guider_at two = { .n = n, .negative = at->predictions, .positive = positive };
    if (state)
        memcpy(at->memory + state, at->memory, state * sizeof *pred);
    if (!is_on(g, at->ask, &two.scale)) {
        memcpy(pred, at->predictions, n * sizeof *pred);
        add_rows(g, at, at->predictions, pred);
        return;
    }
    if (count(g))
        guide(g, at, two.scale, pred);
    else
        plain(&two, pred);
    if (g->rescale <= 0)
        return;
    double guided = deviation(pred, n), factor = guided > 0 ? deviation(positive, n) / guided : 0;
    for (size_t i = 0; i < n; i++)
        pred[i] = (float)(g->rescale * (pred[i] * factor) + (1 - g->rescale) * pred[i]);
}
