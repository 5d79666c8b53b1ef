/* common.c - see common.h. */
#include "backend/ops/common.h"

#include <math.h>

#include "backend/vtable.h"
#include "base/dmath.h"

int ref_need(const char *op, const char *what, const struct act *a, enum dtype dtype,
             struct dr_error *err)
{
    if (!a->buf)
        return dr_fail(err, DR_EINVAL, "%s: no %s", op, what);
    bool narrow = dtype == DTYPE_F32 && (a->dtype == DTYPE_F16 || a->dtype == DTYPE_BF16);
    if (a->dtype != dtype && !narrow)
        return dr_fail(err, DR_EINVAL, "%s: %s is %s, expected %s", op, what, dtype_name(a->dtype),
                       dtype_name(dtype));
    return 0;
}

int ref_shape(const char *op, const char *what, const struct act *a, int64_t n, int64_t h,
              int64_t w, int64_t c, struct dr_error *err)
{
    if ((n < 0 || a->n == n) && (h < 0 || a->h == h) && (w < 0 || a->w == w) &&
        (c < 0 || a->c == c))
        return 0;
    return dr_fail(err, DR_EINVAL,
                   "%s: %s is [%lld, %lld, %lld, %lld], expected [%lld, %lld, %lld, %lld]"
                   " (-1: any)",
                   op, what, (long long)a->n, (long long)a->h, (long long)a->w, (long long)a->c,
                   (long long)n, (long long)h, (long long)w, (long long)c);
}

static bool same_view(const struct act *a, const struct act *b)
{
    return a->offset == b->offset && a->dtype == b->dtype && a->ld == b->ld && a->n == b->n &&
           a->h * a->w == b->h * b->w && a->c == b->c;
}

/* Two views share an element. Slices of one concatenation (equal ld, disjoint channels) do not. */
static bool overlap(const struct act *a, const struct act *b)
{
    size_t an, bn;
    if (a->buf != b->buf || !act_extent(a, &an) || !act_extent(b, &bn))
        return false;
    if (a->offset + an <= b->offset || b->offset + bn <= a->offset)
        return false;
    if (a->ld != b->ld || a->dtype != b->dtype)
        return true;
    size_t row = (size_t)a->ld * dtype_size(a->dtype);
    size_t from = (b->offset % row + row - a->offset % row) % row / dtype_size(a->dtype);
    return from < (size_t)a->c || from + (size_t)b->c > (size_t)a->ld;
}

int ref_apart(const char *op, const char *what, const struct act *dst, const struct act *a,
              bool in_place, struct dr_error *err)
{
    if (!a->buf || !overlap(dst, a) || (in_place && same_view(dst, a)))
        return 0;
    return dr_fail(err, DR_EINVAL, "%s: dst and %s share memory", op, what);
}

int ref_usual(const char *op, const struct op *o, bool in_place, struct dr_error *err)
{
    int r = ref_need(op, "dst", &o->dst, DTYPE_F32, err);
    if (!r)
        r = ref_need(op, "src", &o->src, DTYPE_F32, err);
    if (!r)
        r = ref_apart(op, "src", &o->dst, &o->src, in_place, err);
    if (r || !o->residual.buf)
        return r;
    r = ref_need(op, "residual", &o->residual, DTYPE_F32, err);
    if (!r)
        r = ref_shape(op, "residual", &o->residual, o->dst.n, o->dst.h, o->dst.w, o->dst.c, err);
    return r ? r : ref_apart(op, "residual", &o->dst, &o->residual, true, err);
}

int ref_channel_add(const char *op, const struct op *o, struct dr_error *err)
{
    if (!o->channel_add.buf)
        return 0;
    int r = ref_need(op, "channel_add", &o->channel_add, DTYPE_F32, err);
    if (!r)
        r = ref_shape(op, "channel_add", &o->channel_add, o->dst.n, 1, 1, o->dst.c, err);
    return r ? r : ref_apart(op, "channel_add", &o->dst, &o->channel_add, false, err);
}

int ref_weight(const char *op, const struct weight *w, enum weight_kind kind, struct dr_error *err)
{
    static const char *const names[] = { "linear", "convolution", "norm", "table" };
    if (!w)
        return dr_fail(err, DR_EINVAL, "%s: no weight", op);
    if (weight_desc(w)->kind != kind)
        return dr_fail(err, DR_EINVAL, "%s: the weight is a %s, expected a %s", op,
                       names[weight_desc(w)->kind], names[kind]);
    return 0;
}

float ref_element(const struct weight_source *s, int64_t i)
{
    float f;
    ref_elements(&f, s, i, 1);
    return f;
}

void ref_elements(float *dst, const struct weight_source *s, int64_t first, int64_t count)
{
    int64_t row = 1;
    for (int i = 1; i < s->shape.n; i++)
        row *= s->shape.d[i];
    weight_row(s, first / row, first % row, count, dst);
}

static double gelu(double x)
{
    return 0.5 * x * (1.0 + dr_erf(x * 0.70710678118654752440));
}

int64_t ref_pixel_tiles(const struct op *op, int phase)
{
    (void)phase;
    return ref_ceil(op->dst.n * ref_pixels(&op->dst), ref_tile_pixels(op));
}

double ref_activate(enum activation act, double x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1.0 + dr_exp(-x));
    case ACT_GELU:
        return gelu(x);
    case ACT_QUICK_GELU:
        return x / (1.0 + dr_exp(-1.702 * x));
    case ACT_RELU:
        return x < 0 ? 0 : x; /* NaN stays NaN */
    case ACT_NONE:
    case ACT_GEGLU:
        break;
    }
    return x;
}

double ref_finish(const struct op_args *a, int64_t p, int64_t c, double sum, double gate)
{
    const struct op *op = a->op;
    const float *bias = a->weight ? a->weight->bias : NULL;
    if (bias)
        sum += bias[c];
    if (a->channel_add) {
        int64_t n = p / ref_pixels(&op->dst);
        sum = (double)(float)sum + ref_row(a->channel_add, &op->channel_add, n)[c];
    }
    if (op->activation == ACT_GEGLU)
        sum *= gelu(bias ? gate + bias[op->dst.c + c] : gate);
    else
        sum = ref_activate(op->activation, sum);
    if (a->residual)
        sum += ref_row(a->residual, &op->residual, p)[c];
    return sum;
}

void ref_multiply(double sums[REF_BLOCK][REF_BLOCK], const float *const x[REF_BLOCK],
                  const float *w, int64_t k)
{
    double s[REF_BLOCK][REF_BLOCK];
    for (int i = 0; i < REF_BLOCK; i++)
        for (int j = 0; j < REF_BLOCK; j++)
            s[i][j] = sums[i][j];
    for (int64_t t = 0; t < k; t++) {
        double column[REF_BLOCK];
        for (int j = 0; j < REF_BLOCK; j++)
            column[j] = w[t * REF_BLOCK + j];
        for (int i = 0; i < REF_BLOCK; i++)
            for (int j = 0; j < REF_BLOCK; j++)
                s[i][j] += x[i][t] * column[j];
    }
    for (int i = 0; i < REF_BLOCK; i++)
        for (int j = 0; j < REF_BLOCK; j++)
            sums[i][j] = s[i][j];
}
