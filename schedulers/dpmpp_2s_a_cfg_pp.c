/* dpmpp_2s_a_cfg_pp.c - ancestral DPM-Solver++(2S) with CFG++ (Chung et al. 2024, arXiv
 * 2406.08070): the step of dpmpp_2s_a.c along the unconditional prediction, and at its end the
 * guided x0 less the unconditional one, both of its first evaluation, on top. Reference: ComfyUI's
 * sample_dpmpp_2s_ancestral_cfg_pp. The last step, to sigma 0, is Euler's. */
#include "schedulers/scheduler_impl.h"

#include <math.h>
#include <string.h>

enum { ETA, S_NOISE };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    { .name = NULL },
};

/* Latents of the step's beginning; the guided x0 less the unconditional one there. */
enum { START, GUIDANCE, VECTORS };

static double level(const struct sched_config *config, const struct sched_way *way, int part)
{
    (void)part;
    double down = sched_ancestral_parts(way->from, way->to, config->option[ETA]).down;
    return sqrt(way->from * down);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    struct sched_place at = sched_place(s, e);
    double from = s->sigmas[at.begin], to = s->sigmas[at.next];
    struct sched_ancestral way = sched_ancestral_parts(from, to, sched_option_value(s, ETA));
    struct sched_pair clean = sched_clean(s, s->sigmas[e]);
    bool inside = !at.part && at.next > at.begin + 1;
    float *x = sched_latents(s), *start = sched_vector(s, START);
    float *guidance = sched_vector(s, GUIDANCE);
    if (!at.part) {
        struct sched_term apart[] = { { clean.pred, answer->pred },
                                      { -clean.pred, answer->uncond } };
        memcpy(start, x, s->n * sizeof *x);
        sched_mix(guidance, s->n, apart, 2);
    }
    double keep = (inside ? s->sigmas[e + 1] : way.down) / from;
    const float *noise = !inside && to > 0 ? sched_next_noise(s, from, to) : NULL;
    struct sched_term terms[] = { { keep, start },
                                  { (1 - keep) * clean.x, x },
                                  { (1 - keep) * clean.pred, answer->uncond },
                                  { inside ? 0 : 1, guidance },
                                  { way.up * sched_option_value(s, S_NOISE), noise } };
    sched_mix(x, s->n, terms, noise ? 5 : 4);
}

static const char *const aliases[] = { "dpmpp_2s_ancestral_cfg_pp", "DPM++ 2S a CFG++", NULL };

const struct sched_info sched_dpmpp_2s_a_cfg_pp = {
    .name = "dpmpp_2s_a_cfg_pp",
    .title = "DPM++ 2S a CFG PP",
    .aliases = aliases,
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .layout = { .evaluations = sched_two_but_last, .level = level },
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .cfg = 1,
    .uncond = true,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
