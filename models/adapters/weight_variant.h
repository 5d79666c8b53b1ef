/* weight_variant.h - a network with some of its weights changed, beside the network itself.
 *
 * A variant is a table from layers to weights: for each layer that a set of deltas touches, a
 * weight in private memory (DR_TAG_WEIGHTS) made of base + deltas. The layers, their weights and
 * the pack are never written, so a network serves its base and any number of variants at once, and
 * closing a variant leaves nothing to undo. Parameters that no delta names stay where they are,
 * also those that share a layer with one that is changed.
 *
 *     r = weight_variant_open(&spec, &v, err);
 *     x.variant = v;                                NULL: the base
 *     r = unet_context_new(u, &x, ...);             keys and values of the text are of the variant
 *     r = unet_forward(u, &x, rows, ...);
 *     weight_variant_close(v);
 *
 * Sums are made in float32, of whatever type the base is: that is what the reference computes with.
 * Rounded to 16 bits, half the memory, the latents of test_loras.c are 2e-4 to 6e-4 (half
 * precision) and 1e-3 to 5e-3 (bfloat16) from the reference's instead of 1e-6.
 * A kernel set that packs makes its own form of them, in its own type, and the sums are freed; one
 * that reads weights where they lie reads the sums, so there a touched parameter takes 4 bytes an
 * element. A touched layer of 8-bit weights leaves 8 bits: rounded again with the base's scales, a
 * change of less than half a step would be lost, and most changes are smaller. Every kernel set
 * computes with such a layer, in the precision of its other layers.
 */
#ifndef DR_MODELS_ADAPTERS_WEIGHT_VARIANT_H
#define DR_MODELS_ADAPTERS_WEIGHT_VARIANT_H

#include "models/adapters/weight_delta.h"
#include "models/params.h"

struct weight_variant;

/* Deltas are borrowed for the call; several of one parameter add up, or follow each other in the
 * order given where their kinds do not add. */
struct variant_spec {
    void *network; /* loaded; outlives the variant */
    visit_fn visit;
    struct backend *be; /* that the variant runs on; outlives it */
    const struct weight_delta *const *deltas;
    size_t n;
    const atomic_int *stop; /* nonzero: DR_ECANCELED. NULL: never */
};

struct variant_facts {
    uint8_t key[SHA256_BYTES]; /* equal sets of deltas have equal keys, in any order if all add */
    size_t layers;             /* touched; 0: the set changes nothing, the variant is NULL */
    size_t bytes;              /* of private memory that the variant holds */
};

/* Everything that weight_variant_open refuses but for a lack of memory, without computing anything.
 * DR_EINVAL for a parameter that the network does not have, or tensors of a wrong shape or type. */
int weight_variant_check(const struct variant_spec *spec, struct variant_facts *ret,
                         struct dr_error *err);

/* DR_ECANCELED, DR_ENOMEM; nothing is left of a variant that failed. On a plan backend nothing is
 * computed or allocated for values. */
int weight_variant_open(const struct variant_spec *spec, struct weight_variant **ret,
                        struct dr_error *err);
void weight_variant_close(struct weight_variant *v);
/* weight_variant_open in the memory of another variant that nobody uses, which is closed in any
 * case (NULL: of none): clearing new memory takes as long as computing the sums. */
int weight_variant_open_over(const struct variant_spec *spec, struct weight_variant *old,
                             struct weight_variant **ret, struct dr_error *err);
const struct variant_facts *weight_variant_facts(const struct weight_variant *v);

/* Calls `value` with each parameter that the deltas change and `wanted` is true of: base + deltas,
 * in float32, for the call only. Needs no weight that was prepared. DR_EINVAL as
 * weight_variant_check. */
struct variant_values {
    bool (*wanted)(void *ctx, const char *name);
    int (*value)(void *ctx, const char *name, const struct shape *shape, const float *value,
                 struct dr_error *err);
    void *ctx;
};
int weight_variant_values(const struct variant_spec *spec, const struct variant_values *how,
                          struct dr_error *err);

/* The weight that a forward with x->variant uses for a layer; NULL before params_prepare. */
const struct weight *weight_variant_of(const struct exec *x, const struct layer *l);
/* A number that no other variant of this process has; 0 for NULL, the base. */
uint64_t weight_variant_serial(const struct weight_variant *v);
/* DR_EINVAL when a variant (NULL: the base) is not of this network. */
int weight_variant_fits(const struct weight_variant *v, const void *network, struct dr_error *err);

#endif
