/* weight_variant.c - see weight_variant.h.
 *
 * The same walk over the parameters runs twice: once to check and to measure, once to compute. A
 * layer's parameters come before the layer, so those that change are gathered until it comes. All
 * values that stay lie in one block, which may be of large pages: for a set that changes gigabytes,
 * clearing small ones would take as long as the sums. Values that are packed and dropped share one
 * place for the largest layer.
 */
#include "models/adapters/weight_variant.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { SOURCES = 2 * LAYER_PARTS, ALIGN = 64 / sizeof(float) };

struct touched {
    const struct layer *layer;
    struct weight *weight;
};

struct weight_variant {
    const void *network;
    uint64_t serial; /* of no other variant in this process */
    struct variant_facts facts;
    float *values; /* that the weights read, all layers'; NULL: none */
    size_t n;
    struct touched *layers; /* [facts.layers], n filled; by address when all are */
};

/* A delta that changes something. */
struct ordered {
    const struct weight_delta *delta;
    size_t given; /* its place in the spec */
    bool seen;    /* the network has its parameter */
};

struct changed {
    const struct param *param;
    struct shape shape;
    size_t floats;     /* with what comes between two parameters */
    size_t first, end; /* its deltas in the order */
    float *value;      /* NULL while checking, and under plan */
};

struct variant_walk {
    const struct variant_spec *spec;
    struct ordered *order; /* [n], the deltas of a parameter together */
    size_t n;
    struct variant_facts facts;
    size_t kept, largest;         /* floats of all values that stay; of a layer whose do not */
    struct weight_variant *build; /* NULL: only checks */
    float *dropped;               /* [largest] */
    struct delta_room room;
    struct changed changed[SOURCES];
    int n_changed;
    struct dr_error *err;
};

/* ---- the order and the key ---- */

static int by_param(const void *a, const void *b)
{
    const struct ordered *x = a, *y = b;
    int order = strcmp(x->delta->param, y->delta->param);
    return order ? order : (x->given > y->given) - (x->given < y->given);
}

static int by_content(const void *a, const void *b)
{
    const struct weight_delta *x = ((const struct ordered *)a)->delta,
                              *y = ((const struct ordered *)b)->delta;
    int order = memcmp(x->identity, y->identity, sizeof x->identity);
    if (!order)
        order = strcmp(x->kind->name, y->kind->name);
    if (!order)
        order = (x->strength > y->strength) - (x->strength < y->strength);
    return order ? order : (x->alpha > y->alpha) - (x->alpha < y->alpha);
}

/* Where the deltas of the first's parameter end. */
static size_t group_end(const struct variant_walk *w, size_t first)
{
    size_t end = first + 1;
    while (end < w->n && !strcmp(w->order[end].delta->param, w->order[first].delta->param))
        end++;
    return end;
}

static void put_in_order(struct variant_walk *w)
{
    qsort(w->order, w->n, sizeof *w->order, by_param);
    for (size_t first = 0, end; first < w->n; first = end) {
        bool adds = true;
        end = group_end(w, first);
        for (size_t i = first; i < end; i++)
            adds = adds && w->order[i].delta->kind->adds;
        if (adds)
            qsort(w->order + first, end - first, sizeof *w->order, by_content);
    }
}

static int hash_delta(struct sha256 *s, const struct weight_delta *d)
{
    int r = sha256_update(s, d->param, strlen(d->param) + 1);
    if (!r)
        r = sha256_update(s, d->kind->name, strlen(d->kind->name) + 1);
    if (!r)
        r = sha256_update(s, d->identity, sizeof d->identity);
    if (!r)
        r = sha256_update(s, &d->strength, sizeof d->strength);
    return r ? r : sha256_update(s, &d->alpha, sizeof d->alpha);
}

static int make_key(struct variant_walk *w)
{
    struct sha256 *s = sha256_new();
    int r = s ? 0 : DR_ENOMEM;
    for (size_t i = 0; !r && i < w->n; i++)
        r = hash_delta(s, w->order[i].delta);
    if (!r)
        r = sha256_finish(s, w->facts.key);
    sha256_free(s);
    return r ? dr_fail(w->err, r, "the digest of an adapter: %s", dr_code_meaning(r)) : 0;
}

static int walk_init(struct variant_walk *w, const struct variant_spec *spec, struct dr_error *err)
{
    *w = (struct variant_walk){ .spec = spec, .err = err };
    w->order = dr_calloc(DR_TAG_MODEL, spec->n + 1, sizeof *w->order);
    if (!w->order)
        return dr_fail(err, DR_ENOMEM, "out of memory for %zu changes of weights", spec->n);
    for (size_t i = 0; i < spec->n; i++) {
        const struct weight_delta *d = spec->deltas[i];
        if (!isfinite(d->strength) || !isfinite(d->alpha))
            return dr_fail_field(err, DR_EINVAL, d->param, "a strength or alpha that is not finite",
                                 "a number", NULL);
        if (d->strength != 0)
            w->order[w->n++] = (struct ordered){ .delta = d, .given = i };
    }
    put_in_order(w);
    return make_key(w);
}

static void walk_release(struct variant_walk *w)
{
    delta_room_release(&w->room);
    dr_free(w->dropped);
    dr_free(w->order);
}

/* ---- parameters ---- */

static int by_name(const void *name, const void *ordered)
{
    return strcmp(name, ((const struct ordered *)ordered)->delta->param);
}

/* The first delta of a parameter, or NULL. */
static struct ordered *find_deltas(const struct variant_walk *w, const char *name)
{
    struct ordered *o = w->n ? bsearch(name, w->order, w->n, sizeof *o, by_name) : NULL;
    while (o && o > w->order && !strcmp(o[-1].delta->param, name))
        o--;
    return o;
}

struct base_run {
    const struct delta_target *t;
    const struct weight_source *base;
};

static void read_part(void *ctx, int64_t first, int64_t n)
{
    const struct base_run *b = ctx;
    delta_read_rows(b->base, first, n, b->t->cols, b->t->value + first * b->t->cols);
}

static int compute(struct variant_walk *w, const struct changed *c)
{
    int64_t count, rows = c->shape.d[0];
    shape_count(&c->shape, &count);
    const struct delta_target t = { .be = w->spec->be,
                                    .stop = w->spec->stop,
                                    .room = &w->room,
                                    .rows = rows,
                                    .cols = count / rows,
                                    .value = c->value };
    struct base_run base = { &t, &c->param->src };
    int r = delta_parts(&t, t.rows, t.cols, read_part, &base, w->err);
    for (size_t i = c->first; !r && i < c->end; i++)
        r = w->order[i].delta->kind->apply(w->order[i].delta, &t, w->err);
    return r ? dr_while(w->err, r, "changing %s", w->order[c->first].delta->param) : 0;
}

static int check_deltas(const struct variant_walk *w, const struct param *p, size_t first,
                        size_t end, const struct shape *shape, const char *name)
{
    int r = 0;
    if (!p->src.data && !backend_is_plan(w->spec->be))
        return dr_fail(w->err, DR_ESTATE, "%s has no weights loaded", name);
    for (size_t i = first; !r && i < end; i++) {
        w->order[i].seen = true;
        r = w->order[i].delta->kind->check(w->order[i].delta, shape, w->err);
    }
    return r;
}

static int walk_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct variant_walk *w = ctx;
    struct ordered *o = find_deltas(w, name);
    int64_t count;
    if (!o)
        return 0;
    size_t first = (size_t)(o - w->order), end = group_end(w, first);
    struct changed *c = &w->changed[w->n_changed];
    int r = check_deltas(w, p, first, end, shape, name);
    if (r || !shape_count(shape, &count))
        return r ? r : DR_ELIMIT;
    *c = (struct changed){ .param = p,
                           .shape = *shape,
                           .floats = ((size_t)count + ALIGN - 1) / ALIGN * ALIGN,
                           .first = first,
                           .end = end };
    w->n_changed++;
    return 0;
}

/* ---- layers ---- */

/* What the layer's weight is made of: changed parameters, else the base's own. */
static int gather(const struct variant_walk *w, const struct layer *l,
                  struct weight_source ret[SOURCES])
{
    const struct param *params[SOURCES];
    int n = 0;
    for (int i = 0; i < l->desc.parts; i++)
        params[n++] = &l->weight[i];
    for (int i = 0; l->desc.bias && i < l->desc.parts; i++)
        params[n++] = &l->bias[i];
    for (int i = 0; i < n; i++) {
        ret[i] = params[i]->src;
        for (int k = 0; k < w->n_changed; k++)
            if (w->changed[k].param == params[i])
                ret[i] = (struct weight_source){ .name = params[i]->src.name,
                                                 .data = w->changed[k].value,
                                                 .dtype = DTYPE_F32,
                                                 .shape = w->changed[k].shape };
    }
    return n;
}

/* Whether the layer's changed values are needed no more when its weight is made; counts what stays
 * and what does not. */
static bool drops_values(struct variant_walk *w, const struct layer *l,
                         const struct weight_source *sources)
{
    struct weight_desc desc = l->desc;
    size_t floats = 0;
    desc.int8 = weight_is_int8(&desc, sources);
    struct weight_bytes made = weight_bytes(w->spec->be, &desc);
    for (int i = 0; i < w->n_changed; i++)
        floats += w->changed[i].floats;
    w->facts.layers++;
    w->facts.bytes += made.vectors + made.packed;
    if (made.packed) {
        w->largest = floats > w->largest ? floats : w->largest;
        return true;
    }
    w->facts.bytes += floats * sizeof(float);
    w->kept += floats;
    return false;
}

/* Into memory at `to`. */
static int change(struct variant_walk *w, float *to)
{
    int r = 0;
    for (int i = 0; !r && i < w->n_changed; i++) {
        w->changed[i].value = to;
        to += w->changed[i].floats;
        r = compute(w, &w->changed[i]);
    }
    return r;
}

/* `at`: where its values begin among those that stay. */
static int build_layer(struct variant_walk *w, struct layer *l, const char *name, size_t at,
                       bool drops)
{
    struct weight_source sources[SOURCES];
    struct touched t = { .layer = l };
    int r = 0;
    if (!backend_is_plan(w->spec->be))
        r = change(w, drops ? w->dropped : w->build->values + at);
    if (r)
        return r;
    int n = gather(w, l, sources);
    r = weight_prepare(w->spec->be, &l->desc, sources, n, &t.weight, w->err);
    if (r)
        return dr_while(w->err, r, "preparing the changed layer '%s'", name);
    for (int i = 0; drops && i < w->n_changed; i++)
        weight_source_release(&w->changed[i].param->src);
    w->build->layers[w->build->n++] = t;
    return 0;
}

static int walk_layer(void *ctx, struct layer *l, const char *name)
{
    struct variant_walk *w = ctx;
    struct weight_source sources[SOURCES];
    int r = 0;
    if (!w->n_changed)
        return 0;
    gather(w, l, sources);
    size_t at = w->kept;
    bool drops = drops_values(w, l, sources);
    if (w->build)
        r = build_layer(w, l, name, at, drops);
    w->n_changed = 0;
    return r;
}

/* ---- the whole ---- */

static int walk_network(struct variant_walk *w)
{
    struct visitor v = { .param = walk_param, .layer = walk_layer, .ctx = w };
    int r = w->spec->visit(w->spec->network, &v);
    for (size_t i = 0; !r && i < w->n; i++)
        if (!w->order[i].seen)
            r = dr_fail_field(w->err, DR_EINVAL, w->order[i].delta->param, "an adapter for it",
                              "a parameter of the network", NULL);
    return r;
}

int weight_variant_check(const struct variant_spec *spec, struct variant_facts *ret,
                         struct dr_error *err)
{
    struct variant_walk w;
    int r = walk_init(&w, spec, err);
    if (!r)
        r = walk_network(&w);
    *ret = w.facts;
    walk_release(&w);
    return r;
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct touched *)a)->layer,
              y = (uintptr_t)((const struct touched *)b)->layer;
    return (x > y) - (x < y);
}

/* Memory for what the walk has measured, that of the values over old ones. */
static int make_place(struct variant_walk *w, struct weight_variant *v, float *old)
{
    bool plan = backend_is_plan(w->spec->be);
    v->layers = dr_calloc(DR_TAG_MODEL, v->facts.layers, sizeof *v->layers);
    if (w->kept && !plan)
        v->values = dr_malloc_over(DR_TAG_WEIGHTS, w->kept * sizeof(float), old);
    else
        dr_free(old);
    if (w->largest && !plan)
        w->dropped = dr_malloc(DR_TAG_WEIGHTS, w->largest * sizeof(float));
    return v->layers && (plan || ((v->values || !w->kept) && (w->dropped || !w->largest)))
               ? 0
               : dr_fail(w->err, DR_ENOMEM, "out of memory for %zu changed layers of %zu bytes",
                         v->facts.layers, v->facts.bytes);
}

/* The second walk. */
static int build(struct variant_walk *w, struct weight_variant *v, float *old)
{
    static atomic_ullong opened;
    v->network = w->spec->network;
    v->serial = atomic_fetch_add(&opened, 1) + 1;
    v->facts = w->facts;
    int r = make_place(w, v, old);
    w->build = v;
    w->kept = 0;
    if (!r)
        r = walk_network(w);
    if (v->n)
        qsort(v->layers, v->n, sizeof *v->layers, by_address);
    return r;
}

static float *close_but_values(struct weight_variant *v)
{
    float *values = v ? v->values : NULL;
    for (size_t i = 0; v && i < v->n; i++)
        weight_free(v->layers[i].weight);
    if (v)
        dr_free(v->layers);
    dr_free(v);
    return values;
}

void weight_variant_close(struct weight_variant *v)
{
    dr_free(close_but_values(v));
}

int weight_variant_open_over(const struct variant_spec *spec, struct weight_variant *old,
                             struct weight_variant **ret, struct dr_error *err)
{
    struct variant_walk w;
    struct weight_variant *v = NULL;
    float *values = close_but_values(old);
    int r = walk_init(&w, spec, err);
    if (!r)
        r = walk_network(&w);
    if (!r && w.facts.layers && !(v = dr_calloc(DR_TAG_MODEL, 1, sizeof *v)))
        r = dr_fail(err, DR_ENOMEM, "out of memory for a variant of the weights");
    if (v)
        r = build(&w, v, values);
    else
        dr_free(values);
    walk_release(&w);
    if (r)
        weight_variant_close(v);
    else
        *ret = v;
    return r;
}

int weight_variant_open(const struct variant_spec *spec, struct weight_variant **ret,
                        struct dr_error *err)
{
    return weight_variant_open_over(spec, NULL, ret, err);
}

const struct variant_facts *weight_variant_facts(const struct weight_variant *v)
{
    return &v->facts;
}

const struct weight *weight_variant_of(const struct exec *x, const struct layer *l)
{
    const struct weight_variant *v = x->variant;
    if (!v)
        return l->packed;
    const struct touched key = { .layer = l },
                         *t = bsearch(&key, v->layers, v->n, sizeof key, by_address);
    return t ? t->weight : l->packed;
}

uint64_t weight_variant_serial(const struct weight_variant *v)
{
    return v ? v->serial : 0;
}

int weight_variant_fits(const struct weight_variant *v, const void *network, struct dr_error *err)
{
    return !v || v->network == network
               ? 0
               : dr_fail(err, DR_EINVAL, "the variant of the weights is of another network");
}

/* ---- values alone ---- */

struct values_walk {
    struct variant_walk w;
    const struct variant_values *how;
};

static int value_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct values_walk *k = ctx;
    struct variant_walk *w = &k->w;
    struct ordered *o = find_deltas(w, name);
    int64_t count;
    if (!o)
        return 0;
    size_t first = (size_t)(o - w->order), end = group_end(w, first);
    int r = check_deltas(w, p, first, end, shape, name);
    if (r || !k->how->wanted(k->how->ctx, name))
        return r;
    if (!shape_count(shape, &count))
        return DR_ELIMIT;
    float *value = dr_malloc(DR_TAG_WEIGHTS, (size_t)count * sizeof *value);
    if (!value)
        return dr_fail(w->err, DR_ENOMEM, "out of memory for %lld changed values of %s",
                       (long long)count, name);
    const struct changed c = {
        .param = p, .shape = *shape, .first = first, .end = end, .value = value
    };
    r = compute(w, &c);
    weight_source_release(&p->src);
    if (!r)
        r = k->how->value(k->how->ctx, name, shape, value, w->err);
    dr_free(value);
    return r;
}

int weight_variant_values(const struct variant_spec *spec, const struct variant_values *how,
                          struct dr_error *err)
{
    struct values_walk k = { .how = how };
    struct visitor v = { .param = value_param, .ctx = &k };
    int r = walk_init(&k.w, spec, err);
    if (!r)
        r = spec->visit(spec->network, &v);
    for (size_t i = 0; !r && i < k.w.n; i++)
        if (!k.w.order[i].seen)
            r = dr_fail_field(err, DR_EINVAL, k.w.order[i].delta->param, "an adapter for it",
                              "a parameter of the network", NULL);
    walk_release(&k.w);
    return r;
}
