/* ipndm_v.c - improved PNDM with weights that follow the steps' lengths: Adams and Bashforth's
 * slopes of up to four evaluations (Zhang and Chen 2022, arXiv 2204.13902). The first steps have
 * the order of their history, the last, to sigma 0, is Euler's. Reference: ComfyUI's
 * sample_ipndm_v, from Zhou et al.'s diff-sampler.
 *
 * The reference's second and third differences have factors at other places, and the third a
 * sign, than the interpolating polynomial has. The order is 2 with max_order 3; with 4 the
 * weights sum up to 1 only as far as the steps' lengths are in one ratio. */
#include "schedulers/adams.h"

enum { MAX_ORDER };

static const struct sched_option options[] = {
    [MAX_ORDER] = { "max_order", 1, 4, 4, true, "most evaluations that a step is made from", NULL },
    { .name = NULL },
};

/* Lengths of this step and of those before. */
struct lengths {
    double now, back_1, back_2, back_3;
};

/* Weight of the second difference. */
static double second(const struct lengths *h)
{
    double ahead = h->now + h->back_1;
    return (1 - h->now / (3 * ahead) * (h->now * ahead) / (h->back_1 * (h->back_1 + h->back_2))) /
           2;
}

/* Weight of the third difference. */
static double third(const struct lengths *h)
{
    double ahead = h->now + h->back_1, all = ahead + h->back_2;
    double share = (1 - h->now / (3 * ahead)) / 2 + (1 - h->now / (2 * ahead)) * h->now / (6 * all);
    return share * (h->now * ahead * all) /
           (h->back_1 * (h->back_1 + h->back_2) * (h->back_1 + h->back_2 + h->back_3));
}

static void fill(const float *sigmas, int e, int order, double weights[ADAMS_MOST])
{
    struct lengths h = { (double)sigmas[e + 1] - sigmas[e], (double)sigmas[e] - sigmas[e - 1],
                         order > 2 ? (double)sigmas[e - 1] - sigmas[e - 2] : 0,
                         order > 3 ? (double)sigmas[e - 2] - sigmas[e - 3] : 0 };
    double ratio = h.now / h.back_1;
    double w[ADAMS_MOST] = { 1 + ratio / 2, -ratio / 2 };
    if (order > 2) {
        double d_2 = second(&h), r = h.back_1 / h.back_2;
        w[0] += d_2;
        w[1] -= (1 + r) * d_2;
        w[2] += r * d_2;
        if (order > 3) {
            double d_3 = third(&h);
            double q = h.back_1 * (h.back_1 + h.back_2) / (h.back_2 * (h.back_2 + h.back_3));
            w[0] += d_3;
            w[1] -= (1 + r + q) * d_3;
            w[2] += (r + q * (1 + h.back_2 / h.back_3)) * d_3;
            w[3] = -d_3 * q * r;
        }
    }
    for (int k = 0; k < order; k++)
        weights[k] = h.now * w[k];
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    adams_step(s, answer, (int)sched_option_value(s, MAX_ORDER), fill);
}

const struct sched_info sched_ipndm_v = {
    .name = "ipndm_v",
    .title = "iPNDM v",
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .options = options,
    .zero_snr = true,
    .vectors = ADAMS_MOST,
    .feed = feed,
};
