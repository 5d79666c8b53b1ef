/* model.h - networks to time: a checkpoint's, or SDXL base's shapes with random weights.
 *
 * One part at a time is held, since all together are 7 GB: asking for another lets go of the one
 * before.
 */
#ifndef DR_BENCH_MODEL_H
#define DR_BENCH_MODEL_H

#include "models/clip_text.h"
#include "models/model_loader.h"
#include "models/unet.h"
#include "models/vae.h"

/* The tiny decoder is TAESDXL's shape with random weights, whatever the model. */
enum bench_part {
    BENCH_UNET,
    BENCH_DECODER,
    BENCH_TINY_DECODER,
    BENCH_ENCODER,
    BENCH_TEXT,
    BENCH_NOTHING
};

enum { BENCH_ENCODERS = 2 };

/* Zero but for be and spec (resolved; NULL: random weights), which the owner keeps. */
struct bench_model {
    struct backend *be;
    const struct model_spec *spec;
    struct checkpoint *checkpoint; /* NULL: random weights */
    enum bench_part part;          /* what is there */
    bool random;                   /* its weights are */
    struct unet *unet;
    struct vae *vae;
    struct clip_text *text[BENCH_ENCODERS]; /* NULL where the model has none */
};

void bench_model_init(struct bench_model *m, struct backend *be, const struct model_spec *spec);
/* Random weights are 16-bit, those of the UNet's products 8-bit on an 8-bit backend; ready to
 * compute with. */
int bench_model_need(struct bench_model *m, enum bench_part part, const atomic_int *stop,
                     struct dr_error *err);
void bench_model_release(struct bench_model *m);

/* Random float16 weights for a network that has none; bench_model_empty also after a failure. */
int bench_model_fill(void *network, visit_fn visit, const atomic_int *stop, struct dr_error *err);
void bench_model_empty(void *network, visit_fn visit);

#endif
