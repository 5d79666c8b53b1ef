/* weight_delta.h - a change to one parameter of a network, and what a kind of change is.
 *
 * An adapter (LoRA and its relatives) is a list of deltas, each with its own strength, so several
 * adapters, strengths by block and separate strengths for text encoders are lists of deltas too. A
 * delta names a parameter as the network's visit function does; a layer that stacks several (to_q,
 * to_k, to_v) needs no special case. weight_variant.h applies them.
 *
 * One flat structure describes a delta of any kind; a kind uses the tensors that its file names and
 * leaves the rest alone. `apply` changes the whole parameter in float32, in place, so a kind may
 * add to it (LoRA, LoHa, LoKr), scale it (IA3), multiply it by a matrix (OFT, BOFT, GLoRA) or take
 * norms of it (DoRA). Kinds are lines of kinds.def. Here belongs what changes weights; reading
 * adapters' files and their names of parameters does not.
 */
#ifndef DR_MODELS_ADAPTERS_WEIGHT_DELTA_H
#define DR_MODELS_ADAPTERS_WEIGHT_DELTA_H

#include "backend/backend.h"
#include "base/sha256.h"

enum { DELTA_TENSORS = 8 };

struct weight_delta {
    const struct delta_kind *kind;
    const char *param; /* "mid_block.resnets.0.conv1.weight"; borrowed */
    double strength;   /* 0: as if the delta were not there */
    double
        alpha; /* products: their factor is alpha / rank, 0: it is 1; rotations: the constraint */
    const struct delta_kind *inner; /* dora: what is added before the norms are set; else NULL */
    uint8_t identity[SHA256_BYTES]; /* of the values of `tensor`: equal means equal */
    struct weight_source tensor[DELTA_TENSORS]; /* the kind's file says which is which */
};

/* Workspaces of matrix products, kept from parameter to parameter, since making one costs as much
 * as a small product. Zero-initialise. */
struct delta_room {
    struct delta_space {
        struct workspace *ws;
        size_t bytes;
        bool taken;
    } space[2]; /* the most products that a kind has at once */
};
void delta_room_release(struct delta_room *room);

/* The parameter under change, as a matrix: its first dimension by the product of the others. */
struct delta_target {
    struct backend *be;
    const atomic_int *stop; /* nonzero: DR_ECANCELED. NULL: never */
    struct delta_room *room;
    int64_t rows, cols;
    float *value; /* [rows, cols]: the base's value with the deltas before this one */
};

struct delta_kind {
    const char *name;
    /* What is added does not depend on the value: the order of such deltas does not matter, and
     * they are taken in an order of their own, so that the same set gives the same bits. */
    bool adds;
    /* Bits of tensors that must be there: of each pair, all of `these` or, if there are any, all of
     * `those`. */
    struct {
        unsigned these, those;
    } needs[2];
    /* DR_EINVAL that names the tensor, what it is and what was expected; shape is the parameter's.
     * `tensor[].data` may be NULL. */
    int (*check)(const struct weight_delta *d, const struct shape *shape, struct dr_error *err);
    /* Products in slabs of rows, everything else in parts on the backend's threads; polls t->stop
     * for each. The same bits for any number of threads. */
    int (*apply)(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err);
};

#define KIND(name) extern const struct delta_kind delta_kind_##name;
#include "models/adapters/kinds.def"

/* ---- for kinds ---- */

enum {
    LOW_RANK_UP,   /* low_rank: [rows, rank] */
    LOW_RANK_DOWN, /* [rank, ...]: the parameter's shape but for the first dimension; with a middle
                      tensor [rank, second dimension] */
    LOW_RANK_MID,  /* [rank, rank, kernel], or not there */
};
enum { DIFFERENCE /* difference, replacement: the parameter's shape */ };
enum {
    LOHA_1A, /* loha: as up, down and mid of low_rank, but for an up of [rank, rows] with a mid */
    LOHA_1B,
    LOHA_1T,
    LOHA_2A,
    LOHA_2B,
    LOHA_2T,
};
enum {
    LOKR_1, /* lokr: both halves of the Kronecker product, each whole or as factors */
    LOKR_1A,
    LOKR_1B,
    LOKR_2,
    LOKR_2A,
    LOKR_2B,
    LOKR_2T,
};
enum { GLORA_A1, GLORA_A2, GLORA_B1, GLORA_B2 };
enum { OFT_BLOCKS, OFT_RESCALE /* [rows], or not there */ }; /* oft and boft */
enum { IA3_OUT, IA3_IN };                                    /* ia3: one of them */
enum { DORA_MAGNITUDE = DELTA_TENSORS - 1 };                 /* beside those of the inner kind */

/* Whether the file has that tensor. */
bool delta_has(const struct weight_delta *d, int i);
/* tensor[i] must be there, of a real type, and have this shape but for trailing dimensions of 1. */
int delta_check_tensor(const struct weight_delta *d, int i, const struct shape *expected,
                       struct dr_error *err);
/* The same, or its first dimension by all others, as a matrix. */
int delta_check_rows(const struct weight_delta *d, int i, const struct shape *expected,
                     struct dr_error *err);
/* The parameter must be a matrix or filters. */
int delta_check_matrix(const struct weight_delta *d, const struct shape *param,
                       struct dr_error *err);
/* A rank that a product for this parameter can have: 1 to its rows and columns together. */
int delta_check_rank(const struct weight_delta *d, int i, int64_t rank, const struct shape *param,
                     struct dr_error *err);
/* up, down and mid (or not there) of a product of that rank; `turned`: with a mid, up is
 * [rank, rows]. */
int delta_check_pair(const struct weight_delta *d, int up, int down, int mid, bool turned,
                     const struct shape *param, int64_t *ret_rank, struct dr_error *err);
/* Dimension i of a tensor, 1 where it has fewer. */
int64_t delta_dim(const struct weight_source *s, int i);
/* strength alpha / rank. */
double delta_factor(const struct weight_delta *d, int64_t rank);

int64_t delta_slab_rows(const struct delta_target *t); /* of a product */

/* Items 0 .. n-1 (rows, or columns) in parts on the backend's threads; `cost` is how many numbers
 * an item has. What a part computes must not depend on where parts begin. DR_ECANCELED. */
typedef void (*delta_part_fn)(void *ctx, int64_t first, int64_t n);
int delta_parts(const struct delta_target *t, int64_t n, int64_t cost, delta_part_fn part,
                void *ctx, struct dr_error *err);

/* Rows [first, first + n) of a source seen as a matrix with `cols` columns, as float32; and
 * elements [from, from + n) of one row. */
void delta_read_rows(const struct weight_source *s, int64_t first, int64_t n, int64_t cols,
                     float *ret);
void delta_read_some(const struct weight_source *s, int64_t row, int64_t from, int64_t n,
                     int64_t cols, float *ret);

enum { DELTA_RUN = 256 }; /* elements that such a loop takes at once */

/* Matrix products on the target's backend: any left matrix of `rank` columns, in slabs of rows,
 * times right [rank, cols]. Float32 operands and sums in every kernel set. */
struct delta_product {
    int64_t rank, cols, most; /* rows at once */
    struct exec x;
    struct delta_space *space;
    struct act src, dst;
    float *transposed; /* right, as a linear layer's weight */
    float *copy;       /* of the result, where the backend's memory is not the host's */
    struct weight *right;
};
/* delta_product_close also after a failure. */
int delta_product_open(struct delta_product *p, const struct delta_target *t,
                       const struct weight_source *right, int64_t rank, struct dr_error *err);
/* *ret [n, cols] = left [n, rank] right, until the next call; n is at most delta_slab_rows.
 * DR_ECANCELED. */
int delta_product_rows(struct delta_product *p, const float *left, int64_t n, const float **ret,
                       struct dr_error *err);
void delta_product_close(struct delta_product *p);

/* A whole tensor as a matrix in memory, [rows, cols]; NULL: DR_ENOMEM. */
float *delta_read(const struct weight_delta *d, int i, int64_t rows, int64_t cols,
                  struct dr_error *err);

/* ret [rank, in * kernel] = mid [rank, rank, kernel] times down [rank, in], over the second
 * dimension of mid. Sums in double, rounded once. */
int delta_fold(const struct delta_target *t, const float *mid, const float *down, int64_t rank,
               int64_t in, int64_t kernel, float *ret, struct dr_error *err);

/* up [rows, rank] times down [rank, cols], in slabs of rows; down may have a middle tensor, whose
 * product with it is made first. delta_pair_close also after a failure. */
struct delta_pair {
    float *left, *right; /* right NULL: the file's own */
    int64_t rank;
    struct delta_product product;
};
int delta_pair_open(struct delta_pair *p, const struct weight_delta *d,
                    const struct delta_target *t, int up, int down, int mid, bool turned,
                    struct dr_error *err);
/* *ret [n, cols]: rows from `first` on, until the next call. */
int delta_pair_rows(struct delta_pair *p, int64_t first, int64_t n, const float **ret,
                    struct dr_error *err);
void delta_pair_close(struct delta_pair *p);

/* Calls rows for each slab, after the poll of t->stop. */
typedef int (*delta_rows_fn)(void *ctx, int64_t first, int64_t n, struct dr_error *err);
int delta_slabs(const struct delta_target *t, delta_rows_fn rows, void *ctx, struct dr_error *err);

#endif
