/* euler_a_cfg_pp.c - euler_cfg_pp's step to below the next level, then fresh noise up to it
 * (CFG++: Chung et al. 2024, arXiv 2406.08070). Reference: ComfyUI's
 * sample_euler_ancestral_cfg_pp. The last step, to sigma 0, ends at the guided x0. */
#include "schedulers/scheduler_impl.h"

enum { ETA, S_NOISE };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    { .name = NULL },
};

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    double from = s->sigmas[e], to = s->sigmas[e + 1];
    struct sched_ancestral way = sched_ancestral_parts(from, to, sched_option_value(s, ETA));
    struct sched_pair clean = sched_clean(s, from), slope = sched_slope(s, from);
    const float *noise = to > 0 ? sched_next_noise(s, from, to) : NULL;
    float *x = sched_latents(s);
    struct sched_term terms[] = { { clean.x + way.down * slope.x, x },
                                  { clean.pred, answer->pred },
                                  { way.down * slope.pred, answer->uncond },
                                  { way.up * sched_option_value(s, S_NOISE), noise } };
    sched_mix(x, s->n, terms, noise ? 4 : 3);
}

static const char *const aliases[] = { "euler_ancestral_cfg_pp", "Euler a CFG++", NULL };

const struct sched_info sched_euler_a_cfg_pp = {
    .name = "euler_a_cfg_pp",
    .title = "Euler a CFG PP",
    .aliases = aliases,
    .order = 1,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .cfg = 1,
    .uncond = true,
    .zero_snr = true,
    .feed = feed,
};
