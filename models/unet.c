/* unet.c - see unet.h.
 *
 * The architecture is data: a level is a list of units (a residual block, perhaps a transformer)
 * and perhaps a sampler; going down every unit's output is pushed on a stack of skips, going up
 * each unit takes one. The same stack, of channel counts, sizes the layers in unet_new. Sizes
 * going up are the skips' own, so odd pictures need nothing special.
 */
#include "models/unet.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "models/adapters/weight_variant.h"
#include "models/blocks.h"
#include "models/embedding.h"

enum { SKIPS = 1 + ARCH_LEVELS * (ARCH_LAYERS + 1) };

struct unit {
    struct resnet resnet;
    bool attends;
    struct spatial spatial;
};

struct level {
    int n;
    struct unit *units; /* [n], owned */
    bool samples;
    struct layer sampler;
};

struct unet {
    struct unet_arch arch;
    struct layer conv_in, time1, time2, add1, add2;
    struct level down[ARCH_LEVELS], mid,
        up[ARCH_LEVELS]; /* up: in order of execution, coarsest first */
    struct layer norm_out, conv_out;
    int64_t kv_columns; /* of all blocks, per token */
    bool keeps_zero;    /* a text of zeros has keys and values of zeros */
};

struct unet_context {
    const struct unet *unet;
    const struct weight_variant *variant; /* that it was computed with */
    struct workspace *ws;
    struct text_kv kv;
    struct act
        added; /* [1, 1, 1, time_dim]: what pooled text and time ids add to the time embedding */
};

/* ---- construction ---- */

static int level_init(struct level *l, int n, struct dr_error *err)
{
    l->units = dr_calloc(DR_TAG_MODEL, (size_t)n, sizeof *l->units);
    if (!l->units)
        return dr_fail(err, DR_ENOMEM, "no memory for the UNet's structure");
    l->n = n;
    return 0;
}

static int unit_init(struct unet *u, struct unit *b, int64_t in, int64_t out, int level, int depth,
                     struct dr_error *err)
{
    const struct unet_arch *a = &u->arch;
    resnet_init(&b->resnet, in, out, a->time_dim, a->groups, a->eps);
    if (!depth)
        return 0;
    b->attends = true;
    int e = spatial_init(&b->spatial, out, a->context, a->heads[level], depth, a->groups,
                         &u->kv_columns, err);
    u->keeps_zero = u->keeps_zero && !e && spatial_keeps_zero(&b->spatial);
    return e;
}

static int init_down(struct unet *u, int64_t *skips, int *n_skips, struct dr_error *err)
{
    const struct unet_arch *a = &u->arch;
    int64_t in = a->channels[0];
    int e;
    skips[(*n_skips)++] = in;
    for (int i = 0; i < a->levels; i++) {
        struct level *l = &u->down[i];
        int64_t c = a->channels[i];
        if ((e = level_init(l, a->layers[i], err)))
            return e;
        for (int j = 0; j < l->n; j++, in = c) {
            if ((e = unit_init(u, &l->units[j], in, c, i, a->depth[i][j], err)))
                return e;
            skips[(*n_skips)++] = c;
        }
        if (i < a->levels - 1) {
            l->samples = true;
            l->sampler = layer_downsampler(c);
            skips[(*n_skips)++] = c;
        }
    }
    return 0;
}

static int init_mid(struct unet *u, struct dr_error *err)
{
    const struct unet_arch *a = &u->arch;
    int top = a->levels - 1, e;
    if (!a->mid)
        return 0;
    if ((e = level_init(&u->mid, a->mid_depth ? 2 : a->mid_resnets, err)))
        return e;
    for (int j = 0; j < u->mid.n; j++)
        if ((e = unit_init(u, &u->mid.units[j], a->channels[top], a->channels[top], top,
                           j ? 0 : a->mid_depth, err)))
            return e;
    return 0;
}

static int init_up(struct unet *u, const int64_t *skips, int n_skips, struct dr_error *err)
{
    const struct unet_arch *a = &u->arch;
    int64_t in = a->channels[a->levels - 1];
    int e;
    for (int i = 0; i < a->levels; i++) {
        int level = a->levels - 1 - i;
        struct level *l = &u->up[i];
        int64_t c = a->channels[level];
        if ((e = level_init(l, a->layers[level] + 1, err)))
            return e;
        for (int j = 0; j < l->n; j++, in = c)
            if ((e = unit_init(u, &l->units[j], in + skips[--n_skips], c, level,
                               a->up_depth[level][j], err)))
                return e;
        if (level) {
            l->samples = true;
            l->sampler = layer_upsampler(c);
        }
    }
    return 0;
}

static int bad_arch(struct dr_error *err, const char *what)
{
    return dr_fail(err, DR_EINVAL, "the UNet's architecture is not possible: %s", what);
}

static int check_level(const struct unet_arch *a, int i, struct dr_error *err)
{
    if (a->channels[i] <= 0 || a->channels[i] % a->groups)
        return bad_arch(err, "channels are not a multiple of the norm groups");
    if (a->layers[i] < 1 || a->layers[i] >= ARCH_LAYERS)
        return bad_arch(err, "layers per level");
    bool attends = i == a->levels - 1 && a->mid && a->mid_depth;
    for (int j = 0; j <= a->layers[i]; j++) {
        if (a->up_depth[i][j] < 0 || a->depth[i][j] < 0)
            return bad_arch(err, "negative depth");
        attends |= a->up_depth[i][j] || (j < a->layers[i] && a->depth[i][j]);
    }
    if (attends &&
        (a->heads[i] <= 0 || a->heads[i] > a->channels[i] || a->channels[i] % a->heads[i]))
        return bad_arch(err, "attention heads do not divide the channels");
    return 0;
}

static int check_arch(const struct unet_arch *a, struct dr_error *err)
{
    if (a->levels < 1 || a->levels > ARCH_LEVELS)
        return bad_arch(err, "number of levels");
    if (a->in_channels <= 0 || a->out_channels <= 0 || a->groups <= 0 || a->time_dim <= 0 ||
        a->context <= 0)
        return bad_arch(err, "a size that is not positive");
    if (a->addition_time_dim < 0 || a->n_time_ids < 0 || a->pooled < 0)
        return bad_arch(err, "a negative size of the added conditioning");
    if (a->mid && (a->mid_depth < 0 || (!a->mid_depth && a->mid_resnets < 1)))
        return bad_arch(err, "middle block");
    for (int i = 0; i < a->levels; i++) {
        int e = check_level(a, i, err);
        if (e)
            return e;
    }
    return 0;
}

int unet_new(const struct unet_arch *arch, struct unet **ret, struct dr_error *err)
{
    int64_t skips[SKIPS];
    int n_skips = 0, e = check_arch(arch, err);
    if (e)
        return e;
    struct unet *u = dr_calloc(DR_TAG_MODEL, 1, sizeof *u);
    if (!u)
        return dr_fail(err, DR_ENOMEM, "no memory for the UNet's structure");
    const struct unet_arch *a = &u->arch;
    u->arch = *arch;
    u->keeps_zero = true;
    u->conv_in = layer_wide(layer_conv(a->in_channels, a->channels[0], 3));
    u->time1 = layer_wide(layer_linear(a->channels[0], a->time_dim, true));
    u->time2 = layer_wide(layer_linear(a->time_dim, a->time_dim, true));
    if (a->addition_time_dim) {
        u->add1 = layer_wide(
            layer_linear(a->pooled + a->n_time_ids * a->addition_time_dim, a->time_dim, true));
        u->add2 = layer_wide(layer_linear(a->time_dim, a->time_dim, true));
    }
    u->norm_out = layer_norm_of(a->channels[0]);
    u->conv_out = layer_wide(layer_conv(a->channels[0], a->out_channels, 3));
    if ((e = init_down(u, skips, &n_skips, err)) || (e = init_mid(u, err)) ||
        (e = init_up(u, skips, n_skips, err))) {
        unet_free(u);
        return e;
    }
    *ret = u;
    return 0;
}

static void level_release(struct level *l)
{
    for (int i = 0; i < l->n; i++)
        spatial_release(&l->units[i].spatial);
    dr_free(l->units);
}

void unet_free(struct unet *u)
{
    if (!u)
        return;
    params_unprepare(u, unet_visit);
    for (int i = 0; i < ARCH_LEVELS; i++) {
        level_release(&u->down[i]);
        level_release(&u->up[i]);
    }
    level_release(&u->mid);
    dr_free(u);
}

const struct unet_arch *unet_arch(const struct unet *u)
{
    return &u->arch;
}

/* ---- parameters ---- */

static int level_visit(struct level *l, const struct visitor *v, const char *prefix,
                       const char *sampler)
{
    char name[PARAM_NAME];
    int e;
    for (int i = 0; i < l->n; i++) {
        snprintf(name, sizeof name, "%s.resnets.%d", prefix, i);
        if ((e = resnet_visit(&l->units[i].resnet, v, name)))
            return e;
        snprintf(name, sizeof name, "%s.attentions.%d", prefix, i);
        if (l->units[i].attends && (e = spatial_visit(&l->units[i].spatial, v, name)))
            return e;
    }
    snprintf(name, sizeof name, "%s.%s.0.conv", prefix, sampler);
    return l->samples ? visit_layer(v, &l->sampler, name) : 0;
}

static int visit_embeddings(struct unet *u, const struct visitor *v)
{
    int e;
    if ((e = visit_layer(v, &u->time1, "time_embedding.linear_1")) ||
        (e = visit_layer(v, &u->time2, "time_embedding.linear_2")) || !u->arch.addition_time_dim)
        return e;
    if ((e = visit_layer(v, &u->add1, "add_embedding.linear_1")))
        return e;
    return visit_layer(v, &u->add2, "add_embedding.linear_2");
}

int unet_visit(void *unet, const struct visitor *v)
{
    struct unet *u = unet;
    char name[PARAM_NAME];
    int e;
    if ((e = visit_layer(v, &u->conv_in, "conv_in")) || (e = visit_embeddings(u, v)))
        return e;
    for (int i = 0; i < u->arch.levels; i++) {
        snprintf(name, sizeof name, "down_blocks.%d", i);
        if ((e = level_visit(&u->down[i], v, name, "downsamplers")))
            return e;
    }
    if ((e = level_visit(&u->mid, v, "mid_block", "")))
        return e;
    for (int i = 0; i < u->arch.levels; i++) {
        snprintf(name, sizeof name, "up_blocks.%d", i);
        if ((e = level_visit(&u->up[i], v, name, "upsamplers")))
            return e;
    }
    if ((e = visit_layer(v, &u->norm_out, "conv_norm_out")))
        return e;
    return visit_layer(v, &u->conv_out, "conv_out");
}

/* ---- conditioning ---- */

static int64_t context_floats(const struct unet *u, int64_t tokens)
{
    int64_t kv;
    if (tokens <= 0 || !dr_mul_i64(u->kv_columns, tokens, &kv) ||
        !dr_add_i64(kv, u->arch.time_dim, &kv) || kv > INT64_MAX / 8)
        return 0;
    return kv;
}

static bool text_is_zero(const float *text, int64_t n)
{
    while (n > 0 && text[n - 1] == 0)
        n--;
    return !n;
}

size_t unet_context_bytes(const struct unet_context *c)
{
    return ((size_t)c->kv.all.c * sizeof(float) + 63) / 64 * 64;
}

/* added = linear_2(silu(linear_1([pooled, embedding of each time id]))). */
static int added_embedding(struct unet *u, struct exec *x, const float *pooled,
                           const float *time_ids, struct act dst, struct dr_error *err)
{
    const struct unet_arch *a = &u->arch;
    const struct sinusoid s = { a->addition_time_dim, a->flip_sin_to_cos, a->freq_shift };
    struct act in, mid;
    int e;
    if ((e = blk_new(x, 1, 1, 1, a->pooled + a->n_time_ids * a->addition_time_dim, &in, err)))
        return e;
    if (a->pooled && (e = act_write(x, act_channels(in, 0, a->pooled), pooled, err)))
        return e;
    for (int i = 0; i < a->n_time_ids; i++) {
        float id = backend_is_plan(x->be) ? 0 : time_ids[i];
        if ((e = sinusoid_write(&s, x, id, in, a->pooled + i * s.dim, err)))
            return e;
    }
    if ((e = blk_new(x, 1, 1, 1, a->time_dim, &mid, err)) ||
        (e = blk_linear(x, &u->add1, in, (struct blk_linear){ .activation = ACT_SILU }, mid,
                        err)) ||
        (e = blk_linear(x, &u->add2, mid, (struct blk_linear){ 0 }, dst, err)))
        return e;
    act_free(x, &mid);
    act_free(x, &in);
    return 0;
}

static int level_text(const struct level *l, struct exec *x, struct act text,
                      const struct text_kv *kv, struct dr_error *err)
{
    int e = 0;
    for (int i = 0; i < l->n && !e; i++)
        if (l->units[i].attends)
            e = spatial_text(&l->units[i].spatial, x, text, kv, err);
    return e;
}

static int context_fill(struct unet *u, struct exec *x, const float *text, struct unet_context *c,
                        struct dr_error *err)
{
    struct act in;
    int e;
    if ((e = blk_new(x, 1, 1, c->kv.tokens, u->arch.context, &in, err)) ||
        (e = act_write(x, in, text, err)))
        return e;
    for (int i = 0; i < u->arch.levels; i++)
        if ((e = level_text(&u->down[i], x, in, &c->kv, err)) ||
            (e = level_text(&u->up[i], x, in, &c->kv, err)))
            return e;
    if ((e = level_text(&u->mid, x, in, &c->kv, err)))
        return e;
    act_free(x, &in);
    return 0;
}

int unet_context_new(struct unet *u, struct exec *x, const float *text, int64_t tokens,
                     const float *pooled, const float *time_ids, struct unet_context **ret,
                     struct dr_error *err)
{
    int64_t floats = context_floats(u, tokens);
    int e = weight_variant_fits(x->variant, u, err);
    if (e)
        return e;
    if (!floats)
        return dr_fail(err, DR_EINVAL, "a context of %lld tokens", (long long)tokens);
    struct unet_context *c = dr_calloc(DR_TAG_JOB, 1, sizeof *c);
    if (!c)
        return dr_fail(err, DR_ENOMEM, "no memory for a text context");
    c->unet = u;
    c->variant = x->variant;
    c->kv.tokens = tokens;
    c->kv.zero = u->keeps_zero && text && text_is_zero(text, tokens * u->arch.context);
    if (c->kv.zero)
        floats = u->arch.time_dim;
    c->kv.all.c = floats;
    e = workspace_new(x->be, unet_context_bytes(c), &c->ws, err);
    if (e)
        goto out;
    struct exec own = *x;
    own.ws = c->ws;
    if ((e = blk_new(&own, 1, 1, 1, floats, &c->kv.all, err)))
        goto out;
    c->added = act_channels(c->kv.all, floats - u->arch.time_dim, u->arch.time_dim);
    c->added.ld = c->added.c;
    if (u->arch.addition_time_dim && (e = added_embedding(u, x, pooled, time_ids, c->added, err)))
        goto out;
    if (!c->kv.zero && (e = context_fill(u, x, text, c, err)))
        goto out;
    *ret = c;
    return 0;
out:
    unet_context_free(c);
    return e;
}

void unet_context_free(struct unet_context *c)
{
    if (!c)
        return;
    workspace_free(c->ws);
    dr_free(c);
}

/* ---- forward ---- */

/* What the blocks of one pass share. */
struct pass {
    const struct unet *u;
    struct exec *x;
    const struct unet_row *rows;
    const struct text_kv **kv; /* [n] */
    int64_t n;
    struct alike latents;  /* of the rows */
    int64_t of[UNET_ROWS]; /* its */
    struct act emb;        /* silu(time embedding) [n, 1, 1, time_dim] */
    struct act skips[SKIPS];
    int n_skips;
    struct dr_error *err;
};

/* emb = silu(linear_2(silu(linear_1(sinusoid(timestep)))) + added) */
static int time_embedding(struct pass *p)
{
    const struct unet_arch *a = &p->u->arch;
    const struct sinusoid s = { a->channels[0], a->flip_sin_to_cos, a->freq_shift };
    const struct blk_linear silu = { .activation = ACT_SILU };
    const struct blk_linear last = { .activation = a->addition_time_dim ? ACT_NONE : ACT_SILU };
    struct act in, mid;
    int e;
    if ((e = blk_new(p->x, p->n, 1, 1, a->time_dim, &p->emb, p->err)) ||
        (e = blk_new(p->x, p->n, 1, 1, s.dim, &in, p->err)) ||
        (e = blk_new(p->x, p->n, 1, 1, a->time_dim, &mid, p->err)))
        return e;
    for (int64_t i = 0; i < p->n; i++)
        if ((e = sinusoid_write(&s, p->x, (float)p->rows[i].timestep, act_samples(in, i, 1), 0,
                                p->err)))
            return e;
    if ((e = blk_linear(p->x, &p->u->time1, in, silu, mid, p->err)) ||
        (e = blk_linear(p->x, &p->u->time2, mid, last, p->emb, p->err)))
        return e;
    for (int64_t i = 0; i < p->n && a->addition_time_dim; i++) {
        struct act emb = act_samples(p->emb, i, 1);
        struct op add = {
            .kind = OP_KIND_add,
            .dst = emb,
            .src = emb,
            .residual = p->rows[i].context->added,
            .activation = ACT_SILU,
        };
        if ((e = op_run(p->x, &add, p->err)))
            return e;
    }
    act_free(p->x, &mid);
    act_free(p->x, &in);
    return 0;
}

static int unit_run(struct pass *p, const struct unit *b, struct stream *in, struct blk_way way,
                    struct stream *ret)
{
    struct blk_way inner = way;
    inner.moments |= b->attends;
    int e = resnet_run(&b->resnet, p->x, p->emb, in, inner, ret, p->err);
    if (e || !b->attends)
        return e;
    return spatial_run(&b->spatial, p->x, p->kv, ret, way.moments, p->err);
}

static int run_down(struct pass *p, struct stream *y)
{
    int e;
    p->skips[p->n_skips++] = y->x;
    for (int i = 0; i < p->u->arch.levels; i++) {
        const struct level *l = &p->u->down[i];
        for (int j = 0; j < l->n; j++) {
            struct stream in = *y;
            struct blk_way way = { .keep = true, .moments = j + 1 < l->n || !l->samples };
            way.alike = i + j == 0 ? &p->latents : NULL;
            if ((e = unit_run(p, &l->units[j], &in, way, y)))
                return e;
            p->skips[p->n_skips++] = y->x;
        }
        if (l->samples) {
            struct act in = y->x;
            struct blk_conv half = { .moments = &y->moments };
            if ((e = blk_new(p->x, in.n, (in.h + 1) / 2, (in.w + 1) / 2, in.c, &y->x, p->err)) ||
                (e = blk_conv(p->x, &l->sampler, in, half, y->x, p->err)))
                return e;
            p->skips[p->n_skips++] = y->x;
        }
    }
    return 0;
}

/* y->x is the last skip on entry and left alone; on return it is a tensor of its own. */
static int run_mid(struct pass *p, struct stream *y)
{
    int e = 0;
    struct stream in = *y;
    const struct level *l = &p->u->mid;
    for (int j = 0; j < l->n && !e; j++, in = *y)
        e = unit_run(p, &l->units[j], &in,
                     (struct blk_way){ .keep = j == 0, .moments = j + 1 < l->n }, y);
    if (e || l->n)
        return e;
    act_free(p->x, &y->moments);
    if ((e = blk_new(p->x, in.x.n, in.x.h, in.x.w, in.x.c, &y->x, p->err)))
        return e;
    struct op copy = { .kind = OP_KIND_resize, .dst = y->x, .src = in.x };
    return op_run(p->x, &copy, p->err);
}

static int run_up(struct pass *p, struct stream *y)
{
    int e;
    for (int i = 0; i < p->u->arch.levels; i++) {
        const struct level *l = &p->u->up[i];
        for (int j = 0; j < l->n; j++) {
            struct stream in = { .x = { 0 } };
            struct act skip = p->skips[--p->n_skips], left = y->x;
            struct blk_way way = { .moments = p->n_skips == 0 };
            if ((e = blk_concat(p->x, &left, &skip, &in.x, p->err)))
                return e;
            if ((e = unit_run(p, &l->units[j], &in, way, y)))
                return e;
        }
        if (l->samples) {
            const struct act *next = &p->skips[p->n_skips - 1];
            struct act in = y->x;
            if ((e = blk_new(p->x, in.n, next->h, next->w, in.c, &y->x, p->err)) ||
                (e = blk_upsample(p->x, &l->sampler, in, y->x, NULL, p->err)))
                return e;
            act_free(p->x, &in);
        }
    }
    return 0;
}

/* *ret = conv_in of every row's latent, with the moments of those that differ. */
static int run_in(struct pass *p, int64_t h, int64_t w, struct stream *ret)
{
    const struct unet_arch *a = &p->u->arch;
    const struct blk_conv how = { .moments = &ret->moments };
    int64_t count = p->latents.count;
    struct act in;
    int e = blk_new(p->x, count, h, w, a->in_channels, &in, p->err);
    if (e)
        return e;
    for (int64_t i = 0; i < count; i++)
        if ((e = act_write_nchw(p->x, act_samples(in, i, 1), p->rows[i].latent, p->err)))
            return e;
    if ((e = blk_new(p->x, p->n, h, w, a->channels[0], &ret->x, p->err)) ||
        (e = blk_conv(p->x, &p->u->conv_in, in, how, act_samples(ret->x, 0, count), p->err)))
        return e;
    act_free(p->x, &in);
    for (int64_t i = count; i < p->n && !e; i++) {
        struct op copy = { .kind = OP_KIND_resize,
                           .dst = act_samples(ret->x, i, 1),
                           .src = act_samples(ret->x, p->latents.of[i], 1) };
        e = op_run(p->x, &copy, p->err);
    }
    return e;
}

static int run_out(struct pass *p, struct stream *y)
{
    const struct unet_arch *a = &p->u->arch;
    const struct blk_norm norm = { a->groups, a->eps, ACT_SILU };
    struct act out;
    int e;
    if ((e = blk_group_norm(p->x, &p->u->norm_out, y, norm, y->x, p->err)) ||
        (e = blk_new(p->x, y->x.n, y->x.h, y->x.w, a->out_channels, &out, p->err)) ||
        (e = blk_conv(p->x, &p->u->conv_out, y->x, (struct blk_conv){ 0 }, out, p->err)))
        return e;
    for (int64_t i = 0; i < p->n; i++)
        if ((e = act_read_nchw(p->x, act_samples(out, i, 1), p->rows[i].pred, p->err)))
            return e;
    act_free(p->x, &out);
    act_free(p->x, &y->moments);
    act_free(p->x, &y->x);
    return 0;
}

/* The first row with this one's latent. */
static int first_with(const struct unet_row *rows, int i)
{
    int k = 0;
    while (k < i && (!rows[i].latent || rows[k].latent != rows[i].latent))
        k++;
    return k;
}

/* Those whose text is zeros first, so that each kind is one run of samples; within a kind those
 * that bring a latent of their own before those that repeat one. */
static void order_rows(const struct unet_row *rows, int n, struct unet_row *ret)
{
    for (int kind = 3; kind >= 0; kind--)
        for (int i = 0; i < n; i++)
            if (2 * rows[i].context->kv.zero + (first_with(rows, i) == i) == kind)
                *ret++ = rows[i];
}

/* Which rows have the latent of another: those after `count`, or none of them where one of their
 * own stands behind. */
static void find_alike(struct pass *p)
{
    int64_t n = p->n, repeats = 0;
    for (int64_t i = 0; i < n; i++) {
        p->of[i] = first_with(p->rows, (int)i);
        repeats += p->of[i] < i;
    }
    p->latents = (struct alike){ .count = n - repeats, .of = p->of };
    for (int64_t i = 0; i < p->latents.count; i++)
        if (p->of[i] < i)
            p->latents.count = n;
}

int unet_forward(struct unet *u, struct exec *x, const struct unet_row *rows, int n, int64_t h,
                 int64_t w, struct dr_error *err)
{
    const struct text_kv *kv[UNET_ROWS];
    struct unet_row ordered[UNET_ROWS];
    if (n < 1 || n > UNET_ROWS || h < 1 || w < 1)
        return dr_fail(err, DR_EINVAL,
                       "%d rows of %lldx%lld: expected 1 to %d rows of 1x1 at least", n,
                       (long long)w, (long long)h, UNET_ROWS);
    int e = weight_variant_fits(x->variant, u, err);
    if (e)
        return e;
    for (int i = 0; i < n; i++)
        if (!rows[i].context || rows[i].context->unet != u ||
            rows[i].context->variant != x->variant)
            return dr_fail(err, DR_EINVAL,
                           "row %d: its context was made for another network or variant", i);
    order_rows(rows, n, ordered);
    for (int i = 0; i < n; i++)
        kv[i] = &ordered[i].context->kv;
    struct pass p = { .u = u, .x = x, .rows = ordered, .kv = kv, .n = n, .err = err };
    struct stream y;
    find_alike(&p);
    if ((e = time_embedding(&p)) || (e = run_in(&p, h, w, &y)) || (e = run_down(&p, &y)) ||
        (e = run_mid(&p, &y)) || (e = run_up(&p, &y)) || (e = run_out(&p, &y)))
        return e;
    act_free(x, &p.emb);
    return 0;
}
