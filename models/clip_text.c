/* clip_text.c - see clip_text.h.
 *
 * A pre-norm transformer with causal attention (Radford et al. 2021). The walk stops at the layer
 * whose state is wanted unless the pooled state is wanted too.
 */
#include "models/clip_text.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "models/adapters/weight_variant.h"
#include "models/blocks.h"

struct clip_layer {
    struct layer norm1, qkv, out, norm2, fc1, fc2;
};

struct clip_text {
    struct clip_arch arch;
    struct layer tokens, positions;
    struct clip_layer *layers; /* [arch.layers] */
    struct layer final_norm, projection;
};

enum { LAYERS_MAX = 1024 };

static int check_arch(const struct clip_arch *a, struct dr_error *err)
{
    if (a->vocab <= 0 || a->width <= 0 || a->mlp <= 0 || a->positions <= 0 || a->projection < 0 ||
        a->layers <= 0 || a->layers > LAYERS_MAX)
        return dr_fail(err, DR_EINVAL, "text encoder: a size that is not possible");
    if (a->heads <= 0 || a->heads > a->width || a->width % a->heads)
        return dr_fail(err, DR_EINVAL, "text encoder: %lld heads do not divide %lld channels",
                       (long long)a->heads, (long long)a->width);
    if (a->act != ARCH_GELU && a->act != ARCH_QUICK_GELU)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "text encoder: activation is neither gelu nor quick_gelu");
    return 0;
}

static void layer_init(struct clip_layer *l, int64_t width, int64_t mlp)
{
    const int64_t three[] = { width, width, width };
    l->norm1 = layer_norm_of(width);
    l->qkv = layer_keep_f32(layer_linears(width, three, 3, true));
    l->out = layer_keep_f32(layer_linear(width, width, true));
    l->norm2 = layer_norm_of(width);
    l->fc1 = layer_keep_f32(layer_linear(width, mlp, true));
    l->fc2 = layer_keep_f32(layer_linear(mlp, width, true));
}

int clip_text_new(const struct clip_arch *arch, struct clip_text **ret, struct dr_error *err)
{
    int e = check_arch(arch, err);
    if (e)
        return e;
    struct clip_text *t = dr_calloc(DR_TAG_MODEL, 1, sizeof *t);
    struct clip_layer *layers = dr_calloc(DR_TAG_MODEL, (size_t)arch->layers, sizeof *layers);
    if (!t || !layers) {
        dr_free(layers);
        dr_free(t);
        return dr_fail(err, DR_ENOMEM, "out of memory for a text encoder's structure");
    }
    t->arch = *arch;
    t->tokens = layer_table(arch->vocab, arch->width);
    t->positions = layer_table(arch->positions, arch->width);
    t->layers = layers;
    for (int64_t i = 0; i < arch->layers; i++)
        layer_init(&layers[i], arch->width, arch->mlp);
    t->final_norm = layer_norm_of(arch->width);
    if (arch->projection)
        t->projection = layer_keep_f32(layer_linear(arch->width, arch->projection, false));
    *ret = t;
    return 0;
}

void clip_text_free(struct clip_text *t)
{
    if (!t)
        return;
    params_unprepare(t, clip_text_visit);
    dr_free(t->layers);
    dr_free(t);
}

const struct clip_arch *clip_text_arch(const struct clip_text *t)
{
    return &t->arch;
}

static int clip_layer_visit(struct clip_layer *l, const struct visitor *v, int64_t i)
{
    static const char *const leaves[] = {
        "self_attn.q_proj",   "self_attn.k_proj", "self_attn.v_proj", "layer_norm1",
        "self_attn.out_proj", "layer_norm2",      "mlp.fc1",          "mlp.fc2",
    };
    enum { LEAVES = sizeof leaves / sizeof *leaves };
    char name[LEAVES][PARAM_NAME];
    int e;
    for (int j = 0; j < LEAVES; j++)
        snprintf(name[j], PARAM_NAME, "text_model.encoder.layers.%d.%s", (int)i, leaves[j]);
    const char *const qkv[] = { name[0], name[1], name[2] };
    if ((e = visit_layer(v, &l->norm1, name[3])) || (e = visit_layers(v, &l->qkv, qkv)) ||
        (e = visit_layer(v, &l->out, name[4])) || (e = visit_layer(v, &l->norm2, name[5])) ||
        (e = visit_layer(v, &l->fc1, name[6])))
        return e;
    return visit_layer(v, &l->fc2, name[7]);
}

int clip_text_visit(void *clip_text, const struct visitor *v)
{
    struct clip_text *t = clip_text;
    int e;
    if ((e = visit_layer(v, &t->tokens, "text_model.embeddings.token_embedding")) ||
        (e = visit_layer(v, &t->positions, "text_model.embeddings.position_embedding")))
        return e;
    for (int64_t i = 0; i < t->arch.layers; i++)
        if ((e = clip_layer_visit(&t->layers[i], v, i)))
            return e;
    if ((e = visit_layer(v, &t->final_norm, "text_model.final_layer_norm")))
        return e;
    return t->arch.projection ? visit_layer(v, &t->projection, "text_projection") : 0;
}

/* y += out(attention(qkv(norm1(y)))), y += fc2(act(fc1(norm2(y)))); a is scratch of y's shape. */
static int layer_run(const struct clip_text *t, const struct clip_layer *l, struct exec *x,
                     struct act y, struct act a, struct dr_error *err)
{
    const struct blk_linear mlp = {
        .activation = t->arch.act == ARCH_QUICK_GELU ? ACT_QUICK_GELU : ACT_GELU,
    };
    const struct blk_linear add = { .residual = y };
    int64_t c = y.c;
    struct act qkv, f;
    int e;
    if ((e = blk_layer_norm(x, &l->norm1, y, t->arch.eps, a, err)) ||
        (e = blk_new(x, y.n, 1, y.w, 3 * c, &qkv, err)) ||
        (e = blk_linear(x, &l->qkv, a, (struct blk_linear){ 0 }, qkv, err)) ||
        (e = blk_attention(x, act_channels(qkv, 0, c), act_channels(qkv, c, c),
                           act_channels(qkv, 2 * c, c), t->arch.heads, true, a, err)))
        return e;
    act_free(x, &qkv);
    if ((e = blk_linear(x, &l->out, a, add, y, err)) ||
        (e = blk_layer_norm(x, &l->norm2, y, t->arch.eps, a, err)) ||
        (e = blk_new(x, y.n, 1, y.w, t->arch.mlp, &f, err)) ||
        (e = blk_linear(x, &l->fc1, a, mlp, f, err)) ||
        (e = blk_linear(x, &l->fc2, f, add, y, err)))
        return e;
    act_free(x, &f);
    return 0;
}

/* Tokens [first, first + count) of a sample. */
static struct act tokens_of(struct act a, int64_t sample, int64_t first, int64_t count)
{
    struct act view = act_samples(a, sample, 1);
    view.offset += (size_t)(first * a.ld) * dtype_size(a.dtype);
    view.w = count;
    return view;
}

/* One run of ids beyond the vocabulary: y = position + vector. `at` and `rows` are scratch. */
static int embed_run(const struct clip_text *t, struct exec *x, const struct clip_words *words,
                     const int32_t *ids, int64_t first, struct act at, struct act rows,
                     struct act y, struct dr_error *err)
{
    int32_t *index = dr_malloc(DR_TAG_PROMPT, (size_t)y.w * sizeof *index);
    float *vectors = dr_malloc(DR_TAG_PROMPT, (size_t)(y.w * y.c) * sizeof *vectors);
    int e = index && vectors ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for embeddings");
    for (int64_t i = 0; !e && i < y.w; i++) {
        index[i] = (int32_t)(first + i);
        memcpy(vectors + i * y.c, words->vectors + (ids[i] - t->arch.vocab) * y.c,
               (size_t)y.c * sizeof *vectors);
    }
    struct op place = { .kind = OP_KIND_embedding,
                        .dst = y,
                        .src = at,
                        .weight = weight_variant_of(x, &t->positions) };
    struct op add = { .kind = OP_KIND_add, .dst = y, .src = y, .residual = rows };
    if (!e)
        e = act_write(x, at, index, err);
    if (!e)
        e = act_write(x, rows, vectors, err);
    if (!e)
        e = op_run(x, &place, err);
    if (!e)
        e = op_run(x, &add, err);
    dr_free(index);
    dr_free(vectors);
    return e;
}

/* All runs of ids beyond the vocabulary. The scratch is the same whatever the ids are, which the
 * plan does not know. */
static int embed_words(const struct clip_text *t, struct exec *x, const struct clip_words *words,
                       const int32_t *ids, struct act y, struct dr_error *err)
{
    struct act at, rows;
    int e;
    if ((e = act_new(x, DTYPE_I32, 1, 1, y.w, 1, &at, err)) ||
        (e = blk_new(x, 1, 1, y.w, y.c, &rows, err)))
        return e;
    for (int64_t i = 0; ids && i < y.n; i++) {
        const int32_t *own = ids + i * y.w;
        for (int64_t first = 0, n; !e && first < y.w; first += n) {
            bool more = own[first] >= t->arch.vocab;
            for (n = 1; first + n < y.w && (own[first + n] >= t->arch.vocab) == more; n++)
                ;
            if (more)
                e = embed_run(t, x, words, own + first, first, tokens_of(at, 0, 0, n),
                              tokens_of(rows, 0, 0, n), tokens_of(y, i, first, n), err);
        }
    }
    act_free(x, &rows);
    act_free(x, &at);
    return e;
}

/* ids with those beyond the vocabulary as 0, for the table; NULL when memory is short. */
static int32_t *table_ids(const int32_t *ids, int64_t n, int64_t vocab)
{
    int32_t *known = dr_malloc(DR_TAG_PROMPT, (size_t)n * sizeof *known);
    for (int64_t i = 0; known && i < n; i++)
        known[i] = ids[i] < vocab ? ids[i] : 0;
    return known;
}

static int embed(const struct clip_text *t, struct exec *x, const int32_t *ids,
                 const struct clip_words *words, struct act y, struct dr_error *err)
{
    struct act in;
    int32_t *known = NULL;
    int e;
    const struct weight *tokens = weight_variant_of(x, &t->tokens),
                        *positions = weight_variant_of(x, &t->positions);
    if (!tokens || !positions)
        return dr_fail(err, DR_ESTATE, "a text encoder was used before its weights were prepared");
    if (words && ids && !(known = table_ids(ids, y.n * y.w, t->arch.vocab)))
        return dr_fail(err, DR_ENOMEM, "out of memory for token ids");
    e = act_new(x, DTYPE_I32, y.n, 1, y.w, 1, &in, err);
    if (!e)
        e = act_write(x, in, known ? known : ids, err);
    dr_free(known);
    if (e)
        return e;
    struct op op = {
        .kind = OP_KIND_embedding,
        .dst = y,
        .src = in,
        .weight = tokens,
        .position = positions,
    };
    if ((e = op_run(x, &op, err)))
        return e;
    act_free(x, &in);
    return words ? embed_words(t, x, words, ids, y, err) : 0;
}

/* Where the pooled state is read: the largest id if eos_id is 2 (configurations from before
 * transformers counted it right), else the first end token; 0 if there is none. */
static int64_t end_token(const struct clip_arch *a, const int32_t *ids, int64_t tokens)
{
    int64_t best = 0;
    for (int64_t i = 0; i < tokens; i++) {
        if (a->eos_id == 2) {
            if (ids[i] > ids[best])
                best = i;
        } else if (ids[i] == a->eos_id) {
            return i;
        }
    }
    return best;
}

static int pool(const struct clip_text *t, struct exec *x, const int32_t *ids, struct act y,
                float *ret_pooled, struct dr_error *err)
{
    struct act last, out;
    int e;
    if ((e = blk_new(x, y.n, 1, 1, y.c, &last, err)) ||
        (e = blk_new(x, y.n, 1, 1, t->arch.projection, &out, err)))
        return e;
    for (int64_t i = 0; i < y.n; i++) {
        struct act token = act_samples(y, i, 1);
        int64_t at = ids ? end_token(&t->arch, ids + i * y.w, y.w) : 0;
        token.offset += (size_t)(at * y.ld) * dtype_size(y.dtype);
        token.w = 1;
        e = blk_layer_norm(x, &t->final_norm, token, t->arch.eps, act_samples(last, i, 1), err);
        if (e)
            return e;
    }
    if ((e = blk_linear(x, &t->projection, last, (struct blk_linear){ 0 }, out, err)) ||
        (e = act_read(x, out, ret_pooled, err)))
        return e;
    act_free(x, &out);
    act_free(x, &last);
    return 0;
}

static int check_call(const struct clip_arch *a, const int32_t *ids, int64_t n, int64_t tokens,
                      const struct clip_words *words, int skip, struct dr_error *err)
{
    int64_t known = a->vocab + (words ? words->n : 0);
    if (n < 1 || tokens < 1 || tokens > a->positions)
        return dr_fail(err, DR_EINVAL, "text encoder: %lld texts of %lld tokens, at most %lld",
                       (long long)n, (long long)tokens, (long long)a->positions);
    if (skip < 1 || skip > a->layers)
        return dr_fail(err, DR_EINVAL, "clip skip %d: expected 1 to %lld", skip,
                       (long long)a->layers);
    for (int64_t i = 0; ids && i < n * tokens; i++)
        if (ids[i] < 0 || ids[i] >= known)
            return dr_fail(err, DR_EINVAL, "token id %ld: the text encoder has %lld", (long)ids[i],
                           (long long)known);
    return 0;
}

/* y to the host, a is scratch of its shape. */
static int read_state(const struct clip_text *t, struct exec *x, bool final_norm, struct act y,
                      struct act a, float *ret_hidden, struct dr_error *err)
{
    int e = final_norm ? blk_layer_norm(x, &t->final_norm, y, t->arch.eps, a, err) : 0;
    return e ? e : act_read(x, final_norm ? a : y, ret_hidden, err);
}

int clip_text_encode(struct clip_text *t, struct exec *x, const int32_t *ids, int64_t n,
                     int64_t tokens, struct clip_state wanted, float *ret_hidden, float *ret_pooled,
                     struct dr_error *err)
{
    return clip_text_encode_words(t, x, ids, n, tokens, NULL, wanted, ret_hidden, ret_pooled, err);
}

int clip_text_encode_words(struct clip_text *t, struct exec *x, const int32_t *ids, int64_t n,
                           int64_t tokens, const struct clip_words *words, struct clip_state wanted,
                           float *ret_hidden, float *ret_pooled, struct dr_error *err)
{
    const struct clip_arch *arch = &t->arch;
    bool pooled = ret_pooled && arch->projection;
    int64_t last = arch->layers - wanted.skip + 1;
    struct act y, a;
    int e = check_call(arch, ids, n, tokens, words, wanted.skip, err);
    if (e || (e = weight_variant_fits(x->variant, t, err)) ||
        (e = blk_new(x, n, 1, tokens, arch->width, &y, err)) ||
        (e = blk_new(x, n, 1, tokens, arch->width, &a, err)) ||
        (e = embed(t, x, ids, words, y, err)))
        return e;
    for (int64_t i = 0; i < (pooled ? arch->layers : last); i++) {
        if ((e = layer_run(t, &t->layers[i], x, y, a, err)))
            return e;
        if (i + 1 == last && (e = read_state(t, x, wanted.final_norm, y, a, ret_hidden, err)))
            return e;
    }
    if (pooled && (e = pool(t, x, ids, y, ret_pooled, err)))
        return e;
    act_free(x, &a);
    act_free(x, &y);
    return 0;
}
