/* emulation.c - see emulation.h. */
#include "quantize/emulation.h"

#include <string.h>

#include "backend/ops/int8.h"
#include "base/alloc.h"

bool trial_possible(const struct op *op)
{
    const struct weight_desc *d = op->weight ? weight_desc(op->weight) : NULL;
    if (!d || d->keep_f32 || (d->kind != WEIGHT_LINEAR && d->kind != WEIGHT_CONV))
        return false;
    return d->in * (d->kind == WEIGHT_CONV ? d->kernel * d->kernel : 1) <= INT8_SUM_MAX;
}

/* ---- the weight ---- */

/* The op's weight with its matrices in 8 bits; *ret_memory holds them as long as it lives. */
static int rounded_weight(struct exec *x, const struct weight *w, char **ret_memory,
                          struct weight **ret, struct dr_error *err)
{
    int n;
    const struct weight_desc *desc = weight_desc(w);
    const struct weight_source *given = weight_sources(w, &n);
    struct weight_source sources[WEIGHT_SOURCES];
    int64_t count = 0, each;
    for (int i = 0; i < desc->parts; i++)
        if (shape_count(&given[i].shape, &each))
            count += each;
    size_t scales = (size_t)desc->out * sizeof(float);
    char *memory = dr_malloc(DR_TAG_WEIGHTS, scales + (size_t)count);
    *ret_memory = memory;
    if (!memory)
        return dr_fail(err, DR_ENOMEM, "out of memory for a weight in 8 bits");
    float *scale = (float *)(void *)memory;
    int8_t *numbers = (int8_t *)memory + scales;
    memcpy(sources, given, (size_t)n * sizeof *sources);
    for (int i = 0; i < desc->parts; i++) {
        const struct weight_source *s = &given[i];
        sources[i].dtype = DTYPE_I8;
        sources[i].data = numbers;
        sources[i].scales = scale;
        sources[i].mapped = false;
        int r = int8_source(s, numbers, scale, x->stop, err);
        if (r)
            return r;
        shape_count(&s->shape, &each);
        numbers += each;
        scale += s->shape.d[0];
    }
    return weight_prepare(x->be, desc, sources, n, ret, err);
}

/* ---- the run ---- */

/* Memory of a trial: an exec on a workspace of its own, the rounded source and weight. */
struct trial {
    struct exec x;
    struct op op;
    float *src;
    char *memory;
    struct weight *weight;
};

static void trial_release(struct trial *t)
{
    weight_free(t->weight);
    dr_free(t->memory);
    dr_free(t->src);
    workspace_free(t->x.ws);
}

static size_t act_bytes(const struct act *a)
{
    return backend_align((size_t)(a->n * a->h * a->w * a->c) * sizeof(float));
}

/* The op with rounded source and weight; `results` more activations of dst's size will be made. */
static int trial_init(struct trial *t, struct exec *x, const struct op *op, int results,
                      struct dr_error *err)
{
    struct act src = op->src;
    memset(t, 0, sizeof *t);
    t->op = *op;
    t->x = (struct exec){ .be = x->be, .stop = x->stop };
    size_t bytes = act_bytes(&src) + (size_t)results * act_bytes(&op->dst) +
                   backend_align(backend_need(x->be, op).scratch);
    int r = workspace_new(x->be, bytes, &t->x.ws, err);
    if (!r)
        r = act_new(&t->x, DTYPE_F32, src.n, src.h, src.w, src.c, &t->op.src, err);
    if (r)
        return r;
    if (src.dtype != DTYPE_F32)
        return dr_fail(err, DR_EINVAL, "a trial in 8 bits of %s", dtype_name(src.dtype));
    t->src = dr_malloc(DR_TAG_ACTIVATION, act_bytes(&src));
    if (!t->src)
        return dr_fail(err, DR_ENOMEM, "out of memory for a source in 8 bits");
    r = act_read(x, src, t->src, err);
    int8_round_source(&t->op, t->src);
    if (!r)
        r = act_write(&t->x, t->op.src, t->src, err);
    if (!r)
        r = rounded_weight(x, op->weight, &t->memory, &t->weight, err);
    t->op.weight = t->weight;
    return r;
}

int trial_run(struct exec *x, const struct op *op, struct dr_error *err)
{
    struct trial t;
    int r = trial_init(&t, x, op, 0, err);
    if (!r)
        r = op_run(&t.x, &t.op, err);
    trial_release(&t);
    return r;
}

static int add_squares(struct exec *x, struct act plain, struct act rounded, double *difference,
                       double *result, struct dr_error *err)
{
    int64_t n = plain.n * plain.h * plain.w * plain.c;
    float *a = dr_malloc(DR_TAG_ACTIVATION, 2 * (size_t)n * sizeof *a), *b = a ? a + n : NULL;
    if (!a)
        return dr_fail(err, DR_ENOMEM, "out of memory to compare a layer's results");
    int r = act_read(x, plain, a, err);
    if (!r)
        r = act_read(x, rounded, b, err);
    for (int64_t i = 0; !r && i < n; i++) {
        double d = (double)b[i] - a[i];
        *difference += d * d;
        *result += (double)a[i] * a[i];
    }
    dr_free(a);
    return r;
}

int trial_measure(struct exec *x, const struct op *op, double *difference, double *result,
                  struct dr_error *err)
{
    struct trial t;
    struct op plain = *op;
    const struct act *d = &op->dst;
    int r = trial_init(&t, x, op, 2, err);
    memset(&plain.residual, 0, sizeof plain.residual);
    memset(&t.op.residual, 0, sizeof t.op.residual);
    if (!r)
        r = act_new(&t.x, DTYPE_F32, d->n, d->h, d->w, d->c, &plain.dst, err);
    if (!r)
        r = act_new(&t.x, DTYPE_F32, d->n, d->h, d->w, d->c, &t.op.dst, err);
    if (!r)
        r = op_run(&t.x, &plain, err);
    if (!r)
        r = op_run(&t.x, &t.op, err);
    if (!r)
        r = add_squares(&t.x, plain.dst, t.op.dst, difference, result, err);
    trial_release(&t);
    return r;
}
