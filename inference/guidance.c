/* guidance.c - see guidance.h. */
#include "inference/guidance.h"

#include <math.h>
#include <string.h>

#include "models/unet.h"

static bool is_on(const struct guidance *g)
{
    return g->scale > 1;
}

int guidance_rows(const struct guidance *g)
{
    return is_on(g) ? 2 : 1;
}

void guidance_expand(const struct guidance *g, const struct sched_ask *ask, float *predictions,
                     size_t n, struct unet_row *rows)
{
    int count = guidance_rows(g);
    for (int i = 0; i < count; i++) {
        rows[i] = (struct unet_row){ .latent = ask->x,
                                     .timestep = ask->timestep,
                                     .context = i == count - 1 ? g->positive : g->negative };
        rows[i].pred = predictions + (size_t)i * n;
    }
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

void guidance_combine(const struct guidance *g, const float *predictions, size_t n, float *pred)
{
    if (!is_on(g)) {
        memcpy(pred, predictions, n * sizeof *pred);
        return;
    }
    const float *negative = predictions, *positive = predictions + n;
    for (size_t i = 0; i < n; i++)
        pred[i] = (float)(negative[i] + g->scale * ((double)positive[i] - negative[i]));
    if (g->rescale <= 0)
        return;
    double factor = deviation(positive, n) / deviation(pred, n);
    for (size_t i = 0; i < n; i++)
        pred[i] = (float)(g->rescale * (pred[i] * factor) + (1 - g->rescale) * pred[i]);
}
