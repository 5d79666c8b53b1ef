/* choice.h - which layers of a UNet get 8-bit weights and activations: measured.
 *
 * The result of every layer, emulated in 8 bits (quantize/emulation.h), is compared with its
 * float32 result on the samples. Kept in float32 by name are the layers that see only the latents,
 * the timestep or the text, or that carry the residual stream across a change of width: they cost
 * little and their errors reach everything. Then layers are kept whose own error is above a limit;
 * then, while whole predictions are off by more than the budget, the worst of the rest.
 */
#ifndef DR_QUANTIZE_CHOICE_H
#define DR_QUANTIZE_CHOICE_H

#include "quantize/samples.h"
#include "quantize/copy.h"

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

/* The pipeline computes in float32, and its checkpoint has no 8-bit weights. DR_EUNSUPPORTED when
 * nothing can be chosen within the budget. int8_choice_release takes partially initialised ones. */
int int8_choose(struct pipeline *p, const struct int8_samples *s, double budget,
                const atomic_int *stop, struct int8_choice *ret, struct dr_error *err);
void int8_choice_release(struct int8_choice *c);

/* A quantize_choice's predicate; ctx is the int8_choice. */
bool int8_chosen(const void *choice, const void *data);

#endif
