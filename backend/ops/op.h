/* op.h - a call of an op, and what an op is.
 *
 * One flat call structure for all ops: the fields an op does not use stay zero, and what walks
 * calls (plan, checker) needs no case per op. Each op's file begins with its contract: which fields
 * it reads, shapes, order of operations, tolerance; then a scalar reference with double
 * accumulation, which is also the CPU's `scalar` kernel set; then the list of cases on which every
 * kernel is compared with it.
 *
 * In this folder: what an op means, for every backend. Not here: how a backend computes it, its
 * kernels and packed weights (backend/cpu/kernel.h for the CPU).
 */
#ifndef DR_BACKEND_OPS_OP_H
#define DR_BACKEND_OPS_OP_H

#include "backend/backend.h"

enum op_kind {
#define OP(name) OP_KIND_##name,
#include "backend/ops/ops.def"
#undef OP
    OP_KIND_COUNT
};
/* For callers. */
#define OP_LINEAR OP_KIND_linear
#define OP_CONV2D OP_KIND_conv2d
#define OP_UPSAMPLE_CONV OP_KIND_upsample_conv
#define OP_GROUP_NORM OP_KIND_group_norm
#define OP_LAYER_NORM OP_KIND_layer_norm
#define OP_ATTENTION OP_KIND_attention
#define OP_EMBEDDING OP_KIND_embedding
#define OP_RESIZE OP_KIND_resize
#define OP_ADD OP_KIND_add
#define OP_WEIGH OP_KIND_weigh

/* Applied to a value before the residual is added. GEGLU: the weight has 2c outputs, value half
 * first; the result is value * gelu(gate) with c channels. GELU is the exact one, x * Phi(x);
 * QUICK_GELU x * sigmoid(1.702 x). RELU, max(x, 0), is known to add alone. */
enum activation { ACT_NONE, ACT_SILU, ACT_GELU, ACT_QUICK_GELU, ACT_GEGLU, ACT_RELU };

struct op {
    enum op_kind kind;
    struct act dst;
    struct act src;
    struct act k, v;        /* attention; weigh: k is its mask */
    struct act residual;    /* added to the result; may be the same memory as dst */
    struct act channel_add; /* conv2d: [n, 1, 1, c], added to every pixel before activation */
    struct act moments;     /* products: of dst, written; group_norm: of src, see moments_width */
    const struct weight *weight;
    const struct weight *position; /* embedding: second table, row = index of the token */
    enum activation activation;
    int pad_low, pad_high; /* conv2d: zero rows and columns before, after (VAE going down: 0, 1);
                              wrap: how far rows, columns are moved */
    int groups;            /* group_norm */
    double eps;            /* norms */
    int heads;             /* attention: c = heads * head width */
    double scale;          /* attention: factor on q.k, before softmax; weigh: of src */
    bool causal;           /* attention: token i sees tokens 0..i */
};

/* Moments of an activation of c channels: [n, 1, runs, moments_width(c)] float32. A run is some of
 * a sample's pixels, each pixel in one run; of a run come c means, c sums of squared distances from
 * them (infinite from 1.8e19 on, and then the norm is NaN), and at element 2c the number of its
 * pixels, 0 for a run that is none. What follows only keeps the rows of usual widths aligned. */
static inline int64_t moments_width(int64_t c)
{
    return 2 * c + 16;
}

/* A weight in host memory, for references and kernels. The vectors are part of what a backend makes
 * of a weight: host_vectors_make. */
struct host_weight {
    const struct weight_desc *desc;
    const struct weight_source *source; /* parts, then biases */
    int n_sources;
    const float *bias;  /* [out], NULL if none; norm: shift */
    const float *scale; /* norm: [c]; else NULL */
};

/* A call with everything resolved to addresses, for references and kernels. Strides come from op's
 * acts. */
struct op_args {
    const struct op *op;
    void *dst;
    const void *src, *k, *v, *residual, *channel_add; /* NULL when absent */
    void *moments;
    const struct host_weight *weight, *position; /* NULL when absent */
    const void
        *packed;  /* the weight in the kernel set's own form; NULL: kernels read its sources */
    char *shared; /* scratch shared by the threads, 64-byte aligned */
};

/* The work of one op, cut into tiles that may run in any order on any thread. Phases run one after
 * another (all tiles of one before the next). The cut depends on the op's per-sample shape only,
 * never on the number of threads or on other samples, and a tile writes only its own outputs: that
 * is what keeps the bits. (Rows may be cut across samples where each output is the same chain of
 * operations whatever the cut: matrix products.) One tile takes 20 ms at most on a slow core.
 * Leaves: no allocation, no errors, no logging. */
struct op_work {
    int phases;
    int (*phases_of)(const struct op *op);     /* for this op, instead; NULL: phases */
    size_t (*shared)(const struct op *op);     /* bytes; NULL: none */
    size_t (*per_thread)(const struct op *op); /* bytes; NULL: none */
    int64_t (*tiles)(const struct op *op, int phase);
    void (*run)(const struct op_args *a, int phase, int64_t tile, void *own);
};

/* One case of the checker. Dimensions as the op's file says; unused ones 0. */
struct op_case {
    const char *name;
    int64_t n, h, w, cin, cout, kv;
    int kernel, stride, groups, heads;
    int variant; /* op-specific: activation, residual, dtype of weights, view with ld > c ... */
};

/* What the checker makes of a case. In `op`, an activation with c > 0 is present (buf NULL, ld 0:
 * dense); the checker gives it memory and random values. */
struct op_setup {
    struct op op;
    struct weight_desc weight, position; /* out = 0: none */
    enum dtype weight_dtype;
    bool weight_scales;     /* of matrices and filters that are not I8, which always has them */
    bool residual_in_place; /* dst and residual are the same memory */
    bool src_in_place;      /* dst and src are */
    double mean;            /* of the values of src; their deviation is 1 */
    bool constant;          /* src is all `mean` */
    int64_t ids;            /* src is I32: numbers in 0 .. ids-1 */
    bool moments;           /* asked for, where a kernel gives them; of a norm: there */
};

/* An op's activations, as a set of flags. */
enum op_role { OP_SRC = 1, OP_K = 2, OP_V = 4, OP_RESIDUAL = 8, OP_CHANNEL_ADD = 16, OP_DST = 32 };

struct op_info {
    const char *name;
    unsigned operands; /* op_role flags: may be of the backend's operand type instead of float32 */
    /* DR_EINVAL with words when the call breaks the contract. */
    int (*check)(const struct op *op, struct dr_error *err);
    double (*flops)(const struct op *op); /* NULL: 0 */
    const struct op_work *reference;
    /* One output in double, the definition; NULL for ops that are cheap enough to compare whole. */
    double (*at)(const struct op_args *a, int64_t n, int64_t h, int64_t w, int64_t c);
    void (*setup)(const struct op_case *c, struct op_setup *ret);
    const struct op_case *cases;
    int n_cases;
    /* Largest allowed relative L2 distance from the reference for f32 kernels; 0: equal. */
    double tolerance;
    double fast_tolerance; /* of kernels that trade accuracy for speed; 0: as tolerance */
};

const struct op_info *op_info(enum op_kind kind); /* NULL: no such op */

/* DR_EINTERNAL that names the descriptor and a member that it must have and lacks: of an op, whose
 * line in ops.def is given, of work, and of all ops. */
int op_info_check(const struct op_info *info, const char *line, struct dr_error *err);
int op_work_check(const struct op_work *work, const char *name, struct dr_error *err);
int op_tables_check(struct dr_error *err);

#define OP(name)                                                                                   \
    extern const struct op_info op_info_##name;                                                    \
    extern const struct op_work op_work_##name; /* its reference */
#include "backend/ops/ops.def"
#undef OP

/* The float32 vectors of a weight: scales of a norm, then biases, each at a multiple of
 * BACKEND_ALIGN. Their bytes; all of them from the sources, gaps zeros; `w` points into them. */
size_t host_vectors_bytes(const struct weight_desc *d);
void host_vectors_make(const struct host_weight *w, void *dst);
void host_vectors_bind(struct host_weight *w, const void *vectors);

/* From pixel to pixel of dst, in those of src, or of the picture that upsample_conv convolves. */
static inline int op_stride(const struct op *op)
{
    return weight_desc(op->weight)->downsamples ? 2 : 1;
}

/* Elements [first, first + n) of a row (of the first dimension) of a source as float32, scaled
 * where it is I8. */
void weight_row(const struct weight_source *s, int64_t row, int64_t first, int64_t n, float *dst);

#endif
