/* lms.c - linear multistep: the slope as a polynomial in sigma through up to four past ones,
 * integrated to the next level. Reference: diffusers LMSDiscreteScheduler, which integrates
 * numerically to 1e-4; the two-point Gauss rule used here is exact for these cubics.
 *
 * After a start in the middle the reference still builds the polynomial of the absolute step's
 * order, with nodes at levels that were never visited, and leaves the terms out for which it has no
 * slope. So does this. */
#include "schedulers/scheduler_impl.h"

#include <math.h>

enum { ORDER = 4 };

/* The k-th Lagrange polynomial of the nodes sigmas[e - j], j = 0 .. order-1, at tau. */
static double basis(const float *sigmas, int e, int order, int k, double tau)
{
    double product = 1;
    for (int j = 0; j < order; j++) {
        if (j != k)
            product *= (tau - sigmas[e - j]) / ((double)sigmas[e - k] - sigmas[e - j]);
    }
    return product;
}

static double weight(const float *sigmas, int e, int order, int k)
{
    double half = ((double)sigmas[e + 1] - sigmas[e]) / 2;
    double middle = ((double)sigmas[e + 1] + sigmas[e]) / 2;
    double offset = half / sqrt(3);
    return half * (basis(sigmas, e, order, k, middle - offset) +
                   basis(sigmas, e, order, k, middle + offset));
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    const float *pred = answer->pred;
    int e = s->state->evaluation, past = e - s->state->first + 1;
    int order = e + 1 < ORDER ? e + 1 : ORDER;
    struct sched_pair weights = sched_slope(s, s->sigmas[e]);
    float *x = sched_latents(s);
    struct sched_term now[] = { { weights.x, x }, { weights.pred, pred } };
    sched_mix(sched_vector(s, e % ORDER), s->n, now, 2);
    struct sched_term terms[ORDER + 1] = { { 1, x } };
    int count = 1;
    for (int k = 0; k < order && k < past; k++)
        terms[count++] = (struct sched_term){ weight(s->sigmas, e, order, k),
                                              sched_vector(s, (e - k) % ORDER) };
    sched_mix(x, s->n, terms, count);
}

static const char *const aliases[] = { "LMSDiscrete", NULL };

static const struct sched_fixed_key fixed[] = {
    { NULL, NULL },
};

const struct sched_info sched_lms = {
    .name = "lms",
    .title = "LMS",
    .diffusers = "LMSDiscreteScheduler",
    .aliases = aliases,
    .fixed = fixed,
    .order = 4,
    .rule = SCHED_RULE_EULER,
    .sigma_flags = true,
    .vectors = ORDER,
    .feed = feed,
};
