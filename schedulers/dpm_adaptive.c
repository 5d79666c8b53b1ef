/* dpm_adaptive.c - DPM-Solver-12 and -23 with steps whose length follows the error (Lu et al. 2022,
 * arXiv 2206.00927, appendix C): each step is done in two orders, and a PID controller (Soederlind
 * 2003) makes the next one longer or shorter, or this one again. Reference: k-diffusion's
 * sample_dpm_adaptive.
 *
 * It goes from the schedule's first level to its last above 0, by as many evaluations as that
 * takes. The reference ends there; `denoise_to_zero`, as the paper's authors call it, is one more
 * evaluation, Euler's step to sigma 0. Time is t = -log(sigma). */
#include "schedulers/scheduler_impl.h"

#include <math.h>
#include <string.h>

#include "base/dmath.h"

enum {
    ORDER,
    RTOL,
    ATOL,
    H_INIT,
    PCOEFF,
    ICOEFF,
    DCOEFF,
    ACCEPT_SAFETY,
    ETA,
    S_NOISE,
    DENOISE_TO_ZERO
};

static const struct sched_option options[] = {
    [ORDER] = { "order", 2, 3, 3, true, "evaluations of a step, and its order", NULL },
    [RTOL] = { "rtol", 0, 1, 0.05, false, "error of a step relative to the latents", NULL },
    [ATOL] = { "atol", 0.00001, 1, 0.0078, false, "error of a step that is always fine", NULL },
    [H_INIT] = { "h_init", 0.0001, 10, 0.05, false, "length of the first step, in log sigma",
                 NULL },
    [PCOEFF] = { "pcoeff", -2, 2, 0, false, "controller: weight of the proportional term", NULL },
    [ICOEFF] = { "icoeff", 0, 2, 1, false, "controller: weight of the integral term", NULL },
    [DCOEFF] = { "dcoeff", -2, 2, 0, false, "controller: weight of the differential term", NULL },
    [ACCEPT_SAFETY] = { "accept_safety", 0.3, 1, 0.81, false,
                        "a step is taken if the next would be this much of its length", NULL },
    [ETA] = { "eta", 0, 1, 0, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    [DENOISE_TO_ZERO] = { "denoise_to_zero", 0, 1, 1, true,
                          "1: end with a step to no noise; 0: at the schedule's lowest level",
                          NULL },
    { .name = NULL },
};

/* Latents where the step began; eps there and at its first inner level; the lower-order result of
 * the step before. */
enum { START, EPS, EPS_INNER, BEFORE, VECTORS };

/* Time now and at the end, the length to try next, inverse errors of this step and the last two
 * that were taken (0: none yet), the evaluation of the step that comes next, and the step's ends:
 * where it leads, and where its solver goes before noise is added. */
enum { TIME, END, LENGTH, ERROR_0, ERROR_1, ERROR_2, PART, NEXT, DOWN, SCALARS };

/* Values of PART beyond the step's evaluations. */
enum { LAST = 8, DONE, STUCK };

static const double tiny = 1e-5; /* a rest of time that is no step */

static double sigma_at(double time)
{
    return dr_exp(-time);
}

/* The share of the step at which its evaluation `part` is. */
static double share(const struct sched *s, int part)
{
    return sched_option_value(s, ORDER) == 2 ? part / 2.0 : part / 3.0;
}

/* The ends of the step that begins now; or what comes after all steps. */
static void begin_step(struct sched *s)
{
    double *v = sched_scalars(s), eta = sched_option_value(s, ETA);
    if (!(v[TIME] < v[END] - tiny)) {
        v[PART] = sched_option_value(s, DENOISE_TO_ZERO) > 0 ? LAST : DONE;
        return;
    }
    v[PART] = 0;
    v[NEXT] = fmin(v[END], v[TIME] + v[LENGTH]);
    v[DOWN] = v[NEXT];
    if (!(v[NEXT] > v[TIME])) {
        v[PART] = STUCK;
        return;
    }
    if (eta <= 0)
        return;
    struct sched_ancestral way = sched_ancestral_parts(sigma_at(v[TIME]), sigma_at(v[NEXT]), eta);
    v[DOWN] = way.down > 0 ? fmin(v[END], -dr_log(way.down)) : v[END];
}

static void begin(struct sched *s, int first_step)
{
    double *v = sched_scalars(s);
    v[TIME] = -dr_log(s->sigmas[first_step]);
    v[END] = -dr_log(s->sigmas[s->levels - 1]);
    v[LENGTH] = sched_option_value(s, H_INIT);
    begin_step(s);
}

static bool next(const struct sched *s, double *ret_sigma)
{
    const double *v = sched_scalars(s);
    if (v[PART] == DONE)
        return false;
    if (v[PART] == STUCK) {
        *ret_sigma = NAN;
        return true;
    }
    double within = v[PART] == LAST ? 0 : share(s, (int)v[PART]) * (v[DOWN] - v[TIME]);
    *ret_sigma = sigma_at(v[TIME] + within);
    return true;
}

/* Weights of START, EPS and a second eps in the solvers' results. */
struct weights {
    double eps, other;
};

/* Order 1 (other NULL in effect), and order 2 with its inner level at `r`, to share `to` of h. */
static struct weights solver_2(double sigma, double h, double r)
{
    double grown = dr_expm1(h), second = sigma / (2 * r) * grown;
    return (struct weights){ -sigma * grown + second, -second };
}

/* Order 3 with inner levels at 1/3 and 2/3; also u2, with `share` the ratio 2. */
static struct weights solver_3(double sigma, double h, double ratio)
{
    double grown = dr_expm1(h), second = sigma * ratio * (grown / h - 1);
    return (struct weights){ -sigma * grown + second, -second };
}

/* The lower and the higher order's result. eps of the last evaluation is the one that `high` has
 * beside EPS. */
static void weigh(const struct sched *s, struct weights *low, struct weights *high)
{
    const double *v = sched_scalars(s);
    double h = v[DOWN] - v[TIME], sigma = sigma_at(v[DOWN]);
    if (sched_option_value(s, ORDER) == 2) {
        *low = (struct weights){ -sigma * dr_expm1(h), 0 };
        *high = solver_2(sigma, h, 0.5);
    } else {
        *low = solver_2(sigma, h, 1 / 3.0);
        *high = solver_3(sigma, h, 1.5);
    }
}

/* The latents of the step's inner evaluation `part`, from START. */
static void look_inside(struct sched *s, int part)
{
    const double *v = sched_scalars(s);
    double h = share(s, part) * (v[DOWN] - v[TIME]), sigma = sigma_at(v[TIME] + h);
    struct weights w = { -sigma * dr_expm1(h), 0 };
    if (part == 2)
        w = solver_3(sigma, h, 2);
    struct sched_term terms[] = { { 1, sched_vector(s, START) },
                                  { w.eps, sched_vector(s, EPS) },
                                  { w.other, sched_vector(s, EPS_INNER) } };
    sched_mix(sched_latents(s), s->n, terms, part == 2 ? 3 : 2);
}

/* The root mean square of low - high over what is tolerated; `eps` is the last evaluation's. */
static double error_of(struct sched *s, const float *pred, struct sched_pair eps,
                       struct weights low, struct weights high)
{
    const float *start = sched_vector(s, START), *first = sched_vector(s, EPS);
    const float *inner = sched_vector(s, EPS_INNER), *before = sched_vector(s, BEFORE);
    const float *x = sched_latents(s);
    double sum = 0, atol = sched_option_value(s, ATOL), rtol = sched_option_value(s, RTOL);
    for (size_t i = 0; i < s->n; i++) {
        double last = eps.x * x[i] + eps.pred * pred[i];
        double a = start[i] + low.eps * first[i] + low.other * inner[i];
        double b = start[i] + high.eps * first[i] + high.other * last;
        double off = (a - b) / fmax(atol, rtol * fmax(fabs(a), fabs((double)before[i])));
        sum += off * off;
    }
    return sqrt(sum / (double)s->n);
}

/* Whether the step is taken; the length to try next in any case. */
static bool control(struct sched *s, double error)
{
    double *v = sched_scalars(s), p = sched_option_value(s, PCOEFF),
           d = sched_option_value(s, DCOEFF);
    double order = sched_option_value(s, ETA) > 0 ? 1.5 : sched_option_value(s, ORDER);
    v[ERROR_0] = 1 / (error + 1e-8);
    if (v[ERROR_1] <= 0)
        v[ERROR_1] = v[ERROR_2] = v[ERROR_0];
    double factor = dr_pow(v[ERROR_0], (p + sched_option_value(s, ICOEFF) + d) / order) *
                    dr_pow(v[ERROR_1], -(p + 2 * d) / order) * dr_pow(v[ERROR_2], d / order);
    factor = 1 + dr_atan(factor - 1);
    v[LENGTH] *= factor;
    if (!(factor >= sched_option_value(s, ACCEPT_SAFETY)))
        return false;
    v[ERROR_2] = v[ERROR_1];
    v[ERROR_1] = v[ERROR_0];
    return true;
}

/* The step's last evaluation: on to its end, or back to its beginning. */
static void finish_step(struct sched *s, const float *pred, struct sched_pair eps)
{
    double *v = sched_scalars(s);
    struct weights low, high;
    float *x = sched_latents(s), *start = sched_vector(s, START), *first = sched_vector(s, EPS);
    weigh(s, &low, &high);
    if (!control(s, error_of(s, pred, eps, low, high))) {
        memcpy(x, start, s->n * sizeof *x);
        begin_step(s);
        return;
    }
    struct sched_term lower[] = { { 1, start },
                                  { low.eps, first },
                                  { low.other, sched_vector(s, EPS_INNER) } };
    sched_mix(sched_vector(s, BEFORE), s->n, lower, low.other != 0 ? 3 : 2);
    double from = sigma_at(v[TIME]), to = sigma_at(v[NEXT]), down = sigma_at(v[DOWN]);
    double up = sqrt(fmax(to * to - down * down, 0));
    const float *noise = sched_next_noise(s, from, to);
    struct sched_term higher[] = { { 1, start },
                                   { high.eps, first },
                                   { high.other * eps.x, x },
                                   { high.other * eps.pred, pred },
                                   { up * sched_option_value(s, S_NOISE), noise } };
    sched_mix(x, s->n, higher, noise ? 5 : 4);
    v[TIME] = v[NEXT];
    begin_step(s);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    double *v = sched_scalars(s), sigma;
    float *x = sched_latents(s), *start = sched_vector(s, START);
    int part = (int)v[PART];
    (void)next(s, &sigma);
    sigma = (float)sigma;
    struct sched_pair eps = sched_slope(s, sigma);
    if (part == LAST) {
        struct sched_pair clean = sched_clean(s, sigma);
        struct sched_term terms[] = { { clean.x, x }, { clean.pred, answer->pred } };
        sched_mix(x, s->n, terms, 2);
        v[PART] = DONE;
        return;
    }
    if (part == 0) {
        memcpy(start, x, s->n * sizeof *x);
        if (v[ERROR_1] <= 0)
            memcpy(sched_vector(s, BEFORE), x, s->n * sizeof *x);
    }
    if (part == (int)sched_option_value(s, ORDER) - 1) {
        finish_step(s, answer->pred, eps);
        return;
    }
    struct sched_term terms[] = { { eps.x, x }, { eps.pred, answer->pred } };
    sched_mix(sched_vector(s, part ? EPS_INNER : EPS), s->n, terms, 2);
    look_inside(s, part + 1);
    v[PART] = part + 1;
}

static int prepare(struct sched *s, const struct noise_table *table, struct dr_error *err)
{
    (void)table;
    if (s->levels > 1 || sched_option_value(s, DENOISE_TO_ZERO) > 0)
        return 0;
    return dr_fail_field(err, DR_EINVAL, "steps", "1", "at least 2",
                         "the schedule's first and last level are the ends of dpm_adaptive's way");
}

const struct sched_info sched_dpm_adaptive = {
    .name = "dpm_adaptive",
    .title = "DPM adaptive",
    .order = 3,
    .rule = SCHED_RULE_EULER,
    .layout.next = next,
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .zero_snr = true,
    .vectors = VECTORS,
    .scalars = SCALARS,
    .prepare = prepare,
    .begin = begin,
    .feed = feed,
};
