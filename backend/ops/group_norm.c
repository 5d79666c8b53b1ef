/* group_norm.c - dst = act((src - mean) / sqrt(variance + eps) * scale + shift), statistics per
 * sample and group.
 *
 * Contract (Wu and He 2018; torch's GroupNorm). src and dst [n, h, w, c] float32, c a multiple of
 * `groups`; weight WEIGHT_NORM [c], shift optional; biased variance; activation NONE or SILU; dst
 * may be src. `moments` are those of src, if whoever wrote it took them, and kernels may read them
 * instead for the statistics; the reference does not need to. flops 0. Order: sums of values and
 * squares in double over fixed runs of pixels of a sample, the runs then combined in rising order.
 */
#include "backend/ops/common.h"

#include <math.h>

enum { RUN = 4096 }; /* values of a run of pixels, about */

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_usual("group_norm", op, true, err);
    if (!r)
        r = ref_weight("group_norm", op->weight, WEIGHT_NORM, err);
    if (r)
        return r;
    if (op->groups < 1 || op->dst.c % op->groups)
        return dr_fail(err, DR_EINVAL, "group_norm: %lld channels in %d groups",
                       (long long)op->dst.c, op->groups);
    if (!(op->eps > 0) || op->residual.buf || op->channel_add.buf ||
        (op->activation != ACT_NONE && op->activation != ACT_SILU))
        return dr_fail(err, DR_EINVAL,
                       "group_norm: eps above 0, activation none or silu, nothing added");
    r = ref_shape("group_norm", "src", &op->src, op->dst.n, op->dst.h, op->dst.w, op->dst.c, err);
    return r ? r
             : ref_shape("group_norm", "dst", &op->dst, -1, -1, -1, weight_desc(op->weight)->out,
                         err);
}

static int64_t run_pixels(const struct op *op)
{
    return op->src.c < RUN ? RUN / op->src.c : 1;
}

static int64_t runs(const struct op *op)
{
    return ref_ceil(ref_pixels(&op->src), run_pixels(op));
}

/* Sum and sum of squares of each run and group; then mean and 1 / deviation of each sample and
 * group. */
static size_t shared(const struct op *op)
{
    return (size_t)(op->src.n * (runs(op) + 1) * op->groups) * 2 * sizeof(double);
}

static int64_t tiles(const struct op *op, int phase)
{
    return phase == 1 ? op->src.n : op->src.n * runs(op);
}

static void add_up(const struct op_args *a, int64_t tile)
{
    const struct op *op = a->op;
    int64_t pixels = ref_pixels(&op->src), width = op->src.c / op->groups;
    int64_t n = tile / runs(op), first = tile % runs(op) * run_pixels(op);
    int64_t last = ref_min(first + run_pixels(op), pixels);
    double *sums = (double *)a->shared + tile * op->groups * 2;
    for (int64_t g = 0; g < op->groups; g++) {
        double sum = 0, squares = 0;
        for (int64_t p = first; p < last; p++) {
            const float *x = ref_row(a->src, &op->src, n * pixels + p) + g * width;
            for (int64_t c = 0; c < width; c++) {
                sum += x[c];
                squares += (double)x[c] * x[c];
            }
        }
        sums[2 * g] = sum;
        sums[2 * g + 1] = squares;
    }
}

static double *statistics(const struct op_args *a, int64_t n)
{
    const struct op *op = a->op;
    return (double *)a->shared + (op->src.n * runs(op) + n) * op->groups * 2;
}

static void combine(const struct op_args *a, int64_t n)
{
    const struct op *op = a->op;
    double count = (double)(ref_pixels(&op->src) * (op->src.c / op->groups));
    const double *sums = (const double *)a->shared + n * runs(op) * op->groups * 2;
    double *ret = statistics(a, n);
    for (int64_t g = 0; g < op->groups; g++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < runs(op); i++) {
            sum += sums[(i * op->groups + g) * 2];
            squares += sums[(i * op->groups + g) * 2 + 1];
        }
        double mean = sum / count, variance = squares / count - mean * mean;
        ret[2 * g] = mean;
        ret[2 * g + 1] = 1.0 / sqrt((variance > 0 ? variance : 0) + op->eps);
    }
}

static void apply(const struct op_args *a, int64_t tile)
{
    const struct op *op = a->op;
    const struct host_weight *w = a->weight;
    int64_t pixels = ref_pixels(&op->src), width = op->src.c / op->groups;
    int64_t n = tile / runs(op), first = tile % runs(op) * run_pixels(op);
    int64_t last = ref_min(first + run_pixels(op), pixels);
    const double *stats = statistics(a, n);
    for (int64_t p = n * pixels + first; p < n * pixels + last; p++) {
        const float *x = ref_row(a->src, &op->src, p);
        float *y = (float *)a->dst + p * op->dst.ld;
        for (int64_t c = 0; c < op->src.c; c++) {
            const double *s = stats + c / width * 2;
            double v = (x[c] - s[0]) * s[1] * w->scale[c] + (w->bias ? w->bias[c] : 0.0f);
            y[c] = (float)ref_activate(op->activation, v);
        }
    }
}

static void run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)own;
    if (phase == 0)
        add_up(a, tile);
    else if (phase == 1)
        combine(a, tile);
    else
        apply(a, tile);
}

enum { SILU = 1, IN_PLACE = 2, VIEW = 4, F16 = 8, FAR = 16, MOMENTS = 32 };

static const struct op_case cases[] = {
    { "one value", .n = 1, .h = 1, .w = 1, .cin = 1, .groups = 1 },
    { "one pixel", .n = 1, .h = 1, .w = 1, .cin = 320, .groups = 32, .variant = SILU },
    { "odd groups", .n = 3, .h = 7, .w = 5, .cin = 35, .groups = 5, .variant = SILU | F16 },
    { "groups of one", .n = 2, .h = 9, .w = 4, .cin = 6, .groups = 6 },
    { "one group", .n = 1, .h = 5, .w = 9, .cin = 17, .groups = 1, .variant = IN_PLACE },
    { "views", .n = 2, .h = 12, .w = 9, .cin = 40, .groups = 8, .variant = VIEW | SILU },
    { "moments", .n = 3, .h = 7, .w = 5, .cin = 35, .groups = 5, .variant = SILU | MOMENTS },
    { "moments, one pixel", .n = 1, .h = 1, .w = 1, .cin = 320, .groups = 32, .variant = MOMENTS },
    { "moments, views", .n = 2, .h = 52, .w = 40, .cin = 128, .groups = 32,
      .variant = VIEW | F16 | MOMENTS },
    { "moments, more parts", .n = 2, .h = 40, .w = 40, .cin = 320, .groups = 32,
      .variant = SILU | MOMENTS },
    { "moments, far from zero", .n = 1, .h = 32, .w = 32, .cin = 64, .groups = 32,
      .variant = FAR | IN_PLACE | MOMENTS },
    { "far from zero", .n = 1, .h = 32, .w = 32, .cin = 64, .groups = 32, .variant = FAR },
    { "constant", .n = 1, .h = 4, .w = 4, .cin = 32, .groups = 32, .kv = 1, .variant = SILU },
    { "wide", .n = 1, .h = 13, .w = 9, .cin = 2560, .groups = 32, .variant = SILU | F16 },
    { "unet", .n = 1, .h = 64, .w = 64, .cin = 320, .groups = 32, .variant = SILU | F16 },
    { "vae", .n = 3, .h = 104, .w = 96, .cin = 128, .groups = 32, .variant = SILU | IN_PLACE },
    { "vae level 0", .n = 1, .h = 256, .w = 256, .cin = 128, .groups = 32, .variant = SILU },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    struct op *op = &ret->op;
    int64_t gap = c->variant & VIEW ? 7 : 0;
    op->src = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cin, .ld = c->cin + gap };
    op->dst = op->src;
    op->groups = c->groups;
    op->eps = 1e-5;
    op->activation = c->variant & SILU ? ACT_SILU : ACT_NONE;
    ret->moments = c->variant & MOMENTS;
    ret->src_in_place = c->variant & IN_PLACE;
    ret->mean = c->variant & FAR ? 100 : 0;
    ret->constant = c->kv == 1;
    ret->weight_dtype = c->variant & F16 ? DTYPE_F16 : DTYPE_F32;
    ret->weight = (struct weight_desc){
        .kind = WEIGHT_NORM, .in = c->cin, .out = c->cin, .parts = 1, .bias = true
    };
}

const struct op_work op_work_group_norm = {
    .phases = 3, .shared = shared, .tiles = tiles, .run = run
};

const struct op_info op_info_group_norm = {
    .name = "group_norm",
    .operands = OP_DST,
    .check = check,
    .reference = &op_work_group_norm,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
    .tolerance = 2e-6,
};
