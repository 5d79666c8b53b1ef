/* glora.c - value += strength alpha/rank (b1 b2 + value a1 a2).
 *
 * For a convolution `value a1 a2` is over the input channels, at each place of the kernel.
 * Reference: Chavan et al. 2023, One-for-All: Generalized LoRA; the two of its terms that LyCORIS
 * has (GLoRAModule).
 */
#include "models/adapters/weight_delta.h"

/* No tensor of the file: products have no middle. */
enum { NO_MIDDLE = DELTA_TENSORS - 1 };

static int check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    int64_t rank, rank_a = delta_dim(&d->tensor[GLORA_A2], 0);
    int r = delta_check_pair(d, GLORA_B1, GLORA_B2, NO_MIDDLE, false, shape, &rank, err);
    if (!r)
        r = delta_check_rank(d, GLORA_A2, rank_a, shape, err);
    if (r)
        return r;
    struct shape wanted = SHAPE2(shape->d[1], rank_a);
    r = delta_check_tensor(d, GLORA_A1, &wanted, err);
    wanted = SHAPE2(rank_a, shape->d[1]);
    return r ? r : delta_check_tensor(d, GLORA_A2, &wanted, err);
}

struct glora_run {
    const struct delta_target *t;
    struct delta_pair b;
    float *a1, *a2;       /* [in, rank], [rank, in] */
    const float *product; /* of b1 and b2, of the slab from row `first` on */
    int64_t first;
    double *inner; /* for each row of a slab [rank, kernel]: value a1 of a filter */
    int64_t in, rank, kernel;
    double factor;
};

/* filter [in, kernel] += factor (product + filter a1 a2). */
static void add_filter(const struct glora_run *a, float *filter, const float *product,
                       double *inner)
{
    int64_t in = a->in, kernel = a->kernel;
    for (int64_t j = 0; j < a->rank; j++)
        for (int64_t k = 0; k < kernel; k++) {
            double sum = 0;
            for (int64_t i = 0; i < in; i++)
                sum += (double)filter[i * kernel + k] * a->a1[i * a->rank + j];
            inner[j * kernel + k] = sum;
        }
    for (int64_t i = 0; i < in; i++)
        for (int64_t k = 0; k < kernel; k++) {
            double sum = product[i * kernel + k];
            for (int64_t j = 0; j < a->rank; j++)
                sum += inner[j * kernel + k] * a->a2[j * in + i];
            filter[i * kernel + k] = (float)(filter[i * kernel + k] + a->factor * sum);
        }
}

static void add_part(void *ctx, int64_t first, int64_t n)
{
    const struct glora_run *a = ctx;
    int64_t cols = a->t->cols;
    for (int64_t i = first; i < first + n; i++)
        add_filter(a, a->t->value + (a->first + i) * cols, a->product + i * cols,
                   a->inner + i * a->rank * a->kernel);
}

static int add_slab(void *ctx, int64_t first, int64_t n, struct dr_error *err)
{
    struct glora_run *a = ctx;
    int r = delta_pair_rows(&a->b, first, n, &a->product, err);
    a->first = first;
    return r ? r : delta_parts(a->t, n, a->t->cols * a->rank, add_part, a, err);
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    struct glora_run a = { .t = t,
                           .in = delta_dim(&d->tensor[GLORA_A1], 0),
                           .rank = delta_dim(&d->tensor[GLORA_A2], 0) };
    a.kernel = t->cols / a.in;
    a.factor = delta_factor(d, a.rank);
    a.a1 = delta_read(d, GLORA_A1, a.in, a.rank, err);
    a.a2 = a.a1 ? delta_read(d, GLORA_A2, a.rank, a.in, err) : NULL;
    a.inner = dr_malloc(DR_TAG_WEIGHTS,
                        (size_t)(delta_slab_rows(t) * a.rank * a.kernel) * sizeof *a.inner);
    int r = a.a2 && a.inner ? delta_pair_open(&a.b, d, t, GLORA_B1, GLORA_B2, NO_MIDDLE, false, err)
                            : dr_fail(err, DR_ENOMEM, "out of memory for rows of %s", d->param);
    if (!r)
        r = delta_slabs(t, add_slab, &a, err);
    delta_pair_close(&a.b);
    dr_free(a.a1);
    dr_free(a.a2);
    dr_free(a.inner);
    return r;
}

const struct delta_kind delta_kind_glora = {
    .name = "glora",
    .needs = { { 1 << GLORA_A1 | 1 << GLORA_A2 | 1 << GLORA_B1 | 1 << GLORA_B2, 0 } },
    .check = check,
    .apply = apply,
};
