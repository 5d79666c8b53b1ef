/* changed_model.h - changes of weights for tests, and the odd model (odd_model.h) with such changes
 * written into its files, by plain arithmetic of its own.
 *
 *     struct changes c = { .n = 0 };
 *     changes_low_rank(&c, m.unet, unet_visit, "conv_in.weight", 2);
 *     path = changed_model(&m, DTYPE_COUNT, &c, NULL);
 *     odd_open_at(&other, path, ...);
 *
 * The values are small multiples of 1/64: products of them are exact, so base + change rounds once
 * and has one result, however it is computed. Factors are powers of two.
 */
#ifndef DR_TESTING_HELPERS_CHANGED_MODEL_H
#define DR_TESTING_HELPERS_CHANGED_MODEL_H

#include "testing/helpers/odd_model.h"

#include "models/adapters/weight_delta.h"

enum { CHANGES = 32 };

struct changes {
    size_t n;
    struct weight_delta delta[CHANGES];
    const struct weight_delta *list[CHANGES]; /* of them all, in this order */
};

/* One more: of this parameter of a network, with values and identity that depend on its number.
 * Strength 0.5. */
struct weight_delta *changes_low_rank(struct changes *c, void *network, visit_fn visit,
                                      const char *param, int64_t rank);
struct weight_delta *changes_difference(struct changes *c, void *network, visit_fn visit,
                                        const char *param);
void changes_free(struct changes *c);

/* A copy of the model with the changes of its UNet and of its second text encoder (NULL: none)
 * added in double, in the order of the list. Changed parameters are F32, the others as they were,
 * or the UNet's matrices and filters as `type` (DTYPE_COUNT: as they were), I8 only where a layer
 * may be 8-bit. Static, one of 4 in turn. */
const char *changed_model(const struct odd *m, enum dtype type, const struct changes *unet,
                          const struct changes *clip);

/* A parameter's values as float32; dr_free them. */
float *param_values(const struct weight_source *s, int64_t *ret_count);
/* A parameter of a network by name. The test fails when there is none. */
struct weight_source find_param(void *network, visit_fn visit, const char *name,
                                struct shape *ret_shape);

#endif
