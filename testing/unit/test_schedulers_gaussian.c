/* test_schedulers_gaussian.c - samplers against data of which every answer is known.
 *
 * Each value of the data is normal, with mean M and standard deviation S. Then the best denoiser is
 *
 *     D(x; sigma) = (S^2 x + sigma^2 M) / (S^2 + sigma^2),
 *
 * latents of level sigma have mean M and variance S^2 + sigma^2, and the probability flow, which a
 * sampler without noise follows, keeps (x - M) / sqrt(S^2 + sigma^2). So a wrong coefficient, a
 * wrong level or a wrong array of history shows as an error that does not fall with the sampler's
 * order, and a wrong amount of noise as a wrong variance. All of it walks over schedulers.def.
 *
 * A consistency sampler asks its model for the other end of the flow instead, M + S z for latents
 * z deviations from M: with that it is right after any number of steps.
 *
 * Latents are written here as variance exploding, x = x0 + sigma eps, for every sampler.
 */
#include "testing/helpers/test.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/scheduler_options.h"
#include "schedulers/schedules.h"
#include "testing/helpers/sched_access.h"
#include "testing/helpers/sched_levels.h"

static const double MEAN = 0.3;

struct data {
    double deviation;
    float *z; /* [n] normals: where on the flow each value is */
    size_t n;
    bool end; /* a consistency sampler's model says where the flow ends */
};

static double spread(const struct data *d, double sigma)
{
    return sqrt(d->deviation * d->deviation + sigma * sigma);
}

/* What latents of the sampler's kind are multiplied with to be variance exploding ones. */
static double to_exploding(const struct sched *s, double sigma)
{
    const struct sched_config *c = sched_config_of(s);
    return c->sampler->vp && !sched_is_edm(c) ? sqrt(1 + sigma * sigma) : 1;
}

/* The exact latents of level sigma. */
static void put_exact(const struct sched *s, const struct data *d, double sigma, float *ret_latents)
{
    for (size_t i = 0; i < d->n; i++)
        ret_latents[i] = (float)((MEAN + spread(d, sigma) * d->z[i]) / to_exploding(s, sigma));
}

/* Root mean square distance of the latents from the exact ones, over their spread. */
static double distance(struct sched *s, const struct data *d, double sigma)
{
    double sum = 0;
    for (size_t i = 0; i < d->n; i++) {
        double x = sched_latents(s)[i] * to_exploding(s, sigma);
        double off = (x - MEAN) / spread(d, sigma) - d->z[i];
        sum += off * off;
    }
    return sqrt(sum / (double)d->n);
}

/* The best model's prediction, of the run's type. */
static void predict(const struct sched *s, const struct data *d, const struct sched_ask *ask,
                    float *ret_pred)
{
    const struct sched_config *c = sched_config_of(s);
    bool edm = sched_is_edm(c);
    double data = edm ? c->sigma_data : 1, sigma = ask->sigma;
    double own = d->deviation * d->deviation, noise = sigma * sigma;
    double scale = sqrt(data * data + noise);
    enum sched_prediction kind = c->prediction;
    bool end = c->sampler->consistency && d->end;
    for (size_t i = 0; i < d->n; i++) {
        double x = ask->x[i] * scale;
        double clean = (own * x + noise * MEAN) / (own + noise);
        if (end)
            clean = MEAN + d->deviation * (x - MEAN) / spread(d, sigma);
        double eps = (x - clean) / sigma;
        double v = (eps - sigma * clean) / scale;
        double out = (clean - data * data / (scale * scale) * x) * scale / (sigma * data);
        ret_pred[i] = (float)(kind == SCHED_EPSILON  ? eps
                              : kind == SCHED_SAMPLE ? clean
                              : kind == SCHED_EDM    ? out
                              : kind == SCHED_EDM_V  ? -out
                                                     : v);
    }
}

/* Options with which these tests run a sampler: those with which it does what is tested in every
 * step. */
static const char *options_of(const struct sched_info *sampler, double eta)
{
    if (!strcmp(sampler->name, "er_sde") && eta <= 0)
        return "er_sde,solver_type=ode";
    /* its reference's weights of four sum up to 1 on steps of one ratio alone */
    if (!strcmp(sampler->name, "ipndm_v"))
        return "ipndm_v,max_order=3";
    return NULL;
}

static int apply_options(double eta, struct sched_config *config, struct dr_error *err)
{
    const char *options = options_of(config->sampler, eta);
    struct spec spec;
    if (sched_option_row(config->sampler, "eta") < 0)
        eta = NAN;
    if (!options)
        return sched_options_apply(NULL, eta, config, err);
    assert_int_equal(spec_parse("sampler", options, &spec, err), 0);
    int r = sched_options_apply(&spec, eta, config, err);
    spec_release(&spec);
    return r;
}

static struct sched *make(const struct sched_info *sampler, const char *schedule,
                          enum sched_prediction prediction, int steps, double eta, size_t n)
{
    struct dr_error err = { 0 };
    struct sched *s = NULL;
    struct sched_config config = {
        .sampler = sampler,
        .schedule = schedule_find(schedule),
        .spacing = SCHED_LEADING,
        .steps = steps,
        .prediction = prediction,
        .sigma_data = 0.7,   /* of EDM */
        .sigma_min = 0.0413, /* as of nine leading steps */
        .sigma_max = 8.0,
        .rho = 7,
        .betas = SCHED_SCALED_LINEAR,
        .beta_start = 0.00085,
        .beta_end = 0.012,
        .train_steps = 1000,
        .steps_offset = 1,
        .set_alpha_to_one = true,
    };
    if (sched_is_edm(&config) && config.schedule->kind != SCHEDULE_RANGE)
        config.schedule = schedule_find("exponential");
    if (apply_options(eta, &config, &err) || sched_new(&config, n, &s, &err))
        fail_msg("%s %s, %d steps: %s", sampler->name, schedule, steps, err.text);
    return s;
}

/* Calls `each` for every sampler and every prediction type that it takes. */
static void walk(void (*each)(const struct sched_info *, enum sched_prediction))
{
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    for (size_t i = 0; i < n; i++) {
        for (int p = 0; p < SCHED_PREDICTION_COUNT; p++) {
            bool edm = p == SCHED_EDM || p == SCHED_EDM_V;
            if ((p != SCHED_SAMPLE || !samplers[i]->no_sample) &&
                (!edm || (samplers[i]->rule != SCHED_RULE_DDIM &&
                          samplers[i]->rule != SCHED_RULE_CONSISTENCY)))
                each(samplers[i], (enum sched_prediction)p);
        }
    }
}

static bool takes_eta(const struct sched_info *sampler)
{
    return sched_option_row(sampler, "eta") >= 0;
}

/* --- without noise: the order of the error --- */

enum {
    VALUES = 264, /* more than a block of sched_mix */
    COARSE = 48,
    FINE = 4 * COARSE,
    MAX_LEVELS = 3 * FINE + 4
};

/* n steps from `high` to `low`, by turns a short one and one of twice the length: with even ones,
 * taking one step's length for another's would not cost the order. Or evenly in sigma. */
struct grid {
    double high, low;
    int n;
    bool even;
};

static double level(const struct grid *g, int i)
{
    if (g->even)
        return g->high + (g->low - g->high) * i / g->n;
    double u = (i % 2 ? i - 1 / 3.0 : i) / g->n;
    return pow(cbrt(g->high) + u * (cbrt(g->low) - cbrt(g->high)), 3);
}

/* The levels, and a last step to 0 that is not looked at. */
static void set_levels(struct sched *s, const struct grid *g)
{
    struct dr_error err = { 0 };
    float levels[MAX_LEVELS], sigmas[MAX_LEVELS];
    for (int i = 0; i <= g->n; i++)
        levels[i] = (float)level(g, i);
    levels[g->n + 1] = 0;
    assert_int_equal(test_lay_out(s, levels, sigmas), sched_evaluations(s));
    if (sched_replace(s, NULL, sigmas, &err))
        fail_msg("%s: %s", sched_config_of(s)->sampler->name, err.text);
}

/* Largest error at the levels from `given` to `last`. At those before, the latents are put right:
 * so a sampler with history gets a whole one to start with. */
static double flow_error(const struct sched_info *sampler, enum sched_prediction prediction,
                         const struct grid *g, int given, int last)
{
    struct dr_error err = { 0 };
    struct sched_ask ask;
    struct dr_rng rng; /* of samplers whose noise has no eta: they draw none with these options */
    float z[VALUES], x[VALUES], pred[VALUES];
    dr_rng_seed(&rng, DR_RNG_CPU, 1);
    for (int i = 0; i < VALUES; i++)
        z[i] = (float)(4.0 * i / VALUES - 2);
    struct data d = { .deviation = 0.7, .z = z, .n = VALUES };
    struct sched *s = make(sampler, "sgm_uniform", prediction, g->n + 1, 0, VALUES);
    set_levels(s, g);
    put_exact(s, &d, sched_sigmas(s)[0], x);
    assert_int_equal(sched_begin(s, x, 0, &err), 0);
    double worst = 0;
    int step = -1;
    while (sched_next(s, &ask) && ask.step <= last) {
        bool begins = ask.step > step;
        step = ask.step;
        if (begins && step < given) {
            put_exact(s, &d, ask.sigma, sched_latents(s));
            assert_true(sched_next(s, &ask));
        } else if (begins && !(distance(s, &d, ask.sigma) <= worst)) {
            worst = distance(s, &d, ask.sigma);
        }
        predict(s, &d, &ask, pred);
        assert_int_equal(sched_feed(s, pred, pred, &rng, &err), 0);
    }
    assert_int_equal(step, last);
    sched_free(s);
    return worst;
}

/* Below this, rounding of the float32 latents hides the order. */
static const double ROUNDING = 3e-6;

/* `exactly`: a higher order is a fault too, the descriptor's. */
static void check_slope(const struct sched_info *sampler, const double errors[2], int order,
                        bool exactly)
{
    double slope = log2(errors[0] / errors[1]);
    /* dpmpp_2m_v2 is of order 1 on these levels, and the worst of all with 0.052 */
    double most = strcmp(sampler->name, "dpmpp_2m_v2") ? 0.05 : 0.06;
    if (!(errors[0] < most) || !(slope > order - 0.25) || (exactly && slope > order + 0.25))
        fail_msg("%s: with twice the steps the error goes from %.3g to %.3g, order %.2f instead of "
                 "%d",
                 sampler->name, errors[0], errors[1], slope, order);
}

/* Errors of runs with a whole history of `given` levels: 48, 96 and 192 steps, or as few as it
 * takes for rounding not to hide them. */
static void check_errors(const struct sched_info *sampler, enum sched_prediction prediction,
                         const struct grid *ends, int given, int order, bool exactly)
{
    double errors[3] = { 0 };
    for (int n = COARSE; n >= COARSE / 4 && !(errors[1] > ROUNDING); n /= 2) {
        for (int i = 0; i < 3; i++) {
            struct grid g = { ends->high, ends->low, n << i, ends->even };
            errors[i] = flow_error(sampler, prediction, &g, given, g.n);
        }
    }
    check_slope(sampler, errors, order, exactly);
    if (errors[2] > ROUNDING)
        check_slope(sampler, errors + 1, order, exactly);
}

/* With a whole history the order is the descriptor's. From its first steps, whose order is lower, a
 * run may keep no more than the second. */
static void check_order(const struct sched_info *sampler, enum sched_prediction prediction)
{
    if (sampler->layout.next || (sampler->consistency && !takes_eta(sampler)))
        return;
    /* sums of a fixed number of points: of a higher order until steps are very many */
    bool sums = !strcmp(sampler->name, "er_sde");
    for (int k = sampler->order > 1 ? 0 : 1; k < 2; k++) {
        check_errors(sampler, prediction, &(struct grid){ 8, 0.25, 0, false },
                     k ? sampler->order : 1, k ? sampler->order : 2, k && !sums);
    }
    if (sampler->even_order)
        check_errors(sampler, prediction, &(struct grid){ 8, 0.25, 0, true }, sampler->even_order,
                     sampler->even_order, true);
}

static void errors_fall_with_the_order(void **state)
{
    (void)state;
    walk(check_order);
}

/* The error of step k alone, with right latents at the levels before: its order is that of a
 * polynomial through the k + 1 evaluations that there are, up to the sampler's. */
static void check_first_steps(const struct sched_info *sampler, enum sched_prediction prediction)
{
    /* What is seen of unipc are its predictions; its order is that of the corrected latents, one
     * evaluation later. */
    int most = sampler->order - !strcmp(sampler->name, "unipc");
    if (sampler->consistency && !takes_eta(sampler))
        return;
    for (int k = 0; k < sampler->order && !sampler->layout.next; k++) {
        struct grid grids[] = { { 1.2, 0.1, 16, false }, { 1.2, 0.1, 32, false } };
        double coarse = flow_error(sampler, prediction, &grids[0], k + 1, k + 1);
        double fine = flow_error(sampler, prediction, &grids[1], k + 1, k + 1);
        int order = k + 1 < most ? k + 1 : most;
        double slope = log2(coarse / fine); /* one more than the order of a whole run */
        if (!(slope > order + 0.6) && !(coarse < ROUNDING))
            fail_msg("%s: with half the length the error of step %d goes from %.3g to %.3g, order "
                     "%.2f instead of %d",
                     sampler->name, k, coarse, fine, slope, order + 1);
    }
}

static void first_steps_have_the_order_of_their_history(void **state)
{
    (void)state;
    walk(check_first_steps);
}

/* --- with noise: mean and deviation at every level --- */

enum { MANY = 16384, NOISY_STEPS = 7 };

/* Five standard errors of a mean, of a relative standard deviation and of a correlation. */
static double mean_bound(void)
{
    return 5 / sqrt(MANY);
}

static double deviation_bound(void)
{
    return 5 / sqrt(2.0 * MANY);
}

/* Where on the flow the latents are: standard normal if all is right. */
static void standardize(struct sched *s, const struct data *d, double sigma, float *ret_z)
{
    double scale = to_exploding(s, sigma);
    for (size_t i = 0; i < d->n; i++)
        ret_z[i] = (float)((sched_latents(s)[i] * scale - MEAN) / spread(d, sigma));
}

static double mean_of(const float *a)
{
    double sum = 0;
    for (int i = 0; i < MANY; i++)
        sum += a[i];
    return sum / MANY;
}

/* Mean of products, of a and of b some places on. */
static double product_of(const float *a, const float *b, int shift)
{
    double sum = 0;
    for (int i = 0; i < MANY; i++)
        sum += (double)a[i] * b[(i + shift) % MANY];
    return sum / MANY;
}

static void check_marginal(const struct sched *s, const float *z, int evaluation, double bias)
{
    const struct sched_config *c = sched_config_of(s);
    double mean = mean_of(z), deviation = sqrt(product_of(z, z, 0) - mean * mean);
    if (!(fabs(mean) < mean_bound() + bias) || !(fabs(deviation - 1) < deviation_bound() + bias))
        fail_msg("%s %s, eta %g, %s: at evaluation %d the mean is off by %.4f deviations and the "
                 "deviation is %.4f of the right one",
                 c->sampler->name, c->schedule->name, sched_eta(c),
                 sched_prediction_name(c->prediction), evaluation, mean, deviation);
}

/* The part of `z` that the latents before do not explain, as standard normals: the fresh noise.
 * Returns the deviation that it had. */
static double extract_noise(const struct sched *s, const float *z, const float *before, float *ret)
{
    double kept = product_of(z, before, 0) / product_of(before, before, 0);
    for (int i = 0; i < MANY; i++)
        ret[i] = (float)(z[i] - kept * before[i]);
    double deviation = sqrt(product_of(ret, ret, 0));
    if (!(deviation > 0.01))
        fail_msg("%s, eta %g: no fresh noise", sched_config_of(s)->sampler->name,
                 sched_eta(sched_config_of(s)));
    for (int i = 0; i < MANY; i++)
        ret[i] = (float)(ret[i] / deviation);
    return deviation;
}

/* noises: [count] arrays, of which the first is what the latents were made from. */
static void check_independent(const struct sched *s, const float *noises, int count)
{
    for (int a = 0; a < count; a++) {
        for (int b = 0; b <= a; b++) {
            for (int shift = a == b; shift < 3; shift++) {
                double r = product_of(noises + a * MANY, noises + b * MANY, shift);
                if (!(fabs(r) < mean_bound()))
                    fail_msg("%s, eta %g: noise of step %d has a correlation of %.3f with that of "
                             "step %d, %d values on",
                             sched_config_of(s)->sampler->name, sched_eta(sched_config_of(s)), a, r,
                             b, shift);
            }
        }
    }
}

/* Runs from the exact latents `d->z`. At each evaluation, those inside of a step too, the latents
 * must be of the level that the model is called with; their moments may be off by `bias`. noises
 * [(steps - 1) * MANY], if not NULL, gets the fresh noise. Returns the noise's least deviation in a
 * step. */
static double run_noisy(struct sched *s, const struct data *d, double bias, float *noises)
{
    struct dr_error err = { 0 };
    struct sched_ask ask;
    struct dr_rng rng;
    float *room = dr_calloc(DR_TAG_TEST, 3 * MANY, sizeof *room);
    assert_non_null(room);
    float *now = room, *before = room + MANY, *pred = room + 2 * MANY;
    int step = 0;
    double least = 1;
    dr_rng_seed(&rng, DR_RNG_CPU, 11);
    put_exact(s, d, sched_sigmas(s)[0], now);
    assert_int_equal(sched_begin(s, now, 0, &err), 0);
    memcpy(before, d->z, MANY * sizeof *before);
    while (sched_next(s, &ask)) {
        standardize(s, d, ask.sigma, now);
        check_marginal(s, now, ask.evaluation, bias);
        if (ask.step > step) {
            step = ask.step;
            if (noises)
                least = fmin(least, extract_noise(s, now, before, noises + (step - 1) * MANY));
            memcpy(before, now, MANY * sizeof *before);
        }
        predict(s, d, &ask, pred);
        assert_int_equal(sched_feed(s, pred, pred, &rng, &err), 0);
    }
    if (ask.steps)
        assert_int_equal(step, ask.steps - 1);
    dr_free(room);
    return least;
}

static void fill(float *v, size_t n)
{
    struct dr_rng rng;
    dr_rng_seed(&rng, DR_RNG_CPU, 21);
    dr_rng_normal(&rng, v, n);
}

/* Data of one point: the denoiser does not depend on x, so a step is exact however long it is, and
 * every level's deviation is its sigma to what chance allows. The run ends at the point. Returns
 * the noise's least deviation in a step. */
static double run_to_point(const struct sched_info *sampler, enum sched_prediction prediction,
                           const char *schedule, double eta)
{
    float *noises = dr_calloc(DR_TAG_TEST, NOISY_STEPS * MANY, sizeof *noises);
    assert_non_null(noises);
    fill(noises, MANY);
    struct data d = { .z = noises, .n = MANY };
    struct sched *s = make(sampler, schedule, prediction, NOISY_STEPS, eta, MANY);
    double least = run_noisy(s, &d, 0, noises + MANY);
    check_independent(s, noises, NOISY_STEPS);
    double end = sched_sigmas(s)[NOISY_STEPS]; /* 0, or the noise of timestep 0 */
    for (int i = 0; i < MANY; i++)
        assert_true(fabs(sched_latents(s)[i] * to_exploding(s, end) - MEAN) < 1e-4 + 6 * end);
    sched_free(s);
    dr_free(noises);
    return least;
}

/* Adds noise and has no eta to say how much. */
static bool always_noisy(const struct sched_info *sampler)
{
    return sampler->noise != SCHED_NOISE_NONE && !takes_eta(sampler) && !sampler->consistency &&
           !sampler->layout.next;
}

/* Their noise is that of dpmpp_2m_sde, golden vectors hold them to it, and Brownian trees are slow.
 */
static bool noisy_as_another(const struct sched_info *sampler)
{
    return !strcmp(sampler->name, "dpmpp_2m_sde_heun") || !strcmp(sampler->name, "dpmpp_3m_sde");
}

static void check_point(const struct sched_info *sampler, enum sched_prediction prediction)
{
    size_t n_schedules;
    const struct schedule_info *const *schedules = schedule_all(&n_schedules);
    bool slow = sampler->noise == SCHED_NOISE_BROWNIAN;
    if (prediction != SCHED_EPSILON || slow) /* noise and prediction meet in the sum only */
        n_schedules = prediction != SCHED_EPSILON && slow ? 0 : 1;
    else if (n_schedules > 4) /* those that samplers differ in; others are only other levels */
        n_schedules = 4;
    bool eta = sched_option_row(sampler, "eta") >= 0 && !sampler->layout.next;
    if (noisy_as_another(sampler))
        return;
    if (always_noisy(sampler) && n_schedules)
        run_to_point(sampler, prediction, "karras", NAN);
    for (size_t k = 0; eta && k < n_schedules; k++) {
        double most = run_to_point(sampler, prediction, schedules[k]->name, 1);
        double less = run_to_point(sampler, prediction, schedules[k]->name, 0.4);
        if (!(less < 0.9 * most))
            fail_msg("%s: eta 0.4 and 1 add as much noise, %g and %g", sampler->name, less, most);
    }
}

static void noise_has_each_levels_deviation(void **state)
{
    (void)state;
    walk(check_point);
}

/* Data with a spread: a step's error in the moments is at most half its length in log sigma. */
static void check_spread(const struct sched_info *sampler, enum sched_prediction prediction)
{
    int steps = sampler->noise == SCHED_NOISE_BROWNIAN ? 20 : 60;
    bool eta = takes_eta(sampler) && !sampler->layout.next && !sampler->consistency;
    if ((!eta && !always_noisy(sampler)) || noisy_as_another(sampler) ||
        prediction != SCHED_EPSILON)
        return;
    float *z = dr_calloc(DR_TAG_TEST, MANY, sizeof *z);
    assert_non_null(z);
    fill(z, MANY);
    struct data d = { .deviation = 0.7, .z = z, .n = MANY };
    struct sched *s = make(sampler, "exponential", prediction, steps, 1, MANY);
    double length = log(sched_sigmas(s)[0] / sched_sigmas(s)[steps - 1]) / (steps - 1);
    run_noisy(s, &d, length / 2, NULL);
    sched_free(s);
    dr_free(z);
}

static void noisy_runs_keep_the_datas_deviation(void **state)
{
    (void)state;
    walk(check_spread);
}

/* With a model that says where the flow ends: every level's moments, in a few steps, and noise that
 * is new in each. A step that keeps noise (eta below 1) goes straight, which the flow does not. */
static void check_consistency(const struct sched_info *sampler, enum sched_prediction prediction)
{
    if (!sampler->consistency)
        return;
    float *noises = dr_calloc(DR_TAG_TEST, NOISY_STEPS * MANY, sizeof *noises);
    assert_non_null(noises);
    fill(noises, MANY);
    struct data d = { .deviation = 0.7, .z = noises, .n = MANY, .end = true };
    struct sched *s = make(sampler, "karras", prediction, NOISY_STEPS, 1, MANY);
    run_noisy(s, &d, takes_eta(sampler) ? 0.05 : 0, noises + MANY);
    check_independent(s, noises, NOISY_STEPS);
    sched_free(s);
    if (!takes_eta(sampler))
        run_to_point(sampler, prediction, "normal", NAN);
    dr_free(noises);
}

static void consistency_steps_lead_to_every_level(void **state)
{
    (void)state;
    walk(check_consistency);
}

/* ---- an open number of evaluations ---- */

/* Distance from the exact picture, and the evaluations that it took, with these tolerances. */
static double adaptive_error(enum sched_prediction prediction, int order, double tolerance,
                             int *ret_evaluations)
{
    struct dr_error err = { 0 };
    struct sched_ask ask;
    struct spec spec;
    char text[96];
    float z[VALUES], x[VALUES], pred[VALUES];
    for (int i = 0; i < VALUES; i++)
        z[i] = (float)(4.0 * i / VALUES - 2);
    struct data d = { .deviation = 0.7, .z = z, .n = VALUES };
    struct sched *first = make(sched_find("dpm_adaptive", NULL), "karras", prediction, 9, 0,
                               VALUES);
    struct sched_config config = *sched_config_of(first);
    sched_free(first);
    snprintf(text, sizeof text, "dpm_adaptive,order=%d,rtol=%g,atol=%g,denoise_to_zero=0", order,
             tolerance, tolerance / 10);
    assert_int_equal(spec_parse("sampler", text, &spec, &err), 0);
    assert_int_equal(sched_options_apply(&spec, NAN, &config, &err), 0);
    spec_release(&spec);
    struct sched *s;
    assert_int_equal(sched_new(&config, VALUES, &s, &err), 0);
    put_exact(s, &d, sched_sigmas(s)[0], x);
    assert_int_equal(sched_begin(s, x, 0, &err), 0);
    *ret_evaluations = 0;
    while (sched_next(s, &ask)) {
        predict(s, &d, &ask, pred);
        assert_int_equal(ask.evaluations, 0);
        assert_int_equal(ask.evaluation, (*ret_evaluations)++);
        assert_int_equal(sched_feed(s, pred, NULL, NULL, &err), 0);
    }
    double error = distance(s, &d, sched_sigmas(s)[8]);
    sched_free(s);
    return error;
}

static void a_smaller_tolerance_takes_more_and_errs_less(void **state)
{
    (void)state;
    static const double tolerances[] = { 0.05, 0.01, 0.001 };
    for (int p = 0; p < SCHED_PREDICTION_COUNT; p++)
        for (int order = 2; order <= 3; order++) {
            double before = 1;
            int few = 0;
            for (size_t i = 0; i < sizeof tolerances / sizeof *tolerances; i++) {
                int count;
                double error = adaptive_error((enum sched_prediction)p, order, tolerances[i],
                                              &count);
                if (!(error < before / 2) || !(error < 4 * tolerances[i]) || count <= few)
                    fail_msg("order %d, tolerance %g: error %g after %g, %d evaluations after %d",
                             order, tolerances[i], error, before, count, few);
                before = error;
                few = count;
            }
        }
}

/* Noise of the right deviation at every evaluation, also after steps that were refused. */
static void adaptive_noise_has_each_levels_deviation(void **state)
{
    (void)state;
    float *z = dr_calloc(DR_TAG_TEST, MANY, sizeof *z);
    assert_non_null(z);
    fill(z, MANY);
    struct data d = { .z = z, .n = MANY };
    for (int k = 1; k <= 2; k++) {
        struct sched *s = make(sched_find("dpm_adaptive", NULL), "karras", SCHED_EPSILON, 9,
                               k / 2.0, MANY);
        run_noisy(s, &d, 0, NULL);
        for (int i = 0; i < MANY; i++)
            assert_true(fabs(sched_latents(s)[i] - MEAN) < 1e-3);
        sched_free(s);
    }
    dr_free(z);
}

/* A model that contradicts itself from one evaluation to the next ends in an error, not never. */
static void a_run_without_an_end_is_an_error(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct sched_ask ask;
    struct dr_rng rng;
    float x[VALUES], pred[VALUES];
    struct sched *s = make(sched_find("dpm_adaptive", NULL), "karras", SCHED_EPSILON, 9, 0, VALUES);
    dr_rng_seed(&rng, DR_RNG_CPU, 1);
    dr_rng_normal(&rng, x, VALUES);
    assert_int_equal(sched_begin(s, x, 0, &err), 0);
    int r = 0, count = 0;
    while (!r && sched_next(s, &ask)) {
        dr_rng_normal(&rng, pred, VALUES);
        for (int i = 0; i < VALUES; i++)
            pred[i] *= 1e4f;
        r = sched_feed(s, pred, NULL, NULL, &err);
        count++;
    }
    assert_int_equal(r, DR_ELIMIT);
    assert_int_equal(count, SCHED_MAX_OPEN);
    assert_non_null(strstr(err.text, "dpm_adaptive is not done after 2000 evaluations"));
    sched_free(s);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_smaller_tolerance_takes_more_and_errs_less),
    cmocka_unit_test(adaptive_noise_has_each_levels_deviation),
    cmocka_unit_test(a_run_without_an_end_is_an_error),
    cmocka_unit_test(errors_fall_with_the_order),
    cmocka_unit_test(first_steps_have_the_order_of_their_history),
    cmocka_unit_test(noise_has_each_levels_deviation),
    cmocka_unit_test(noisy_runs_keep_the_datas_deviation),
    cmocka_unit_test(consistency_steps_lead_to_every_level),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
