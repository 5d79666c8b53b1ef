/* noise_table.c - see noise_table.h. Zero terminal SNR: Lin et al. 2023 (arXiv 2305.08891),
 * algorithm 1. */
#include "schedulers/noise_table.h"

#include <math.h>

#include "base/alloc.h"
#include "base/dmath.h"

/* torch.linspace in float32: from both ends to the middle, each product exact. */
static float linspace32(float start, float end, int n, int i)
{
    if (n == 1)
        return start;
    float step = (end - start) / (float)(n - 1);
    if (i < n / 2)
        return (float)((double)start + (double)step * i);
    return (float)((double)end - (double)step * (n - 1 - i));
}

static float beta_at(const struct sched_config *c, int i)
{
    if (c->betas == SCHED_LINEAR)
        return linspace32((float)c->beta_start, (float)c->beta_end, c->train_steps, i);
    float root = linspace32((float)sqrt(c->beta_start), (float)sqrt(c->beta_end), c->train_steps,
                            i);
    return root * root;
}

/* alphas[i] = 1 - beta becomes the cumulative product, kept in double and rounded at each entry. */
static void cumulate(float *alphas, int n)
{
    double product = 1;
    for (int i = 0; i < n; i++) {
        product *= alphas[i];
        alphas[i] = (float)product;
    }
}

/* Shifts and scales sqrt(abar) so that the last one is 0 and the first stays. */
static void rescale_zero_snr(float *alphas, int n)
{
    float first = sqrtf(alphas[0]), last = sqrtf(alphas[n - 1]);
    float scale = first / (first - last);
    float before = 1;
    for (int i = 0; i < n; i++) {
        float root = (sqrtf(alphas[i]) - last) * scale;
        float bar = root * root;
        float alpha = i ? bar / before : bar;
        before = bar;
        float beta = 1 - alpha;
        alphas[i] = 1 - beta;
    }
    cumulate(alphas, n);
}

static int fill(struct noise_table *t, struct dr_error *err)
{
    for (int i = 0; i < t->n; i++) {
        float bar = t->alphas[i] > 0 ? t->alphas[i] : 0x1p-24f;
        t->sigmas[i] = sqrtf((1 - bar) / bar);
        t->log_sigmas[i] = (float)dr_log(t->sigmas[i]);
        if (!(t->sigmas[i] > (i ? t->sigmas[i - 1] : 0)) || !isfinite(t->sigmas[i]))
            return dr_fail(err, DR_EINVAL,
                           "beta_start, beta_end, num_train_timesteps: the noise does not rise "
                           "at timestep %d",
                           i);
    }
    return 0;
}

static void fill_edm(struct noise_table *t, const struct sched_config *config)
{
    t->edm = true;
    t->sigmas[0] = (float)config->sigma_min;
    t->sigmas[1] = (float)config->sigma_max;
    for (int i = 0; i < t->n; i++)
        t->log_sigmas[i] = (float)dr_log(t->sigmas[i]);
}

int noise_table_init(struct noise_table *ret_table, const struct sched_config *config,
                     struct dr_error *err)
{
    int n = sched_is_edm(config) ? 2 : config->train_steps;
    float *block = dr_calloc(DR_TAG_JOB, (size_t)n * 3, sizeof *block);
    if (!block)
        return dr_fail(err, DR_ENOMEM, "out of memory for a noise table of %d timesteps", n);
    struct noise_table t = {
        .n = n, .alphas = block, .sigmas = block + n, .log_sigmas = block + 2 * (size_t)n
    };
    if (sched_is_edm(config)) {
        fill_edm(&t, config);
        *ret_table = t;
        return 0;
    }
    for (int i = 0; i < n; i++)
        t.alphas[i] = 1 - beta_at(config, i);
    cumulate(t.alphas, n);
    if (config->rescale_betas_zero_snr)
        rescale_zero_snr(t.alphas, n);
    int r = fill(&t, err);
    if (r)
        dr_free(block);
    else
        *ret_table = t;
    return r;
}

void noise_table_release(struct noise_table *t)
{
    dr_free(t->alphas);
    *t = (struct noise_table){ 0 };
}

double noise_table_sigma(const struct noise_table *t, double timestep)
{
    if (timestep <= 0)
        return t->sigmas[0];
    if (timestep >= t->n - 1)
        return t->sigmas[t->n - 1];
    int low = (int)timestep;
    double slope = (double)t->sigmas[low + 1] - t->sigmas[low];
    return slope * (timestep - low) + t->sigmas[low];
}

double noise_table_sigma_log(const struct noise_table *t, double timestep)
{
    if (timestep <= 0)
        return t->sigmas[0];
    if (timestep >= t->n - 1)
        return t->sigmas[t->n - 1];
    int low = (int)timestep;
    double w = timestep - low;
    return dr_exp((1 - w) * t->log_sigmas[low] + w * t->log_sigmas[low + 1]);
}

double noise_table_timestep(const struct noise_table *t, double sigma)
{
    double log_sigma = dr_log(sigma > 1e-10 ? sigma : 1e-10);
    if (t->edm)
        return 0.25 * log_sigma;
    int low = 0, end = t->n; /* the last entry not above; 0 if all are */
    while (end - low > 1) {
        int middle = low + (end - low) / 2;
        if (t->log_sigmas[middle] <= log_sigma)
            low = middle;
        else
            end = middle;
    }
    if (low > t->n - 2)
        low = t->n - 2;
    float span = t->log_sigmas[low] - t->log_sigmas[low + 1];
    double w = (t->log_sigmas[low] - log_sigma) / span;
    w = w < 0 ? 0 : w > 1 ? 1 : w;
    return (1 - w) * low + w * (low + 1);
}
