/* timestep_embedding.h - sinusoidal embeddings of timesteps and sizes.
 *
 * dim channels of sin(value * f_i) and cos(value * f_i), f_i = 10000^(-i / (dim/2 - freq_shift)).
 * The arithmetic is float32 rounded where diffusers' get_timestep_embedding rounds it (frequency,
 * product), because at value 1000 a different rounding of the product is 6e-5 in the result.
 * Reference: Vaswani et al. 2017; Ho et al. 2020.
 */
#ifndef DR_MODELS_TIMESTEP_EMBEDDING_H
#define DR_MODELS_TIMESTEP_EMBEDDING_H

#include "backend/backend.h"

struct sinusoid {
    int64_t dim;
    bool flip_sin_to_cos; /* cosines first */
    double freq_shift;
};

/* Channels [first, first + dim) of dst, one float32 sample of one pixel. Odd dim: the last one is
 * 0. */
int sinusoid_write(const struct sinusoid *s, struct exec *x, float value, struct act dst,
                   int64_t first, struct dr_error *err);

#endif
