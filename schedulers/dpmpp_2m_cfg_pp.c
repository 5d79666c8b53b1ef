/* dpmpp_2m_cfg_pp.c - DPM-Solver++(2M) with CFG++ (Chung et al. 2024, arXiv 2406.08070): towards
 * the guided x0, along the noise of the unconditional one, and the history is the guided x0 less
 * the unconditional one before. Reference: ComfyUI's sample_dpmpp_2m_cfg_pp. The first step and the
 * last, to sigma 0, are euler_cfg_pp's. */
#include "schedulers/scheduler_impl.h"

#include "base/dmath.h"

/* History: unconditional x0 of this evaluation and of the one before, by turns. */
enum { VECTORS = 2 };

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    double sigma = s->sigmas[e], next = s->sigmas[e + 1], keep = next / sigma, extra = 0;
    struct sched_pair clean = sched_clean(s, sigma);
    float *x = sched_latents(s), *x0 = sched_vector(s, e % VECTORS);
    bool history = e > s->state->first && e < s->levels - 1;
    struct sched_term now[] = { { clean.x, x }, { clean.pred, answer->uncond } };
    sched_mix(x0, s->n, now, 2);
    if (history)
        extra = (1 - keep) * dr_log(sigma / next) / (2 * dr_log(s->sigmas[e - 1] / sigma));
    struct sched_term terms[] = { { keep + (1 + extra) * clean.x, x },
                                  { (1 + extra) * clean.pred, answer->pred },
                                  { -keep, x0 },
                                  { -extra, sched_vector(s, (e + 1) % VECTORS) } };
    sched_mix(x, s->n, terms, history ? 4 : 3);
}

static const char *const aliases[] = { "DPM++ 2M CFG++", NULL };

const struct sched_info sched_dpmpp_2m_cfg_pp = {
    .name = "dpmpp_2m_cfg_pp",
    .title = "DPM++ 2M CFG PP",
    .aliases = aliases,
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .cfg = 1,
    .uncond = true,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
