/* lora_extract.c - see lora_extract.h. */
#include "quantize/lora_extract.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "models/adapters/truncated_svd.h"
#include "models/adapters/weight_delta.h"
#include "models/unet.h"
#include "quantize/lora_output.h"

/* A parameter of both models. */
struct extracted {
    enum component component;
    const char *name;
    struct shape shape;
    const struct param *base, *tuned;
};

struct extracting {
    const struct extract_how *how;
    struct arena names;
    struct extracted *list;
    size_t n, cap, at; /* at: the next one, while the second model is walked */
    enum component component;
    bool second;
    double held, all; /* sums of squares */
    int64_t least, most, layers, vectors;
    json_t *left_out;
    struct lora_output out;
    struct dr_error *err;
};

static int no_memory(const struct extracting *k)
{
    return dr_fail(k->err, DR_ENOMEM, "out of memory for a LoRA");
}

/* ---- the parameters of both ---- */

static int differ(const struct extracting *k, const char *name)
{
    return dr_fail_field(k->err, DR_EINVAL, "tuned", name, "the layers of the base",
                         "a LoRA leads from one model to another with the same layers");
}

static int add_param(struct extracting *k, struct param *p, const char *name,
                     const struct shape *shape)
{
    if (k->n == k->cap) {
        size_t cap = 2 * k->cap + 512;
        struct extracted *more = dr_realloc(DR_TAG_FILE, k->list, cap * sizeof *more);
        if (!more)
            return no_memory(k);
        k->list = more;
        k->cap = cap;
    }
    char *copy = arena_strdup(&k->names, name);
    if (!copy)
        return no_memory(k);
    k->list[k->n++] = (struct extracted){ k->component, copy, *shape, p, NULL };
    return 0;
}

static int walk_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct extracting *k = ctx;
    if (!k->second)
        return add_param(k, p, name, shape);
    struct extracted *e = k->at < k->n ? &k->list[k->at] : NULL;
    if (!e || e->component != k->component || strcmp(e->name, name) ||
        !shape_equal(&e->shape, shape))
        return differ(k, name);
    e->tuned = p;
    k->at++;
    return 0;
}

static int walk(struct extracting *k, const struct pipeline *p, bool second)
{
    const struct visitor v = { .param = walk_param, .ctx = k };
    int r = 0;
    k->second = second;
    for (int i = 0; !r && i < p->n_networks; i++) {
        k->component = p->networks[i].component;
        if (k->component != COMPONENT_VAE)
            r = p->networks[i].visit(p->networks[i].network, &v);
    }
    if (!r && second && k->at < k->n)
        r = differ(k, k->list[k->at].name);
    return r;
}

/* ---- differences ---- */

/* A slab at a time: the second values need no whole matrix of their own. */
static int subtract(const struct extracting *k, const struct extracted *e, int64_t rows,
                    int64_t cols, float *ret, double *ret_squares)
{
    float *row = dr_malloc(DR_TAG_FILE, (size_t)cols * sizeof *row);
    *ret_squares = 0;
    if (!row)
        return no_memory(k);
    for (int64_t i = 0; i < rows; i++) {
        float *to = ret + i * cols;
        delta_read_rows(&e->base->src, i, 1, cols, row);
        delta_read_rows(&e->tuned->src, i, 1, cols, to);
        for (int64_t j = 0; j < cols; j++) {
            to[j] -= row[j];
            *ret_squares += (double)to[j] * (double)to[j];
        }
    }
    dr_free(row);
    weight_source_release(&e->base->src);
    weight_source_release(&e->tuned->src);
    if (!isfinite(*ret_squares))
        return dr_fail(k->err, DR_EFORMAT, "%s: a value that is not finite", e->name);
    return 0;
}

/* Singular values that are kept: the fewest with that share of the squares. */
static int64_t kept_rank(const struct extracting *k, const struct truncated_svd *d, double squares)
{
    double sum = 0;
    for (int64_t i = 0; i < d->rank; i++) {
        if (k->how->energy > 0 && sum >= k->how->energy * squares)
            return i;
        sum += d->s[i] * d->s[i];
    }
    return d->rank;
}

static int put_pair(struct extracting *k, const struct extracted *e, const struct truncated_svd *d,
                    int64_t rank, int64_t rows, int64_t cols)
{
    bool dots = k->out.namer.spelling == SPELLING_DIFFUSERS;
    struct shape up = SHAPE2(rows, rank), down = e->shape;
    float *u = dr_malloc(DR_TAG_FILE, (size_t)(rows * rank) * sizeof *u);
    float *v = dr_malloc(DR_TAG_FILE, (size_t)(cols * rank) * sizeof *v);
    down.d[0] = rank;
    for (; up.n < down.n; up.n++)
        up.d[up.n] = 1;
    if (!u || !v) {
        dr_free(u);
        dr_free(v);
        return no_memory(k);
    }
    for (int64_t j = 0; j < rank; j++) {
        double root = sqrt(d->s[j]);
        for (int64_t i = 0; i < rows; i++)
            u[i * rank + j] = (float)(root * d->u[j * rows + i]);
        for (int64_t i = 0; i < cols; i++)
            v[j * cols + i] = (float)(root * d->v[j * cols + i]);
    }
    int r = lora_output_make(&k->out, e->component, e->name,
                             dots ? ".lora_B.weight" : ".lora_up.weight", &up, u, k->err);
    if (r)
        dr_free(v);
    else
        r = lora_output_make(&k->out, e->component, e->name,
                             dots ? ".lora_A.weight" : ".lora_down.weight", &down, v, k->err);
    if (!r && !dots)
        r = lora_output_number(&k->out, e->component, e->name, ".alpha", (double)rank, k->err);
    return r;
}

static int extract_matrix(struct extracting *k, const struct extracted *e, const float *difference,
                          int64_t rows, int64_t cols, double squares)
{
    struct truncated_svd d;
    int r = truncated_svd_matrix(difference, rows, cols, k->how->rank, k->how->stop, &d, k->err);
    if (r)
        return r;
    int64_t rank = kept_rank(k, &d, squares);
    for (int64_t i = 0; i < rank; i++)
        k->held += d.s[i] * d.s[i];
    k->all += squares;
    k->layers++;
    k->least = !k->least || rank < k->least ? rank : k->least;
    k->most = rank > k->most ? rank : k->most;
    if (rank)
        r = put_pair(k, e, &d, rank, rows, cols);
    truncated_svd_release(&d);
    return r;
}

/* Biases and norms; takes the values over. */
static int extract_vector(struct extracting *k, const struct extracted *e, float *difference)
{
    const char *dot = strrchr(e->name, '.');
    bool bias = dot && !strcmp(dot, ".bias");
    if (k->out.namer.spelling == SPELLING_DIFFUSERS) {
        dr_free(difference);
        return jx_add(k->left_out, json_string(e->name)) ? no_memory(k) : 0;
    }
    k->vectors++;
    return lora_output_make(&k->out, e->component, e->name, bias ? ".diff_b" : ".diff", &e->shape,
                            difference, k->err);
}

static int extract_param(struct extracting *k, const struct extracted *e)
{
    int64_t count = 0, rows = e->shape.d[0];
    double squares = 0;
    (void)shape_count(&e->shape, &count);
    float *difference = dr_malloc(DR_TAG_FILE, (size_t)count * sizeof *difference);
    int r = difference ? subtract(k, e, rows, count / rows, difference, &squares) : no_memory(k);
    bool table = strstr(e->name, "token_embedding") || strstr(e->name, "position_embedding");
    if (!r && squares > 0 && e->shape.n < 2)
        return extract_vector(k, e, difference);
    if (!r && squares > 0 && table)
        r = jx_add(k->left_out, json_string(e->name)) ? no_memory(k) : 0;
    else if (!r && squares > 0)
        r = extract_matrix(k, e, difference, rows, count / rows, squares);
    dr_free(difference);
    return r;
}

static int extract_all(struct extracting *k)
{
    int r = 0;
    for (size_t i = 0; !r && i < k->n; i++) {
        if (k->how->stop && atomic_load(k->how->stop))
            return dr_fail(k->err, DR_ECANCELED, "stopped");
        r = extract_param(k, &k->list[i]);
        if (k->how->progress)
            k->how->progress(k->how->ctx, (double)(i + 1) / (double)k->n);
    }
    return r;
}

/* ---- the whole ---- */

static void choose_names(struct extracting *k, const struct pipeline *base)
{
    int encoders = 0;
    for (int i = 0; i < base->n_networks; i++)
        encoders += base->networks[i].component == COMPONENT_TEXT_ENCODER ||
                    base->networks[i].component == COMPONENT_TEXT_ENCODER_2;
    k->out.type = k->how->type;
    k->out.namer.unet = unet_arch(base->unet);
    k->out.namer.one_encoder = encoders == 1 &&
                               checkpoint_has(base->checkpoint, COMPONENT_TEXT_ENCODER);
    k->out.namer.spelling = k->how->spelling_given     ? k->how->spelling
                            : k->out.namer.one_encoder ? SPELLING_KOHYA
                                                       : SPELLING_KOHYA_SINGLE;
}

static int answer(const struct extracting *k, json_t **ret)
{
    *ret = json_pack("{s:I,s:I,s:I,s:I,s:I,s:f,s:O}", "tensors", (json_int_t)k->out.n, "layers",
                     (json_int_t)k->layers, "vectors", (json_int_t)k->vectors, "rank_least",
                     (json_int_t)k->least, "rank_most", (json_int_t)k->most, "energy",
                     k->all > 0 ? k->held / k->all : 1.0, "left_out", k->left_out);
    return *ret ? 0 : no_memory(k);
}

int lora_extract(struct pipeline *base, struct pipeline *tuned, const struct extract_how *how,
                 int fd, json_t **ret, struct dr_error *err)
{
    static const struct st_metadata format = { "format", "pt" };
    struct extracting k = { .how = how, .err = err, .left_out = json_array() };
    arena_init(&k.names, DR_TAG_FILE, 64 << 10, 0);
    lora_output_init(&k.out);
    choose_names(&k, base);
    int r = k.left_out ? walk(&k, base, false) : no_memory(&k);
    if (!r)
        r = walk(&k, tuned, true);
    if (!r)
        r = extract_all(&k);
    if (!r && !k.out.n)
        r = dr_fail_field(err, DR_EINVAL, "tuned", checkpoint_path(tuned->checkpoint),
                          "a model that differs from the base", NULL);
    if (r)
        close(fd);
    else
        r = lora_output_write(&k.out, fd, how->path, &format, 1, how->stop, err);
    if (!r)
        r = checkpoint_check(base->checkpoint, err);
    if (!r)
        r = checkpoint_check(tuned->checkpoint, err);
    if (!r)
        r = answer(&k, ret);
    json_decref(k.left_out);
    dr_free(k.list);
    lora_output_release(&k.out);
    arena_free(&k.names);
    return r;
}
