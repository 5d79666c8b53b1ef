/* euler_cfg_pp.c - Euler's step with CFG++ (Chung et al. 2024, arXiv 2406.08070): towards the
 * guided image, but along the noise of the unconditional prediction. Reference: ComfyUI's
 * sample_euler_cfg_pp, x' = D + sigma' (x - D_u) / sigma.
 *
 * The guidance scale is the paper's lambda: 0.4 to 1.5, where 1 is the conditional prediction. */
#include "schedulers/scheduler_impl.h"

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    double sigma = s->sigmas[e], next = s->sigmas[e + 1];
    struct sched_pair clean = sched_clean(s, sigma), slope = sched_slope(s, sigma);
    float *x = sched_latents(s);
    struct sched_term terms[] = { { clean.x + next * slope.x, x },
                                  { clean.pred, answer->pred },
                                  { next * slope.pred, answer->uncond } };
    sched_mix(x, s->n, terms, 3);
}

static const char *const aliases[] = { "Euler CFG++", NULL };

const struct sched_info sched_euler_cfg_pp = {
    .name = "euler_cfg_pp",
    .title = "Euler CFG PP",
    .aliases = aliases,
    .order = 1,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .zero_snr = true,
    .cfg = 1,
    .uncond = true,
    .feed = feed,
};
