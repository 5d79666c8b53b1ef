/* img2img.c - see img2img.h. */
#include "conditioning/img2img.h"

#include <math.h>

#include "base/dmath.h"

int img2img_first_step(int steps, double strength)
{
    int run = (int)((double)steps * strength);
    return steps - (run < steps ? run : steps);
}

int64_t img2img_edge(int64_t pixels, int64_t factor)
{
    return pixels < factor ? factor : pixels / factor * factor;
}

void img2img_planes(const struct dr_image *image, float *ret_planes)
{
    size_t n = (size_t)image->width * (size_t)image->height;
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < 3; c++)
            ret_planes[c * n + i] = 2.0f * ((float)image->pixels[3 * i + c] / 255.0f) - 1.0f;
}

/* mean + deviation * noise: DiagonalGaussianDistribution.sample. ret has the noise. */
static void draw(const float *mean, const float *log_variance, size_t n, float *ret)
{
    for (size_t i = 0; i < n; i++) {
        float v = log_variance[i] < -30 ? -30 : log_variance[i] > 20 ? 20 : log_variance[i];
        ret[i] = mean[i] + (float)dr_exp((double)(0.5f * v)) * ret[i];
    }
}

void img2img_latents(const struct vae_arch *a, const float *moments, size_t n, struct dr_rng *rng,
                     float *ret_latents)
{
    size_t all = (size_t)a->latent_channels * n;
    float factor = (float)a->scaling_factor;
    if (a->tiny) {
        for (size_t i = 0; i < all; i++)
            ret_latents[i] = moments[i];
    } else {
        dr_rng_normal(rng, ret_latents, all);
        draw(moments, moments + all, all, ret_latents);
    }
    for (size_t i = 0; i < all; i++) {
        size_t c = i / n;
        ret_latents[i] = a->normalised ? (ret_latents[i] - (float)a->mean[c]) * factor /
                                             (float)a->deviation[c]
                                       : ret_latents[i] * factor;
    }
}
