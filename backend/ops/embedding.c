/* embedding.c - dst[n, token] = table[id] + position[token].
 *
 * Contract. src [n, 1, tokens, 1] I32 ids, dst [n, 1, tokens, c] float32; weight and the optional
 * position are WEIGHT_TABLE [rows, c], position with at least `tokens` rows. An id outside the
 * table gives a row of NaN: the caller checks ids, and a mistake must not look like a picture.
 * flops 0. Exact: one addition in float32.
 */
#include "backend/ops/common.h"

#include <math.h>

enum { ROWS = 16 };

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_need("embedding", "dst", &op->dst, DTYPE_F32, err);
    if (!r)
        r = ref_need("embedding", "src", &op->src, DTYPE_I32, err);
    if (!r)
        r = ref_weight("embedding", op->weight, WEIGHT_TABLE, err);
    if (!r && op->position)
        r = ref_weight("embedding", op->position, WEIGHT_TABLE, err);
    if (!r)
        r = ref_shape("embedding", "src", &op->src, op->dst.n, 1, op->dst.w, 1, err);
    if (!r)
        r = ref_shape("embedding", "dst", &op->dst, -1, 1, -1, weight_desc(op->weight)->out, err);
    if (!r)
        r = ref_apart("embedding", "src", &op->dst, &op->src, false, err);
    if (r || !op->position)
        return r;
    const struct weight_desc *d = weight_desc(op->position);
    if (d->out != op->dst.c || d->in < op->dst.w)
        return dr_fail(
            err, DR_EINVAL, "embedding: %lld positions of %lld channels for %lld tokens of %lld",
            (long long)d->in, (long long)d->out, (long long)op->dst.w, (long long)op->dst.c);
    return 0;
}

static int64_t tiles(const struct op *op, int phase)
{
    (void)phase;
    return ref_ceil(op->dst.n * op->dst.w, ROWS);
}

static size_t per_thread(const struct op *op)
{
    return (size_t)op->dst.c * sizeof(float);
}

static void run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)phase;
    const struct op *op = a->op;
    const struct host_weight *w = a->weight;
    int64_t c = op->dst.c, last = ref_min((tile + 1) * ROWS, op->dst.n * op->dst.w);
    float *position = own;
    for (int64_t p = tile * ROWS; p < last; p++) {
        int64_t id = ((const int32_t *)a->src)[p * op->src.ld];
        float *out = (float *)a->dst + p * op->dst.ld;
        if (id < 0 || id >= w->desc->in) {
            for (int64_t i = 0; i < c; i++)
                out[i] = NAN;
            continue;
        }
        ref_elements(out, &w->source[0], id * c, c);
        if (!op->position)
            continue;
        ref_elements(position, &a->position->source[0], p % op->dst.w * c, c);
        for (int64_t i = 0; i < c; i++)
            out[i] += position[i];
    }
}

enum { POSITION = 1, F16 = 2, VIEW = 4 };

/* kv: rows of the table. */
static const struct op_case cases[] = {
    { "one value", .n = 1, .w = 1, .cin = 1, .kv = 1 },
    { "one row", .n = 2, .w = 3, .cin = 5, .kv = 1, .variant = POSITION },
    { "views", .n = 3, .w = 17, .cin = 37, .kv = 613, .variant = POSITION | F16 | VIEW },
    { "no positions", .n = 1, .w = 77, .cin = 64, .kv = 100, .variant = F16 },
    { "clip", .n = 2, .w = 77, .cin = 768, .kv = 4096, .variant = POSITION | F16 },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    struct op *op = &ret->op;
    int64_t gap = c->variant & VIEW ? 3 : 0;
    op->src = (struct act){ .dtype = DTYPE_I32, .n = c->n, .h = 1, .w = c->w, .c = 1 };
    op->dst = (struct act){ .n = c->n, .h = 1, .w = c->w, .c = c->cin, .ld = c->cin + gap };
    ret->ids = c->kv;
    ret->weight_dtype = c->variant & F16 ? DTYPE_F16 : DTYPE_F32;
    ret->weight =
        (struct weight_desc){ .kind = WEIGHT_TABLE, .in = c->kv, .out = c->cin, .parts = 1 };
    if (c->variant & POSITION)
        ret->position =
            (struct weight_desc){ .kind = WEIGHT_TABLE, .in = c->w + 2, .out = c->cin, .parts = 1 };
}

const struct op_work op_work_embedding = {
    .phases = 1, .per_thread = per_thread, .tiles = tiles, .run = run
};

const struct op_info op_info_embedding = {
    .name = "embedding",
    .check = check,
    .reference = &op_work_embedding,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
};
