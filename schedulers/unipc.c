/* unipc.c - UniPC of order 2 with B2(h), x0 prediction (Zhao et al. 2023, arXiv 2302.04867,
 * algorithms 5 to 8): each evaluation first corrects the step that led to it, then predicts the
 * next. Reference: diffusers UniPCMultistepScheduler with solver_type bh2 and lower_order_final.
 *
 * With lambda = -log(sigma), expm1(-h) of a step is sigma_next/sigma - 1. The names r, rho and b
 * are the paper's. */
#include "schedulers/scheduler_impl.h"

#include <string.h>

#include "base/dmath.h"

/* x0 of this evaluation and of the one before by turns; the corrected latents the last prediction
 * started from. */
enum { CLEAN_EVEN, CLEAN_ODD, START, VECTORS };

/* Order of the step taken after evaluation e: 1 at the start and at the end. */
static int order_at(const struct sched *s, int e)
{
    return e == s->state->first || e == s->evaluations - 1 ? 1 : 2;
}

/* The step after evaluation e. */
struct unipc_step {
    double to_x;  /* weight of the latents it starts from */
    double bh;    /* expm1(-h) */
    double scale; /* alpha of its end times bh */
    double h;     /* 0 where the end is without noise */
    double r;     /* the step before, going back, over h; 0 in order 1 */
};

static struct unipc_step step_after(const struct sched *s, int e)
{
    double from = s->sigmas[e], to = s->sigmas[e + 1];
    double alpha_to = sched_alpha_at(s, to);
    struct unipc_step step = {
        .to_x = to * alpha_to / (from * sched_alpha_at(s, from)),
        .bh = (to - from) / from,
        .scale = alpha_to * ((to - from) / from),
        .h = to > 0 ? dr_log(from / to) : 0,
    };
    if (order_at(s, e) == 2)
        step.r = dr_log(from / s->sigmas[e - 1]) / step.h;
    return step;
}

/* UniC: replaces START by the latents of evaluation e, now that the model has spoken there: `clean`
 * are the weights of the latents and of pred in its x0. */
static void correct(struct sched *s, int e, struct sched_pair clean, const float *pred)
{
    struct unipc_step step = step_after(s, e - 1);
    double rho_old = 0, rho_now = 0.5;
    if (step.r != 0) {
        double hh = -step.h;
        double phi_2 = step.bh / hh - 1, phi_3 = phi_2 / hh - 0.5;
        double b_1 = phi_2 / step.bh, b_2 = 2 * phi_3 / step.bh;
        rho_old = (b_1 - b_2) / (1 - step.r);
        rho_now = b_1 - rho_old;
        rho_old /= step.r;
    }
    float *start = sched_vector(s, START);
    struct sched_term terms[] = {
        { step.to_x, start },
        { -step.scale * (1 - rho_old - rho_now), sched_vector(s, (e + 1) % 2) },
        { -step.scale * rho_now * clean.x, sched_latents(s) },
        { -step.scale * rho_now * clean.pred, pred },
        { -step.scale * rho_old, sched_vector(s, e % 2) },
    };
    sched_mix(start, s->n, terms, step.r != 0 ? 5 : 4);
}

/* UniP: the latents of the next evaluation from START. */
static void predict(struct sched *s, int e)
{
    struct unipc_step step = step_after(s, e);
    double old = step.r != 0 ? 0.5 / step.r : 0;
    struct sched_term terms[] = {
        { step.to_x, sched_vector(s, START) },
        { -step.scale * (1 - old), sched_vector(s, e % 2) },
        { -step.scale * old, sched_vector(s, (e + 1) % 2) },
    };
    sched_mix(sched_latents(s), s->n, terms, step.r != 0 ? 3 : 2);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    const float *pred = answer->pred;
    int e = s->state->evaluation;
    double sigma = s->sigmas[e], alpha = sched_alpha_at(s, sigma);
    struct sched_pair clean = sched_vp_clean(s, alpha, sigma * alpha);
    float *x = sched_latents(s);
    if (e > s->state->first)
        correct(s, e, clean, pred);
    else
        memcpy(sched_vector(s, START), x, s->n * sizeof *x);
    struct sched_term now[] = { { clean.x, x }, { clean.pred, pred } };
    sched_mix(sched_vector(s, e % 2), s->n, now, 2);
    predict(s, e);
}

static const char *const aliases[] = { "uni_pc_bh2", "UniPCMultistep", NULL };

static const struct sched_fixed_key fixed[] = {
    { "solver_type", "bh2|midpoint|heun|logrho" },
    { "predict_x0", "true" },
    { "lower_order_final", "true" },
    { "disable_corrector", "[]" },
    { "solver_p", "null" },
    { "sigma_min", "null" },
    { "sigma_max", "null" },
    { "shift_terminal", "null" },
    { NULL, NULL },
};

const struct sched_info sched_unipc = {
    .name = "unipc",
    .title = "UniPC",
    .diffusers = "UniPCMultistepScheduler",
    .aliases = aliases,
    .fixed = fixed,
    .order = 3,
    .rule = SCHED_RULE_DPM,
    .vp = true,
    .sigma_flags = true,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
