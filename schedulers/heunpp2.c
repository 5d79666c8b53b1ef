/* heunpp2.c - Heun++: a step's slope is the weighted mean of the slopes where it begins, where it
 * leads and one step further, with weights that shrink with sigma: the further two weigh s/(3 S),
 * where s is their level and S the run's first. The last step but one looks ahead once, with weight
 * s/(2 S), and the last, to sigma 0, is Euler's.
 *
 * No paper has it; the rule is that of Carzit's sd-webui-samplers-scheduler, which ComfyUI has as
 * heunpp2. For a run of many steps its order of accuracy is 1. */
#include "schedulers/scheduler_impl.h"

#include <string.h>

/* Latents of the step's beginning, and the slopes of its first two evaluations. */
enum { START, FIRST, SECOND, VECTORS };

static int evaluations(const struct sched_config *config, int step)
{
    int left = config->steps - step;
    return left < 3 ? left : 3;
}

static double level(const struct sched_config *config, const struct sched_way *way, int part)
{
    (void)config;
    return part == 1 ? way->to : way->after;
}

/* The last evaluation of a step: from its beginning along the mean of all its slopes. */
static void finish(struct sched *s, const struct sched_place *at, struct sched_pair slope,
                   const float *pred)
{
    double dt = (double)s->sigmas[at->next] - s->sigmas[at->begin];
    double all = (at->part + 1) * (double)s->sigmas[s->state->first];
    double second = at->part > 1 ? s->sigmas[at->begin + 1] / all : 0;
    double last = at->part ? s->sigmas[at->begin + at->part] / all : 1;
    double first = at->part ? 1 - second - last : 0;
    float *x = sched_latents(s);
    struct sched_term terms[] = { { 1, sched_vector(s, START) },
                                  { dt * last * slope.x, x },
                                  { dt * last * slope.pred, pred },
                                  { dt * first, sched_vector(s, FIRST) },
                                  { dt * second, sched_vector(s, SECOND) } };
    sched_mix(x, s->n, terms, at->part > 1 ? 5 : at->part ? 4 : 3);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    struct sched_place at = sched_place(s, e);
    struct sched_pair slope = sched_slope(s, s->sigmas[e]);
    float *x = sched_latents(s);
    if (!at.part)
        memcpy(sched_vector(s, START), x, s->n * sizeof *x);
    if (e + 1 == at.next) {
        finish(s, &at, slope, answer->pred);
        return;
    }
    float *kept = sched_vector(s, at.part ? SECOND : FIRST);
    double dt = (double)s->sigmas[e + 1] - s->sigmas[e];
    struct sched_term now[] = { { slope.x, x }, { slope.pred, answer->pred } };
    sched_mix(kept, s->n, now, 2);
    struct sched_term ahead[] = { { 1, x }, { dt, kept } };
    sched_mix(x, s->n, ahead, 2);
}

static const char *const aliases[] = { "Heun++", NULL };

const struct sched_info sched_heunpp2 = {
    .name = "heunpp2",
    .title = "Heun++ 2",
    .aliases = aliases,
    .order = 1,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .layout = { .evaluations = evaluations, .level = level },
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
