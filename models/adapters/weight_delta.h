/* weight_delta.h - a change to one parameter of a network, and what a kind of change is.
 *
 * An adapter (LoRA and its relatives) is a list of deltas, each with its own strength, so several
 * adapters, strengths by block and separate strengths for text encoders are lists of deltas too. A
 * delta names a parameter as the network's visit function does; a layer that stacks several (to_q,
 * to_k, to_v) needs no special case. weight_variant.h applies them.
 *
 * One flat structure describes a delta of any kind; a kind uses the tensors that its file names and
 * leaves the rest alone. `apply` changes the whole parameter in float32, in place, so a kind may
 * add to it (LoRA, LoHa, LoKr), scale it (IA3), multiply it by a matrix (OFT, GLoRA) or take norms
 * of it (DoRA). Kinds are lines of kinds.def. Here belongs what changes weights; reading adapters'
 * files and their names of parameters does not.
 */
#ifndef DR_MODELS_ADAPTERS_WEIGHT_DELTA_H
#define DR_MODELS_ADAPTERS_WEIGHT_DELTA_H

#include "backend/backend.h"
#include "base/sha256.h"

enum { DELTA_TENSORS = 8 };

struct weight_delta {
    const struct delta_kind *kind;
    const char *param;              /* "mid_block.resnets.0.conv1.weight"; borrowed */
    double strength;                /* 0: as if the delta were not there */
    double alpha;                   /* low_rank: the product's factor is alpha / rank; 0: it is 1 */
    uint8_t identity[SHA256_BYTES]; /* of the values of `tensor`: equal means equal */
    struct weight_source tensor[DELTA_TENSORS]; /* the kind's file says which is which */
};

/* The parameter under change, as a matrix: its first dimension by the product of the others. */
struct delta_target {
    struct backend *be;
    const atomic_int *stop; /* nonzero: DR_ECANCELED. NULL: never */
    int64_t rows, cols;
    float *value; /* [rows, cols]: the base's value with the deltas before this one */
};

struct delta_kind {
    const char *name;
    /* What is added does not depend on the value: the order of such deltas does not matter, and
     * they are taken in an order of their own, so that the same set gives the same bits. */
    bool adds;
    /* DR_EINVAL that names the tensor, what it is and what was expected; shape is the parameter's.
     * `tensor[].data` may be NULL. */
    int (*check)(const struct weight_delta *d, const struct shape *shape, struct dr_error *err);
    /* In slabs of rows, with scratch for a slab; polls t->stop for each, as products do. The same
     * bits for any number of threads. */
    int (*apply)(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err);
};

#define KIND(name) extern const struct delta_kind delta_kind_##name;
#include "models/adapters/kinds.def"

/* ---- for kinds ---- */

enum {
    LOW_RANK_UP,   /* low_rank: [rows, rank] */
    LOW_RANK_DOWN, /* [rank, ...]: the parameter's shape but for the first dimension */
};
enum { DIFFERENCE /* difference: the parameter's shape */ };

/* tensor[i] must be there, of a real type, and have this shape but for trailing dimensions of 1. */
int delta_check_tensor(const struct weight_delta *d, int i, const struct shape *expected,
                       struct dr_error *err);

/* Rows in a slab; between slabs a kind calls delta_stopped, which is 0 or DR_ECANCELED. */
int64_t delta_slab_rows(const struct delta_target *t);
int delta_stopped(const struct delta_target *t, struct dr_error *err);

/* Rows [first, first + n) of a source seen as a matrix with `cols` columns, as float32. */
void delta_read_rows(const struct weight_source *s, int64_t first, int64_t n, int64_t cols,
                     float *ret);

/* Matrix products on the target's backend: any left matrix of `rank` columns, in slabs of rows,
 * times right [rank, cols]. Float32 operands and sums in every kernel set. */
struct delta_product {
    int64_t rank, cols;
    struct exec x;
    float *transposed; /* right, as a linear layer's weight */
    struct weight *right;
};
/* delta_product_close also after a failure. */
int delta_product_open(struct delta_product *p, const struct delta_target *t,
                       const struct weight_source *right, int64_t rank, struct dr_error *err);
/* ret [n, cols] = left [n, rank] right; n is at most delta_slab_rows. DR_ECANCELED. */
int delta_product_rows(struct delta_product *p, const float *left, int64_t n, float *ret,
                       struct dr_error *err);
void delta_product_close(struct delta_product *p);

#endif
