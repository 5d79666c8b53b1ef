/* backend.h - what the networks see of the machine: buffers, weights, ops.
 *
 * A network is host code that calls a few dozen coarse ops on activations. It never looks inside a
 * buffer or a weight: a backend keeps them where and how it likes, and only its own code
 * dereferences either. `plan` wraps another backend, computes nothing and adds up what would have
 * been used. Which other backends there are, and opening one: backend/device.h.
 *
 * In this folder: the seam - this header for networks, device.h for choosing a device, vtable.h for
 * writing a backend - and the half of every backend that is the same for all. Not here: what an op
 * means (ops/), how a device computes it (cpu/), files of packed weights (cache/), comparing and
 * timing kernels (check/).
 *
 *     struct exec x = { .be = be, .ws = ws, .stop = &stop };
 *     struct act y;
 *     r = act_new(&x, DTYPE_F32, n, h, w, 320, &y, err);
 *     struct op conv = { .kind = OP_CONV2D, .dst = y, .src = in, .weight = w, .pad_low = 1, ... };
 *     r = op_run(&x, &conv, err);
 *     act_free(&x, &in);
 *
 * Layout: activations are NHWC, i.e. [n samples, h rows, w columns, c channels]; a sequence of
 * tokens is h = 1, w = tokens. So a picture is a sequence of its pixels without moving a byte.
 */
#ifndef DR_BACKEND_BACKEND_H
#define DR_BACKEND_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/error.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

struct backend;
struct buffer;
struct weight;
struct workspace;
struct op;
struct pack;
struct weight_variant;

/* ---- activations ---- */

/* A view of a buffer: element (n, h, w, c) is at offset + ((n*H*W + h*W + w) * ld + c) * size.
 * ld > c makes a view of some channels (concatenation without copying). buf NULL: absent. */
struct act {
    struct buffer *buf;
    size_t offset; /* bytes */
    enum dtype dtype;
    int64_t n, h, w, c;
    int64_t ld; /* elements from one column to the next, >= c */
};

/* Channels [first, first + count) of a; the samples [first, first + count) of a; the same elements
 * as tokens. */
struct act act_channels(struct act a, int64_t first, int64_t count);
struct act act_samples(struct act a, int64_t first, int64_t count);
struct act act_tokens(struct act a); /* [n, 1, h*w, c] */

/* ---- weights ---- */

enum weight_kind {
    WEIGHT_LINEAR, /* parts [out_i, in] stacked on out, biases [out_i] likewise */
    WEIGHT_CONV,   /* [out, in, kernel, kernel], bias [out] */
    WEIGHT_NORM,   /* scale [c], shift [c] */
    WEIGHT_TABLE,  /* rows [rows, c]: embeddings */
};

/* A parameter where it lies: usually in a mapped file, in the file's dtype. The memory outlives the
 * weight. */
struct weight_source {
    const char *name; /* for errors and receipts; outlives the weight; NULL is allowed */
    const void *data; /* any alignment; NULL under plan, when only sizes are known */
    enum dtype dtype;
    struct shape shape;
    bool mapped; /* lies in a read-only file mapping: its pages may be given back and read again */
    const void *scales; /* any alignment: float32 by row, value = number * its row's scale; NULL:
                         * none. I8 has them always, other types of matrices and filters may */
};

enum { WEIGHT_SOURCES = 6 }; /* most of a weight: parts, then biases */

struct weight_desc {
    enum weight_kind kind;
    int64_t in, out;  /* channels; WEIGHT_NORM: out = c; WEIGHT_TABLE: in = rows, out = c */
    int kernel;       /* WEIGHT_CONV: 1 or 3 */
    int parts;        /* WEIGHT_LINEAR: sources stacked on out (fused q, k, v); else 1 */
    bool bias;        /* sources [parts .. 2*parts) are the biases */
    bool keep_f32;    /* a product whose operands stay float32 whatever the kernel set */
    bool gated;       /* WEIGHT_LINEAR: for ACT_GEGLU, outputs are the values, then their gates */
    bool upsamples;   /* WEIGHT_CONV: of an upsample_conv */
    bool downsamples; /* WEIGHT_CONV: of a conv2d of stride 2 */
    bool int8;        /* all parts are I8: 8-bit kernels may take it. weight_prepare says so */
};

/* Whether its matrices or filters, the first `parts` sources, are all I8 and 8-bit kernels may take
 * it: no sum of products leaves 32 bits. Sets what weight_bytes needs to know. */
bool weight_is_int8(const struct weight_desc *desc, const struct weight_source *sources);

/* Packs the sources for this backend. Pure: same desc and sources, same weight. The weight keeps
 * the source list, so that the packed form can be rebuilt. A linear's weight may have trailing
 * dimensions of 1 (a 1x1 convolution's) and vice versa. DR_EINVAL when the sources do not fit the
 * desc (names the tensor). */
int weight_prepare(struct backend *be, const struct weight_desc *desc,
                   const struct weight_source *sources, int n, struct weight **ret,
                   struct dr_error *err);
void weight_free(struct weight *w);

/* What a backend makes of a weight: float32 vectors (biases, scales, shifts), and the kernel set's
 * own form of its matrix, 0 for none. Together one blob of a pack. */
struct weight_bytes {
    size_t vectors, packed;
};
struct weight_bytes weight_bytes(struct backend *be, const struct weight_desc *desc);

/* weight_prepare with the packed form in a pack (backend/cache/pack.h), found or put there by this
 * name; the pack must outlive the weight. DR_EFORMAT when the pack is finished and has no such
 * blob. Without a pack it is in private memory. */
int weight_prepare_in(struct backend *be, struct pack *pack, const char *name,
                      const struct weight_desc *desc, const struct weight_source *sources, int n,
                      struct weight **ret, struct dr_error *err);

/* Between two uses; with `drop`, pages of mapped files are given back to the system. */
void weight_release(struct weight *w, bool drop);
const struct weight_desc *weight_desc(const struct weight *w);
const struct weight_source *weight_sources(const struct weight *w, int *ret_n);
/* Gives the pages of a mapped source back to the system after reading it; nothing for others. */
void weight_source_release(const struct weight_source *s);

/* ---- execution ---- */

/* All that a forward pass carries around. */
/* Axes along which pictures go on at their opposite edge. */
enum { EXEC_WRAP_X = 1, EXEC_WRAP_Y = 2 };

struct exec {
    struct backend *be;
    struct workspace *ws;
    const atomic_int *stop; /* nonzero: DR_ECANCELED within 20 ms of work. NULL: never */
    /* Sees every op before it runs; 1: has run it itself. NULL: nobody looks. */
    int (*watch)(struct exec *x, const struct op *op, struct dr_error *err);
    void *watcher; /* the watch's own */
    /* Which weights the network's layers use (models/adapters/weight_variant.h); NULL: the base. */
    const struct weight_variant *variant;
    unsigned wrap; /* of a network's convolutions (models/wrapped_conv.h) */
};

struct op_need {
    size_t scratch;  /* bytes of workspace while the op runs */
    double flops;    /* nominal: 2 per multiply-accumulate of products and convolutions, else 0 */
    double executed; /* what is really multiplied */
};

/* What running the op takes on this backend; the op must be within its contract. */
struct op_need backend_need(struct backend *be, const struct op *op);

/* Runs of a sample in the moments of its result that the op can give on this backend (moments_width
 * in ops/op.h); 0: it gives none. The op must be within its contract. */
int64_t backend_stat_chunks(struct backend *be, const struct op *op);

/* Checks the op against its contract (ops/), takes its scratch from the workspace, runs it. Outputs
 * are undefined after an error; DR_ECANCELED after a stop. */
int op_run(struct exec *x, const struct op *op, struct dr_error *err);

/* ---- workspace: one block, many activations ---- */

/* A block of `capacity` bytes on the backend from which activations are cut, first fit by lowest
 * offset, so that the same calls give the same layout and the highest byte used is known
 * beforehand. Nothing is allocated after workspace_new. Under `plan` the capacity is not allocated
 * and SIZE_MAX is allowed. */
int workspace_new(struct backend *be, size_t capacity, struct workspace **ret,
                  struct dr_error *err);
void workspace_free(struct workspace *ws);
/* What a block of so many bytes takes of it; SIZE_MAX when that does not fit. */
size_t backend_align(size_t bytes);
size_t workspace_peak(const struct workspace *ws); /* highest byte ever used */
/* Bytes in live activations now; 0 after a balanced pass. */
size_t workspace_used(const struct workspace *ws);
/* Forgets all activations (after an error or a stop) and the peak. */
void workspace_reset(struct workspace *ws);

/* DR_ENOMEM when the workspace is too small (says by how much). ld = c. act_free(NULL buf) does
 * nothing and clears a->buf; freeing a view frees the activation it was cut from only if it starts
 * at its offset. */
int act_new(struct exec *x, enum dtype dtype, int64_t n, int64_t h, int64_t w, int64_t c,
            struct act *ret, struct dr_error *err);
void act_free(struct exec *x, struct act *a);

/* Explicit traffic with the host. act_write/act_read: rows of c elements in the act's dtype, host
 * side dense [n, h, w, c]. The _nchw forms take and give float32 [n, c, h, w] and convert. Under
 * plan the host side may be NULL. */
int act_write(struct exec *x, struct act a, const void *src, struct dr_error *err);
int act_read(struct exec *x, struct act a, void *dst, struct dr_error *err);
int act_write_nchw(struct exec *x, struct act a, const float *src, struct dr_error *err);
int act_read_nchw(struct exec *x, struct act a, float *dst, struct dr_error *err);

/* Where a dense activation lies, for host code that reads it before the next op; NULL: not in the
 * host's memory. */
const void *act_address(struct exec *x, struct act a);

/* Host code in n independent parts, on the threads that ops run on: part(ctx, i) for each i, in any
 * order, several at once. Not from within a part. DR_ECANCELED when *stop became nonzero. */
typedef void (*backend_part_fn)(void *ctx, int64_t i);
int backend_each(struct backend *be, backend_part_fn part, void *ctx, int64_t n,
                 const atomic_int *stop, struct dr_error *err);

/* ---- backends ---- */

/* What the operands of products may be rounded to; sums are float32 or wider always. F32 also
 * forbids algorithms that are faster and looser than the plain sum of products. */
enum precision {
    PRECISION_AUTO,
    PRECISION_F32,
    PRECISION_F16,
    PRECISION_BF16,
    PRECISION_INT8, /* where the weights are I8, else what the set has; never what AUTO means */
    PRECISION_COUNT
};
const char *precision_name(enum precision p); /* "auto", "f32", "f16", "bf16", "int8" */
int precision_find(const char *name, enum precision *ret, struct dr_error *err); /* DR_EINVAL */

struct backend_options {
    const char *kernels; /* a kernel set's name, or NULL / "auto": the best this machine runs */
    int threads;         /* 0: all the cores this process may use (affinity and cgroup) */
    enum precision precision;
};

/* Wraps `inner` (borrowed, must outlive it); takes its weights too. Nothing is computed. */
int backend_open_plan(struct backend *inner, struct backend **ret, struct dr_error *err);
void backend_close(struct backend *be);

/* Host code may then skip reading files and drawing noise. */
bool backend_is_plan(const struct backend *be);
const char *backend_kernel_set(const struct backend *be); /* "avx512"; plan: the inner one's */
/* With the kernel set, what fixes the bits: F32, AUTO (float32 operands, faster algorithms), or the
 * set's 16-bit type. */
enum precision backend_precision(const struct backend *be);
/* The type that an op (of enum op_kind) takes and gives without a copy: what lies between a norm
 * and a product, or between two products, is best kept in the product's. F32, or the 16-bit type of
 * a kernel set whose kernel for that op rounds operands. */
enum dtype backend_operand(const struct backend *be, int op);
/* Of packed weights and algorithms, for receipts. */
int backend_layout_version(const struct backend *be);
int backend_threads(const struct backend *be);

/* Names of the kernel sets of all devices, a device's best last, and whether this machine can run
 * them. */
const char *backend_kernel_set_name(int i, bool *ret_usable); /* NULL past the end */

enum precision backend_kernel_set_precision(int i);

/* What a plan backend has seen since it was opened or last reset. */
struct plan_totals {
    double flops, executed; /* sums of op_need */
    uint64_t ops;
    size_t
        packed_bytes; /* what would be made of all prepared weights that exist, wherever it lies */
    /* Of weights used by ops since the last reset, each once: in a pack, else the sources if ops
     * read these. */
    size_t mapped_bytes;
};
struct plan_totals backend_plan_totals(const struct backend *plan);
void backend_plan_reset(struct backend *plan);
/* Whether weights prepared on it from now on count as lying in a pack; at first not. */
void backend_plan_packs(struct backend *plan, bool packs);

#endif
