/* attention.c - dst = softmax(scale q k^T) v, head by head.
 *
 * Contract (Vaswani et al. 2017; torch's scaled_dot_product_attention). src (the queries) and dst
 * [n, 1, Lq, c], k and v [n, 1, Lk, c] float32, each with its own ld, so that slices of a fused
 * projection are views; h x w counts as tokens. Head i is channels [i c / heads, (i + 1) c /
 * heads), at most 512 wide; scale above 0. causal: query i sees keys 0 .. i (Lq = Lk). n of k and v
 * may be 1: all samples share them. dst overlaps nothing. flops = 4 n Lq Lk c. Order: scores and
 * their sums in double in order of the keys, the largest score subtracted first. Kernels may work
 * by blocks of keys in rising order with a running maximum.
 */
#include "backend/ops/common.h"

#include "base/dmath.h"

enum { HEAD_MAX = 512 };

static int64_t head_width(const struct op *op)
{
    return op->src.c / op->heads;
}

static int check_keys(const struct op *op, const char *what, const struct act *a,
                      struct dr_error *err)
{
    int r = ref_need("attention", what, a, DTYPE_F32, err);
    if (!r)
        r = ref_shape("attention", what, a, a->n == 1 ? 1 : op->src.n, -1, -1, op->src.c, err);
    return r ? r : ref_apart("attention", what, &op->dst, a, false, err);
}

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_usual("attention", op, false, err);
    if (!r)
        r = ref_shape("attention", "dst", &op->dst, op->src.n, op->src.h, op->src.w, op->src.c,
                      err);
    if (!r)
        r = check_keys(op, "k", &op->k, err);
    if (!r)
        r = check_keys(op, "v", &op->v, err);
    if (r)
        return r;
    if (ref_pixels(&op->k) != ref_pixels(&op->v) || op->k.n != op->v.n)
        return dr_fail(err, DR_EINVAL, "attention: k and v differ in length");
    if (op->heads < 1 || op->src.c % op->heads || head_width(op) > HEAD_MAX)
        return dr_fail(err, DR_EINVAL, "attention: %lld channels in %d heads (%d wide at most)",
                       (long long)op->src.c, op->heads, HEAD_MAX);
    if (op->causal && ref_pixels(&op->k) != ref_pixels(&op->src))
        return dr_fail(err, DR_EINVAL, "attention: causal needs as many keys as queries");
    if (op->weight || op->residual.buf || op->channel_add.buf || op->activation != ACT_NONE ||
        !(op->scale > 0))
        return dr_fail(err, DR_EINVAL,
                       "attention: scale above 0, no weight, activation or residual");
    return 0;
}

static double flops(const struct op *op)
{
    return 4.0 * (double)op->src.n * (double)ref_pixels(&op->src) * (double)ref_pixels(&op->k) *
           (double)op->src.c;
}

/* Queries of a tile: about 4 million multiply-accumulates. */
static int64_t tile_queries(const struct op *op)
{
    int64_t each = 2 * ref_pixels(&op->k) * head_width(op), queries = (4 << 20) / each;
    return queries < 1 ? 1 : ref_min(queries, 32);
}

static int64_t query_tiles(const struct op *op)
{
    return ref_ceil(ref_pixels(&op->src), tile_queries(op));
}

static int64_t tiles(const struct op *op, int phase)
{
    (void)phase;
    return op->src.n * op->heads * query_tiles(op);
}

static size_t per_thread(const struct op *op)
{
    return (size_t)(ref_pixels(&op->k) + head_width(op)) * sizeof(double);
}

static const float *key_row(const void *base, const struct act *a, int64_t n, int64_t i,
                            int64_t channel)
{
    return ref_row(base, a, (a->n == 1 ? 0 : n) * ref_pixels(a) + i) + channel;
}

static int64_t keys_seen(const struct op *op, int64_t query)
{
    return op->causal ? query + 1 : ref_pixels(&op->k);
}

static double score(const struct op_args *a, int64_t n, int64_t query, int64_t key, int64_t first)
{
    const struct op *op = a->op;
    const float *q = ref_row(a->src, &op->src, n * ref_pixels(&op->src) + query) + first;
    const float *k = key_row(a->k, &op->k, n, key, first);
    int64_t width = head_width(op);
    double dot = 0;
    for (int64_t c = 0; c < width; c++)
        dot += (double)q[c] * k[c];
    return dot * op->scale;
}

/* Fills weights[i] = exp(score i - largest score); returns their sum. */
static double weigh(const struct op_args *a, int64_t n, int64_t query, int64_t first,
                    double *weights)
{
    const struct op *op = a->op;
    int64_t keys = keys_seen(op, query);
    double largest = 0, sum = 0;
    for (int64_t i = 0; i < keys; i++) {
        weights[i] = score(a, n, query, i, first);
        if (!i || weights[i] > largest)
            largest = weights[i];
    }
    for (int64_t i = 0; i < keys; i++) {
        weights[i] = dr_exp(weights[i] - largest);
        sum += weights[i];
    }
    return sum;
}

static void one_query(const struct op_args *a, int64_t n, int64_t query, int64_t first,
                      double *weights)
{
    const struct op *op = a->op;
    int64_t width = head_width(op), keys = keys_seen(op, query);
    double *sums = weights + ref_pixels(&op->k);
    double total = weigh(a, n, query, first, weights);
    for (int64_t c = 0; c < width; c++)
        sums[c] = 0;
    for (int64_t i = 0; i < keys; i++) {
        const float *v = key_row(a->v, &op->v, n, i, first);
        for (int64_t c = 0; c < width; c++)
            sums[c] += weights[i] * v[c];
    }
    float *out = (float *)a->dst + (n * ref_pixels(&op->dst) + query) * op->dst.ld + first;
    for (int64_t c = 0; c < width; c++)
        out[c] = (float)(sums[c] / total);
}

static void run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)phase;
    const struct op *op = a->op;
    int64_t n = tile / (op->heads * query_tiles(op));
    int64_t head = tile / query_tiles(op) % op->heads;
    int64_t first = tile % query_tiles(op) * tile_queries(op);
    int64_t last = ref_min(first + tile_queries(op), ref_pixels(&op->src));
    for (int64_t query = first; query < last; query++)
        one_query(a, n, query, head * head_width(op), own);
}

static double at(const struct op_args *a, int64_t n, int64_t h, int64_t w, int64_t c)
{
    const struct op *op = a->op;
    int64_t query = h * op->dst.w + w, keys = keys_seen(op, query);
    int64_t first = c / head_width(op) * head_width(op);
    double largest = score(a, n, query, 0, first), total = 0, sum = 0;
    for (int64_t i = 1; i < keys; i++) {
        double s = score(a, n, query, i, first);
        largest = s > largest ? s : largest;
    }
    for (int64_t i = 0; i < keys; i++) {
        double weight = dr_exp(score(a, n, query, i, first) - largest);
        total += weight;
        sum += weight * key_row(a->v, &op->v, n, i, c)[0];
    }
    return sum / total;
}

enum { CAUSAL = 1, VIEW = 2, SHARED = 4, SHARP = 8, PICTURE = 16 };

/* w: queries; kv: keys (0: as many); cin: channels. */
static const struct op_case cases[] = {
    { "one value", .n = 1, .w = 1, .cin = 1, .heads = 1 },
    { "one key", .n = 2, .w = 5, .kv = 1, .cin = 24, .heads = 3 },
    { "odd head", .n = 3, .w = 13, .kv = 7, .cin = 35, .heads = 5 },
    { "head of one", .n = 1, .w = 9, .kv = 10, .cin = 4, .heads = 4 },
    { "causal", .n = 3, .w = 77, .cin = 128, .heads = 2, .variant = CAUSAL },
    { "causal, odd", .n = 1, .w = 19, .cin = 60, .heads = 3, .variant = CAUSAL | VIEW },
    { "views", .n = 2, .w = 33, .kv = 17, .cin = 40, .heads = 2, .variant = VIEW },
    { "shared keys", .n = 3, .w = 20, .kv = 77, .cin = 64, .heads = 1, .variant = SHARED },
    { "sharp", .n = 1, .w = 70, .kv = 130, .cin = 64, .heads = 1, .variant = SHARP },
    { "picture as tokens", .n = 2, .h = 5, .w = 7, .cin = 32, .heads = 2, .variant = PICTURE },
    { "head of 40", .n = 2, .w = 150, .cin = 80, .heads = 2 },
    { "head of 80", .n = 1, .w = 131, .kv = 77, .cin = 160, .heads = 2, .variant = VIEW },
    { "head of 160", .n = 1, .w = 99, .cin = 320, .heads = 2 },
    { "head of 512", .n = 1, .w = 130, .cin = 512, .heads = 1 },
    { "unet cross", .n = 1, .w = 1024, .kv = 77, .cin = 1280, .heads = 20 },
    { "unet self", .n = 2, .w = 1024, .cin = 128, .heads = 2, .variant = VIEW },
    { "unet self, long", .n = 1, .w = 4096, .cin = 64, .heads = 1 },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    struct op *op = &ret->op;
    int64_t gap = c->variant & VIEW ? 11 : 0, h = c->variant & PICTURE ? c->h : 1;
    op->src = (struct act){ .n = c->n, .h = h, .w = c->w, .c = c->cin, .ld = c->cin + gap };
    op->dst = op->src;
    op->k = op->src;
    if (c->kv)
        op->k.w = c->kv;
    if (c->variant & SHARED)
        op->k.n = 1;
    op->v = op->k;
    op->v.ld += gap;
    op->heads = c->heads;
    op->causal = c->variant & CAUSAL;
    op->scale = c->variant & SHARP ? 4.0 : 0.125;
}

const struct op_work op_work_attention = {
    .phases = 1, .per_thread = per_thread, .tiles = tiles, .run = run
};

const struct op_info op_info_attention = {
    .name = "attention",
    .operands = OP_SRC | OP_K | OP_V | OP_DST,
    .check = check,
    .flops = flops,
    .reference = &op_work_attention,
    .at = at,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
    .tolerance = 4e-6,
};
