/* deis.c - DEIS of the kind tAB: the slope as a polynomial in the time of the
 * variance-preserving process through up to four evaluations, integrated over sigma (Zhang and
 * Chen 2022, arXiv 2204.13902, equation 15). The first steps have the order of their history,
 * the last, to sigma 0, is Euler's. Reference: ComfyUI's sample_deis with deis_mode tab, which
 * sums its integrals over 10,000 points; Gauss' rule used here is exact to rounding.
 *
 * Time t follows from sigma^2 + 1 = exp(b t^2 / 2 + a t), where a and b are such that sigma is
 * 0.002 at t = 0.001 and 80 at t = 1. */
#include "schedulers/adams.h"

#include <math.h>

#include "base/dmath.h"

enum { MAX_ORDER };

static const struct sched_option options[] = {
    [MAX_ORDER] = { "max_order", 1, 4, 3, true, "most evaluations that a step is made from", NULL },
    { .name = NULL },
};

static double time_of(double sigma, const void *context)
{
    static const double low = 0.002, high = 80, first = 0.001;
    double top = dr_log1p(high * high);
    double b = 2 * (dr_log1p(low * low) / first - top) / (first - 1), a = top - b / 2;
    (void)context;
    return (sqrt(a * a + 2 * b * dr_log1p(sigma * sigma)) - a) / b;
}

static double one(double sigma, const void *context)
{
    (void)sigma;
    (void)context;
    return 1;
}

static void fill(const float *sigmas, int e, int order, double weights[ADAMS_MOST])
{
    double nodes[ADAMS_MOST];
    struct adams_integral g = {
        .a = sigmas[e], .b = sigmas[e + 1], .nodes = nodes, .n = order, .at = time_of, .factor = one
    };
    for (int k = 0; k < order; k++)
        nodes[k] = time_of(sigmas[e - k], NULL);
    for (g.k = 0; g.k < order; g.k++)
        weights[g.k] = adams_integrate(&g);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    adams_step(s, answer, (int)sched_option_value(s, MAX_ORDER), fill);
}

const struct sched_info sched_deis = {
    .name = "deis",
    .title = "DEIS",
    .order = 3,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .options = options,
    .zero_snr = true,
    .vectors = ADAMS_MOST,
    .feed = feed,
};
