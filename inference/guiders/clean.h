/* clean.h - guiders that change the clean picture that a prediction means, not the prediction. */
#ifndef DR_INFERENCE_GUIDERS_CLEAN_H
#define DR_INFERENCE_GUIDERS_CLEAN_H

#include "inference/guiders/guiders.h"

static inline double guider_clean(const struct guider_at *at, const float *pred, size_t i)
{
    return at->clean.x * at->ask->x[i] + at->clean.pred * pred[i];
}

/* The prediction that means `clean` instead of what `pred` means. */
static inline float guider_predict(const struct guider_at *at, double clean, float pred, size_t i)
{
    double before = at->clean.x * at->ask->x[i] + at->clean.pred * pred;
    return (float)(pred + (clean - before) / at->clean.pred);
}

#endif
