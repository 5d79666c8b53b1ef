/* lora_combine.c - see lora_combine.h. */
#include "quantize/lora_combine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "models/adapters/lora_survey.h"
#include "models/adapters/truncated_svd.h"
#include "quantize/lora_output.h"

struct lora_share { /* of a file in one parameter */
    const struct weight_delta *delta;
    enum component component;
    double strength;
};

struct combining {
    const struct combine_item *items;
    const struct combine_how *how;
    int n;
    struct lora_survey file[COMBINE_LORAS];
    struct lora_share *shares;
    size_t n_shares;
    int64_t least, most; /* ranks that were written */
    struct lora_output out;
    struct dr_error *err;
};

static int no_memory(const struct combining *k)
{
    return dr_fail(k->err, DR_ENOMEM, "out of memory for LoRAs");
}

static bool dots(const struct combining *k)
{
    return k->out.namer.spelling == SPELLING_DIFFUSERS;
}

/* ---- reading ---- */

/* Refuses what would be lost. */
static int check_file(const struct combining *k, int i)
{
    const struct lora_survey *s = &k->file[i];
    size_t unused = 0;
    const char *path = k->items[i].path;
    if (*s->problem)
        return dr_fail(k->err, DR_EFORMAT, "%s", s->problem);
    (void)lora_file_used(s->file, &unused);
    if (unused)
        return dr_fail_field(k->err, DR_EINVAL, path, lora_file_unused(s->file, 0),
                             "tensors of a LoRA only",
                             "no layer of the models that are known has it, so it would be lost");
    if (s->best < 0)
        return dr_fail_field(k->err, DR_EINVAL, path, "layers of other widths",
                             "a LoRA for SDXL, its refiner, or Stable Diffusion 1.x or 2.x", NULL);
    if (s->best != k->file[0].best)
        return dr_fail_field(k->err, DR_EINVAL, path, s->family[s->best].name,
                             k->file[0].family[k->file[0].best].name,
                             "LoRAs for different families cannot be one");
    return 0;
}

static int add_shares(struct combining *k, int i)
{
    int r = 0;
    for (int c = 0; c < COMPONENT_COUNT; c++) {
        const struct weight_delta *deltas;
        size_t n = lora_file_deltas(k->file[i].file, (enum component)c, &deltas);
        struct lora_share *more = dr_realloc(DR_TAG_FILE, k->shares,
                                             (k->n_shares + n + 1) * sizeof *more);
        if (!more)
            return no_memory(k);
        k->shares = more;
        for (size_t d = 0; d < n; d++)
            k->shares[k->n_shares++] = (struct lora_share){
                .delta = &deltas[d],
                .component = (enum component)c,
                .strength = c == COMPONENT_UNET ? k->items[i].strength : k->items[i].text_strength
            };
    }
    return r;
}

static int by_param(const void *a, const void *b)
{
    const struct lora_share *x = a, *y = b;
    int order = (int)x->component - (int)y->component;
    if (!order)
        order = strcmp(x->delta->param, y->delta->param);
    return order ? order : (x->delta > y->delta) - (x->delta < y->delta);
}

static int open_all(struct combining *k)
{
    bool one;
    int r = 0;
    for (int i = 0; !r && i < k->n; i++) {
        r = lora_survey_open(k->items[i].root, k->items[i].path, true, k->how->stop, &k->file[i],
                             k->err);
        if (!r)
            r = check_file(k, i);
        if (!r)
            r = add_shares(k, i);
    }
    if (r)
        return r;
    qsort(k->shares, k->n_shares, sizeof *k->shares, by_param);
    k->out.namer.unet = lora_survey_unet(&k->file[0], &one);
    k->out.namer.one_encoder = one;
    k->out.namer.spelling = k->how->spelling_given ? k->how->spelling
                            : one                  ? SPELLING_KOHYA
                                                   : SPELLING_KOHYA_SINGLE;
    k->out.type = k->how->type;
    return 0;
}

static void close_all(struct combining *k)
{
    for (int i = 0; i < k->n; i++)
        lora_survey_close(&k->file[i]);
    dr_free(k->shares);
    lora_output_release(&k->out);
}

/* ---- products ---- */

static int64_t rank_of(const struct weight_delta *d)
{
    return delta_dim(&d->tensor[LOW_RANK_DOWN], 0);
}

static int check_product(const struct combining *k, const struct weight_delta *d)
{
    if (d->kind == &delta_kind_low_rank && !delta_has(d, LOW_RANK_MID))
        return 0;
    return dr_fail(k->err, DR_EUNSUPPORTED,
                   "%s: a change of kind %s is no product of two matrices; such a file can be "
                   "merged into a model (lora merge -m MODEL)",
                   d->param, lora_survey_kind(d));
}

static bool has_count(const struct weight_source *source, int64_t wanted)
{
    int64_t count;
    return shape_count(&source->shape, &count) && count == wanted;
}

static int fail_shapes(const struct combining *k, const struct weight_delta *d)
{
    return dr_fail(k->err, DR_EFORMAT, "%s: its tensors do not fit each other's shapes", d->param);
}

/* Of all shares: up [inner, rows] and down [inner, cols], rows being vectors. */
struct stacked {
    int64_t inner, rows, cols;
    double *up, *down;
};

static int read_share(const struct combining *k, const struct lora_share *s, struct stacked *p,
                      int64_t at)
{
    int64_t rank = rank_of(s->delta), rows = p->rows, cols = p->cols;
    if (!has_count(&s->delta->tensor[LOW_RANK_UP], rows * rank) ||
        !has_count(&s->delta->tensor[LOW_RANK_DOWN], rank * cols))
        return fail_shapes(k, s->delta);
    float *up = dr_malloc(DR_TAG_FILE, (size_t)(rows * rank) * sizeof *up);
    float *down = dr_malloc(DR_TAG_FILE, (size_t)(cols * rank) * sizeof *down);
    int r = up && down ? 0 : no_memory(k);
    struct weight_delta d = *s->delta;
    d.strength = s->strength;
    double factor = delta_factor(&d, rank);
    if (!r) {
        delta_read_rows(&d.tensor[LOW_RANK_UP], 0, rows, rank, up);
        delta_read_rows(&d.tensor[LOW_RANK_DOWN], 0, rank, cols, down);
        for (int64_t j = 0; j < rank; j++)
            for (int64_t i = 0; i < rows; i++)
                p->up[(at + j) * rows + i] = factor * (double)up[i * rank + j];
        for (int64_t i = 0; i < rank * cols; i++)
            p->down[at * cols + i] = down[i];
    }
    dr_free(up);
    dr_free(down);
    return r;
}

static int stack(const struct combining *k, const struct lora_share *first, size_t n,
                 struct stacked *p)
{
    int64_t count = 0;
    int r = 0;
    for (size_t i = 0; !r && i < n; i++) {
        r = check_product(k, first[i].delta);
        p->inner += r ? 0 : rank_of(first[i].delta);
    }
    if (r)
        return r;
    const struct weight_source *down = &first->delta->tensor[LOW_RANK_DOWN];
    (void)shape_count(&down->shape, &count);
    p->rows = delta_dim(&first->delta->tensor[LOW_RANK_UP], 0);
    p->cols = count / rank_of(first->delta);
    p->up = dr_malloc(DR_TAG_FILE, (size_t)(p->inner * p->rows) * sizeof *p->up);
    p->down = dr_malloc(DR_TAG_FILE, (size_t)(p->inner * p->cols) * sizeof *p->down);
    if (!p->up || !p->down)
        return no_memory(k);
    for (size_t i = 0, at = 0; !r && i < n; at += (size_t)rank_of(first[i].delta), i++)
        r = read_share(k, &first[i], p, (int64_t)at);
    return r;
}

/* Replaces the product by the best one of the rank that is wanted; one of the matrix's full rank,
 * which loses nothing, where the ranks add up to more than that. */
static int reduce(const struct combining *k, struct stacked *p)
{
    struct truncated_svd d;
    int64_t full = p->rows < p->cols ? p->rows : p->cols;
    int64_t rank = k->how->rank && k->how->rank < full ? k->how->rank : full;
    if (rank >= p->inner)
        return 0;
    int r = truncated_svd_product(p->up, p->down, p->inner, p->rows, p->cols, rank, k->how->stop,
                                  &d, k->err);
    if (r)
        return r;
    p->inner = d.rank;
    for (int64_t j = 0; j < d.rank; j++) {
        double root = sqrt(d.s[j]);
        for (int64_t i = 0; i < p->rows; i++)
            p->up[j * p->rows + i] = root * d.u[j * p->rows + i];
        for (int64_t i = 0; i < p->cols; i++)
            p->down[j * p->cols + i] = root * d.v[j * p->cols + i];
    }
    truncated_svd_release(&d);
    return 0;
}

static int put_product(struct combining *k, const struct lora_share *s, const struct stacked *p)
{
    const struct weight_delta *d = s->delta;
    struct shape up = SHAPE2(p->rows, p->inner), down = d->tensor[LOW_RANK_DOWN].shape;
    float *u = dr_malloc(DR_TAG_FILE, (size_t)(p->rows * p->inner) * sizeof *u);
    float *v = dr_malloc(DR_TAG_FILE, (size_t)(p->cols * p->inner) * sizeof *v);
    if (!u || !v) {
        dr_free(u);
        dr_free(v);
        return no_memory(k);
    }
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t j = 0; j < p->inner; j++)
            u[i * p->inner + j] = (float)p->up[j * p->rows + i];
    for (int64_t i = 0; i < p->inner * p->cols; i++)
        v[i] = (float)p->down[i];
    down.d[0] = p->inner;
    for (; up.n < down.n; up.n++)
        up.d[up.n] = 1;
    int r = lora_output_make(&k->out, s->component, d->param,
                             dots(k) ? ".lora_B.weight" : ".lora_up.weight", &up, u, k->err);
    if (r)
        dr_free(v);
    else
        r = lora_output_make(&k->out, s->component, d->param,
                             dots(k) ? ".lora_A.weight" : ".lora_down.weight", &down, v, k->err);
    if (!r && !dots(k))
        r = lora_output_number(&k->out, s->component, d->param, ".alpha", (double)p->inner, k->err);
    k->least = !k->least || p->inner < k->least ? p->inner : k->least;
    k->most = p->inner > k->most ? p->inner : k->most;
    return r;
}

static int combine_product(struct combining *k, const struct lora_share *first, size_t n)
{
    struct stacked p = { .inner = 0 };
    int r = stack(k, first, n, &p);
    if (!r)
        r = reduce(k, &p);
    if (!r && p.inner)
        r = put_product(k, first, &p);
    dr_free(p.up);
    dr_free(p.down);
    return r;
}

/* ---- differences ---- */

static int combine_difference(struct combining *k, const struct lora_share *first, size_t n)
{
    const struct weight_delta *d = first->delta;
    const struct weight_source *source = &d->tensor[DIFFERENCE];
    const char *dot = strrchr(d->param, '.');
    int64_t count = 0;
    (void)shape_count(&source->shape, &count);
    float *sum = dr_calloc(DR_TAG_FILE, (size_t)count + 1, sizeof *sum);
    float *one = dr_malloc(DR_TAG_FILE, (size_t)count * sizeof *one);
    int r = sum && one ? 0 : no_memory(k);
    for (size_t i = 0; !r && i < n; i++) {
        if (first[i].delta->kind != &delta_kind_difference) {
            r = check_product(k, first[i].delta);
            r = r ? r
                  : dr_fail(k->err, DR_EUNSUPPORTED,
                            "%s: a difference and a product of one "
                            "layer cannot be one; merge them into a model",
                            d->param);
            break;
        }
        if (!has_count(&first[i].delta->tensor[DIFFERENCE], count)) {
            r = fail_shapes(k, d);
            break;
        }
        delta_read_rows(&first[i].delta->tensor[DIFFERENCE], 0, 1, count, one);
        for (int64_t e = 0; e < count; e++)
            sum[e] = (float)(sum[e] + first[i].strength * one[e]);
    }
    if (!r && dots(k))
        r = dr_fail(k->err, DR_EUNSUPPORTED, "%s: names of diffusers have no differences",
                    d->param);
    dr_free(one);
    if (r)
        dr_free(sum);
    else
        r = lora_output_make(&k->out, first->component, d->param,
                             dot && !strcmp(dot, ".bias") ? ".diff_b" : ".diff", &source->shape,
                             sum, k->err);
    return r;
}

static int combine_all(struct combining *k)
{
    int r = 0;
    for (size_t first = 0, end; !r && first < k->n_shares; first = end) {
        const struct lora_share *s = &k->shares[first];
        end = first + 1;
        while (end < k->n_shares && k->shares[end].component == s->component &&
               !strcmp(k->shares[end].delta->param, s->delta->param))
            end++;
        if (k->how->stop && atomic_load(k->how->stop))
            return dr_fail(k->err, DR_ECANCELED, "stopped");
        r = s->delta->kind == &delta_kind_difference ? combine_difference(k, s, end - first)
                                                     : combine_product(k, s, end - first);
    }
    return r;
}

/* ---- other names ---- */

/* Names of diffusers: the factor goes into one side. */
static int respell_product(struct combining *k, const struct lora_share *s)
{
    const struct weight_delta *d = s->delta;
    const struct weight_source *up = &d->tensor[LOW_RANK_UP];
    double factor = delta_factor(d, rank_of(d));
    int64_t count = 0;
    int r = check_product(k, d);
    if (!r)
        r = lora_output_copy(&k->out, s->component, d->param, ".lora_A.weight",
                             &d->tensor[LOW_RANK_DOWN], k->err);
    if (r)
        return r;
    if (factor == 1)
        return lora_output_copy(&k->out, s->component, d->param, ".lora_B.weight", up, k->err);
    (void)shape_count(&up->shape, &count);
    float *values = dr_malloc(DR_TAG_FILE, (size_t)count * sizeof *values);
    if (!values)
        return no_memory(k);
    delta_read_rows(up, 0, 1, count, values);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(factor * values[i]);
    bool kept = up->dtype == DTYPE_F16 || up->dtype == DTYPE_BF16;
    k->out.type = kept ? up->dtype : DTYPE_F32;
    return lora_output_make(&k->out, s->component, d->param, ".lora_B.weight", &up->shape, values,
                            k->err);
}

/* The numbers beside a change's tensors. */
static int respell_notes(struct combining *k, const struct lora_share *s)
{
    const struct weight_delta *d = s->delta;
    struct weight_source magnitude = d->tensor[DORA_MAGNITUDE];
    int r = 0;
    bool scaled = d->kind != &delta_kind_difference && d->kind != &delta_kind_replacement;
    if (d->alpha != 0 && scaled)
        r = lora_output_number(&k->out, s->component, d->param, ".alpha", d->alpha, k->err);
    if (!r && d->kind == &delta_kind_ia3)
        r = lora_output_number(&k->out, s->component, d->param, ".on_input", delta_has(d, IA3_IN),
                               k->err);
    if (r || d->kind != &delta_kind_dora)
        return r;
    if (magnitude.shape.n == 1) /* peft's, by rows */
        magnitude.shape = SHAPE2(magnitude.shape.d[0], 1);
    return lora_output_copy(&k->out, s->component, d->param, ".dora_scale", &magnitude, k->err);
}

/* Names of kohya: all kinds have the endings that they have there. */
static int respell_kohya(struct combining *k, const struct lora_share *s)
{
    const struct weight_delta *d = s->delta;
    const struct delta_kind *kind = d->inner ? d->inner : d->kind;
    const char *dot = strrchr(d->param, '.');
    bool bias = dot && !strcmp(dot, ".bias");
    int r = 0;
    for (int i = 0; !r && i < DELTA_TENSORS; i++) {
        if (!delta_has(d, i) || (d->kind == &delta_kind_dora && i == DORA_MAGNITUDE))
            continue;
        const char *ending = kind == &delta_kind_boft  ? adapter_ending_of(&delta_kind_oft, i)
                             : kind == &delta_kind_ia3 ? ".weight"
                             : kind == &delta_kind_difference ? (bias ? ".diff_b" : ".diff")
                             : kind == &delta_kind_replacement && bias ? ".set_bias"
                                                                       : adapter_ending_of(kind, i);
        r = lora_output_copy(&k->out, s->component, d->param, ending, &d->tensor[i], k->err);
    }
    return r ? r : respell_notes(k, s);
}

static int respell_all(struct combining *k)
{
    int r = 0;
    for (size_t i = 0; !r && i < k->n_shares; i++)
        r = dots(k) ? respell_product(k, &k->shares[i]) : respell_kohya(k, &k->shares[i]);
    return r;
}

/* ---- the whole ---- */

static int write_file(struct combining *k, int fd, bool keep, const struct st_header *h)
{
    struct st_metadata *m = dr_malloc(DR_TAG_FILE, (h->n_metadata + 2) * sizeof *m);
    size_t n = 0;
    if (!m) {
        close(fd);
        return no_memory(k);
    }
    for (size_t i = 0; keep && i < h->n_metadata; i++)
        if (strcmp(h->metadata[i].key, "lora_adapter_metadata") &&
            strcmp(h->metadata[i].key, "format"))
            m[n++] = h->metadata[i];
    m[n++] = (struct st_metadata){ "format", "pt" };
    int r = lora_output_write(&k->out, fd, k->how->path, m, n, k->how->stop, k->err);
    dr_free(m);
    for (int i = 0; !r && i < k->n; i++)
        r = lora_file_check(k->file[i].file, k->err);
    return r;
}

static int answer(const struct combining *k, json_t **ret)
{
    json_t *o = json_object();
    int r = jx_set(o, "tensors", json_integer((json_int_t)k->out.n));
    if (!r && k->most)
        r = jx_set(o, "rank_least", json_integer(k->least));
    if (!r && k->most)
        r = jx_set(o, "rank_most", json_integer(k->most));
    if (!r)
        r = jx_set(o, "fits", json_string(k->file[0].family[k->file[0].best].name));
    if (r)
        json_decref(o);
    else
        *ret = o;
    return r ? no_memory(k) : 0;
}

static int run(const struct combine_item *items, int n, const struct combine_how *how, bool names,
               int fd, json_t **ret, struct dr_error *err)
{
    struct combining k = { .items = items, .how = how, .n = n, .err = err };
    lora_output_init(&k.out);
    int r = open_all(&k);
    if (!r)
        r = names ? respell_all(&k) : combine_all(&k);
    if (r)
        close(fd);
    else
        r = write_file(&k, fd, names, lora_file_header(k.file[0].file));
    if (!r)
        r = answer(&k, ret);
    close_all(&k);
    return r;
}

int lora_combine(const struct combine_item *items, int n, const struct combine_how *how, int fd,
                 json_t **ret, struct dr_error *err)
{
    return run(items, n, how, false, fd, ret, err);
}

int lora_respell(const struct combine_item *item, const struct combine_how *how, int fd,
                 json_t **ret, struct dr_error *err)
{
    return run(item, 1, how, true, fd, ret, err);
}
