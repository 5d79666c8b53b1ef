/* samples.h - inputs of the UNet to measure its layers on: what it sees when it draws a few
 * built-in captions, from the first noise to the last steps. The same for every run. */
#ifndef DR_QUANTIZE_SAMPLES_H
#define DR_QUANTIZE_SAMPLES_H

#include "inference/pipeline_manager.h"

enum {
    SAMPLE_CAPTIONS = 2,
    SAMPLE_STEPS = 4,
    SAMPLE_ROWS = SAMPLE_CAPTIONS * SAMPLE_STEPS,
    SAMPLE_EDGE = 256, /* pixels, at most */
};

struct int8_samples {
    struct prompt_embeds embeds[SAMPLE_CAPTIONS];
    int64_t h, w;  /* of the latents */
    size_t values; /* of one */
    int n;         /* rows so far: all captions of a step, step by step */
    double timestep[SAMPLE_ROWS];
    float *latents; /* [SAMPLE_ROWS, values], scaled as the model wants them */
};

/* Looks at every op of a pass (struct exec); NULL: nobody. */
struct int8_watch {
    int (*fn)(struct exec *x, const struct op *op, struct dr_error *err);
    void *ctx;
};

/* Draws with the pipeline. int8_samples_release takes partially initialised ones. */
int int8_samples_make(struct pipeline *p, const atomic_int *stop, struct int8_samples *ret,
                      struct dr_error *err);
void int8_samples_release(struct int8_samples *s);

/* What the pipeline's UNet, which may be another of the same architecture, says to all rows: preds
 * [n, values]. */
int int8_predict(struct pipeline *p, const struct int8_samples *s, struct int8_watch watch,
                 const atomic_int *stop, float *ret_preds, struct dr_error *err);

/* Relative L2 distance of n values from `from`. */
double int8_distance(const float *of, const float *from, size_t n);

#endif
