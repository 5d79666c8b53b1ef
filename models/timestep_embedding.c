/* timestep_embedding.c - see timestep_embedding.h. */
#include "models/timestep_embedding.h"

#include "base/dmath.h"

#define LOG_MAX_PERIOD 9.210340371976184 /* log(10000) */

enum { CHUNK = 128 /* channels on the stack at a time */ };

static float channel(const struct sinusoid *s, float value, int64_t i)
{
    int64_t half = s->dim / 2;
    if (i >= 2 * half)
        return 0;
    bool cosine = (i < half) == s->flip_sin_to_cos;
    float exponent = (float)-LOG_MAX_PERIOD * (float)(i % half);
    exponent /= (float)((double)half - s->freq_shift);
    float angle = value * (float)dr_exp(exponent);
    return (float)(cosine ? dr_cos(angle) : dr_sin(angle));
}

int sinusoid_write(const struct sinusoid *s, struct exec *x, float value, struct act dst,
                   int64_t first, struct dr_error *err)
{
    float some[CHUNK];
    for (int64_t at = 0; at < s->dim; at += CHUNK) {
        int64_t n = s->dim - at < CHUNK ? s->dim - at : CHUNK;
        for (int64_t i = 0; i < n; i++)
            some[i] = channel(s, value, at + i);
        int r = act_write(x, act_channels(dst, first + at, n), some, err);
        if (r)
            return r;
    }
    return 0;
}
