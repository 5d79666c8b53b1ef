/* int8_choice.h - which layers of a UNet stand weights and activations of 8 bits: measured.
 *
 * Every layer's result in 8 bits is compared with its result in float32 on the samples
 * (backend/trial.h). Kept wide by name are the layers that see the latents, the timestep or the
 * text only, or carry the residual stream across a change of width: they cost little and their
 * errors reach everything. Of the others those go first whose own error is over a limit; then, as
 * long as whole predictions are off by more than the budget, the worst of what is left.
 */
#ifndef DR_INFERENCE_INT8_CHOICE_H
#define DR_INFERENCE_INT8_CHOICE_H

#include "inference/int8_samples.h"
#include "models/quantize.h"

#define INT8_LAYER_LIMIT 0.1 /* relative L2 error of one layer's result */
#define INT8_BUDGET 0.05     /* of predictions */

enum int8_fate { INT8_CHOSEN, INT8_KEPT_NAME, INT8_KEPT_ERROR, INT8_KEPT_BUDGET };
const char *int8_fate_name(enum int8_fate f); /* "int8", "kept: name" ... */

struct int8_layer {
    char name[PARAM_NAME]; /* of its first part */
    int parts;
    const void *data[LAYER_PARTS];
    int64_t parameters;
    const struct weight *weight;
    double difference, result; /* squares, summed */
    double error;              /* relative L2; 0 where never measured */
    enum int8_fate fate;
};

struct int8_choice {
    struct int8_layer *layers; /* in the order of the network */
    int n;
    double budget;             /* of predictions' error */
    double error;              /* of predictions with the chosen layers in 8 bits, emulated */
    double mean;               /* of the chosen layers' own errors */
    int64_t parameters, total; /* in 8 bits; of all these layers */
    float *preds;              /* float32's, [rows, values] of the samples */
};

/* The pipeline computes in float32, and its checkpoint has no weights of 8 bits. DR_EUNSUPPORTED
 * when nothing can be chosen within the budget. int8_choice_release takes half-made ones. */
int int8_choose(struct pipeline *p, const struct int8_samples *s, double budget,
                const atomic_int *stop, struct int8_choice *ret, struct dr_error *err);
void int8_choice_release(struct int8_choice *c);

/* A quantize_choice's predicate; ctx is the int8_choice. */
bool int8_chosen(const void *choice, const void *data);

#endif
