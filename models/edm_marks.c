/* edm_marks.c - see edm_marks.h. */
#include "models/edm_marks.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

static const struct edm_kind kinds[] = {
    /* Playground 2.5: statistics of the latents. */
    { "edm_mean", "edm_std",
      "{\"_class_name\": \"EDMDPMSolverMultistepScheduler\", \"prediction_type\": \"epsilon\"}",
      "epsilon" },
    /* CosXL: the ends of its levels. */
    { "edm_vpred.sigma_max", "edm_vpred.sigma_min",
      "{\"_class_name\": \"EDMEulerScheduler\", \"prediction_type\": \"v_prediction\", "
      "\"sigma_data\": 1.0, \"sigma_max\": 120.0, \"sigma_min\": 0.002, "
      "\"sigma_schedule\": \"exponential\"}",
      "v_prediction" },
};

const struct edm_kind *edm_find(const struct st_header *h)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (st_find(h, kinds[i].needs))
            return &kinds[i];
    return NULL;
}

bool edm_is_mark(const struct edm_kind *kind, const char *name)
{
    return kind && (!strcmp(name, kind->needs) || !strcmp(name, kind->also));
}

/* The numbers of a mark, which must be n finite ones. */
static int read_values(const struct checkpoint *c, const struct safetensors *st, const char *name,
                       int64_t n, float *ret, struct dr_error *err)
{
    const struct st_tensor *t = st_find(&st->header, name);
    int64_t count = 0;
    bool good = t && dtype_is_real(t->dtype) && shape_count(&t->shape, &count) && count == n;
    if (good)
        dtype_to_f32(ret, st_data(st, t), t->dtype, n);
    for (int64_t i = 0; good && i < n; i++)
        good = isfinite(ret[i]);
    return good ? 0
                : dr_fail(err, DR_EFORMAT, "%s: tensor %s: expected %lld finite numbers (EDM)",
                          c->path, name, (long long)n);
}

/* The ends of the levels, where the file has them. */
static int write_ends(struct checkpoint *c, const struct safetensors *st, struct dr_error *err)
{
    static const char *const ends[] = { "sigma_max", "sigma_min" };
    int r = 0;
    for (int i = 0; !r && i < 2; i++) {
        char name[40];
        float value;
        snprintf(name, sizeof name, "edm_vpred.%s", ends[i]);
        if (!st_find(&st->header, name))
            continue;
        r = read_values(c, st, name, 1, &value, err);
        if (!r && jx_set(c->scheduler, ends[i], json_real((double)value)))
            r = dr_fail(err, DR_ENOMEM, "out of memory for the scheduler's configuration");
    }
    return r;
}

int edm_scheduler(struct checkpoint *c, const struct edm_kind *kind, const struct safetensors *st,
                  struct dr_error *err)
{
    int r = jx_parse(kind->scheduler, strlen(kind->scheduler), NULL,
                     "the scheduler of an EDM model", &c->scheduler, err);
    return r ? r : write_ends(c, st, err);
}

int edm_latents(struct checkpoint *c, const struct safetensors *st, struct dr_error *err)
{
    static const double playground_scale = 0.5; /* diffusers' PLAYGROUND_VAE_SCALING_FACTOR */
    float mean[ARCH_LATENTS], deviation[ARCH_LATENTS];
    int64_t n = c->vae.latent_channels;
    if (!st_find(&st->header, "edm_mean") || c->vae.normalised)
        return 0;
    if (c->vae.tiny)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: latents of this model have a mean and a deviation of their own, which "
                       "the tiny VAE %s does not know",
                       c->path, checkpoint_part_path(c, COMPONENT_VAE));
    if (n > ARCH_LATENTS)
        return dr_fail(err, DR_EUNSUPPORTED, "%s: statistics of %lld latent channels, at most %d",
                       c->path, (long long)n, ARCH_LATENTS);
    int r = read_values(c, st, "edm_mean", n, mean, err);
    if (!r)
        r = read_values(c, st, "edm_std", n, deviation, err);
    c->vae.normalised = true;
    c->vae.scaling_factor = playground_scale;
    for (int64_t i = 0; !r && i < n; i++) {
        c->vae.mean[i] = (double)mean[i];
        c->vae.deviation[i] = (double)deviation[i];
        if (!(deviation[i] > 0))
            r = dr_fail(err, DR_EFORMAT, "%s: tensor edm_std: got %g, expected numbers above 0",
                        c->path, (double)deviation[i]);
    }
    return r;
}
