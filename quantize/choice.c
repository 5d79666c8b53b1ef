/* choice.c - see choice.h. */
#include "quantize/choice.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quantize/emulation.h"
#include "models/unet.h"

/* The first rounds keep a twentieth of what is left; the others a quarter, as each costs a pass
 * over all samples. */
enum { SLOW_ROUNDS = 12, SLOW_PART = 20, FAST_PART = 4 };

const char *int8_fate_name(enum int8_fate f)
{
    static const char *const names[] = { "int8", "kept by name", "kept: its error",
                                         "kept: the budget" };
    return names[f];
}

/* ---- the list ---- */

static bool kept_by_name(const char *name)
{
    static const char *const begins[] = { "conv_in", "conv_out", "time_embedding.",
                                          "add_embedding." };
    static const char *const ends[] = { ".time_emb_proj", ".conv_shortcut", ".attn2.to_k" };
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (!strncmp(name, begins[i], strlen(begins[i])))
            return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t tail = strlen(ends[i]);
        if (n >= tail && !strcmp(name + n - tail, ends[i]))
            return true;
    }
    return false;
}

struct listing {
    struct int8_choice *c;
    int room;
    struct dr_error *err;
};

static int list_layer(void *ctx, struct layer *l, const char *name)
{
    struct listing *list = ctx;
    struct int8_choice *c = list->c;
    if (l->desc.kind != WEIGHT_LINEAR && l->desc.kind != WEIGHT_CONV)
        return 0;
    if (c->n == list->room) {
        int room = list->room ? 2 * list->room : 256;
        void *more = dr_realloc(DR_TAG_JOB, c->layers, (size_t)room * sizeof *c->layers);
        if (!more)
            return dr_fail(list->err, DR_ENOMEM, "out of memory for the list of layers");
        c->layers = more;
        list->room = room;
    }
    struct int8_layer *to = &c->layers[c->n++];
    memset(to, 0, sizeof *to);
    snprintf(to->name, sizeof to->name, "%s", name);
    to->parts = l->desc.parts;
    to->weight = l->packed;
    to->fate = kept_by_name(name) ? INT8_KEPT_NAME : INT8_CHOSEN;
    for (int i = 0; i < l->desc.parts; i++) {
        int64_t count = 0;
        shape_count(&l->weight[i].src.shape, &count);
        to->parameters += count;
        to->data[i] = l->weight[i].src.data;
    }
    return 0;
}

static struct int8_layer *find(const struct int8_choice *c, const struct weight *w)
{
    for (int i = 0; w && i < c->n; i++)
        if (c->layers[i].weight == w)
            return &c->layers[i];
    return NULL;
}

/* ---- two ways of watching a pass ---- */

static int measure(struct exec *x, const struct op *op, struct dr_error *err)
{
    struct int8_layer *l = find(x->watcher, op->weight);
    if (!l || !trial_possible(op))
        return 0;
    return trial_measure(x, op, &l->difference, &l->result, err);
}

static int substitute(struct exec *x, const struct op *op, struct dr_error *err)
{
    const struct int8_layer *l = find(x->watcher, op->weight);
    if (!l || l->fate != INT8_CHOSEN || !trial_possible(op))
        return 0;
    int r = trial_run(x, op, err);
    return r < 0 ? r : 1;
}

/* ---- the choice ---- */

static void judge_layers(struct int8_choice *c)
{
    for (int i = 0; i < c->n; i++) {
        struct int8_layer *l = &c->layers[i];
        l->error = l->result > 0 ? sqrt(l->difference / l->result) : sqrt(l->difference);
        bool fine = l->error <= INT8_LAYER_LIMIT; /* not of a NaN */
        if (l->fate == INT8_CHOSEN && !fine)
            l->fate = INT8_KEPT_ERROR;
    }
}

static int worse_first(const void *a, const void *b)
{
    const struct int8_layer *const *x = a, *const *y = b;
    if ((*x)->error != (*y)->error)
        return (*x)->error < (*y)->error ? 1 : -1;
    return *x < *y ? -1 : *x > *y;
}

/* Keeps the worst of the chosen ones, one in `part`; how many are still chosen. */
static int keep_worst(struct int8_choice *c, struct int8_layer **sorted, int part)
{
    int n = 0;
    for (int i = 0; i < c->n; i++)
        if (c->layers[i].fate == INT8_CHOSEN)
            sorted[n++] = &c->layers[i];
    qsort(sorted, (size_t)n, sizeof(struct int8_layer *), worse_first);
    int keep = (n + part - 1) / part;
    for (int i = 0; i < keep; i++)
        sorted[i]->fate = INT8_KEPT_BUDGET;
    return n - keep;
}

/* Ends with a choice that was measured to be within the budget, or with none that is chosen. */
static int fit_budget(struct pipeline *p, const struct int8_samples *s, const atomic_int *stop,
                      struct int8_choice *c, struct dr_error *err)
{
    size_t values = (size_t)s->n * s->values;
    float *preds = dr_malloc(DR_TAG_JOB, values * sizeof *preds);
    struct int8_layer **sorted = dr_malloc(DR_TAG_JOB,
                                           ((size_t)c->n + 1) * sizeof(struct int8_layer *));
    struct int8_watch watch = { substitute, c };
    int r = preds && sorted ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for predictions");
    for (int round = 0; !r; round++) {
        r = int8_predict(p, s, watch, stop, preds, err);
        if (r)
            break;
        c->error = int8_distance(preds, c->preds, values);
        if (c->error <= c->budget ||
            !keep_worst(c, sorted, round < SLOW_ROUNDS ? SLOW_PART : FAST_PART))
            break;
    }
    dr_free(preds);
    dr_free(sorted);
    return r;
}

static void add_up(struct int8_choice *c)
{
    int chosen = 0;
    for (int i = 0; i < c->n; i++) {
        const struct int8_layer *l = &c->layers[i];
        c->total += l->parameters;
        if (l->fate != INT8_CHOSEN)
            continue;
        chosen++;
        c->mean += l->error;
        c->parameters += l->parameters;
    }
    c->mean = chosen ? c->mean / chosen : 0;
}

int int8_choose(struct pipeline *p, const struct int8_samples *s, double budget,
                const atomic_int *stop, struct int8_choice *ret, struct dr_error *err)
{
    struct listing list = { .c = ret, .err = err };
    struct visitor v = { .layer = list_layer, .ctx = &list };
    struct int8_watch watch = { measure, ret };
    memset(ret, 0, sizeof *ret);
    ret->budget = budget;
    int r = unet_visit(p->unet, &v);
    if (r)
        return r;
    ret->preds = dr_malloc(DR_TAG_JOB, (size_t)s->n * s->values * sizeof *ret->preds);
    if (!ret->preds)
        return dr_fail(err, DR_ENOMEM, "out of memory for predictions");
    r = int8_predict(p, s, watch, stop, ret->preds, err);
    if (r)
        return r;
    judge_layers(ret);
    r = fit_budget(p, s, stop, ret, err);
    add_up(ret);
    if (!r && !ret->parameters)
        r = dr_fail(err, DR_EUNSUPPORTED,
                    "%s: none of its layers can have 8-bit weights with predictions within %g of "
                    "float32's",
                    checkpoint_path(p->checkpoint), budget);
    return r;
}

void int8_choice_release(struct int8_choice *c)
{
    dr_free(c->layers);
    dr_free(c->preds);
    memset(c, 0, sizeof *c);
}

bool int8_chosen(const void *choice, const void *data)
{
    const struct int8_choice *c = choice;
    for (int i = 0; i < c->n; i++)
        for (int part = 0; c->layers[i].fate == INT8_CHOSEN && part < c->layers[i].parts; part++)
            if (c->layers[i].data[part] == data)
                return true;
    return false;
}
