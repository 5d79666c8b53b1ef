/* blocks.c - see blocks.h.
 *
 * Memory is why things are in the order they are: a residual block that may use up its input takes
 * the shortcut first, normalises in place, and adds the residual in place, so that the finest
 * level of a 1024x1024 decode holds little over 2 GB. Errors return at once: the workspace is
 * reset by whoever owns it. */
#include "models/blocks.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "models/adapters/weight_variant.h"
#include "models/wrapped_conv.h"

/* Fixed by diffusers' classes, not by any config file. */
#define SPATIAL_NORM_EPS 1e-6 /* Transformer2DModel.norm */
#define TBLOCK_NORM_EPS 1e-5  /* BasicTransformerBlock.norm1-3 */

enum { KV_ALIGN = 16 /* columns, so that every block's keys begin on 64 bytes */ };

/* ---- single layers ---- */

int blk_new(struct exec *x, int64_t n, int64_t h, int64_t w, int64_t c, struct act *ret,
            struct dr_error *err)
{
    return act_new(x, DTYPE_F32, n, h, w, c, ret, err);
}

/* A convolution that wraps copies its source first, and copies are float32. */
static enum dtype operand_type(const struct exec *x, enum op_kind product)
{
    return x->wrap && product == OP_CONV2D ? DTYPE_F32 : backend_operand(x->be, product);
}

/* The same, of the type that this product takes: for what a norm, an attention or a product gives
 * to it. What is added to stays float32. */
static int operand(struct exec *x, enum op_kind product, int64_t n, int64_t h, int64_t w, int64_t c,
                   struct act *ret, struct dr_error *err)
{
    return act_new(x, operand_type(x, product), n, h, w, c, ret, err);
}

static int run(struct exec *x, const struct layer *l, struct op *op, struct dr_error *err)
{
    op->weight = weight_variant_of(x, l);
    if (!op->weight)
        return dr_fail(err, DR_ESTATE, "a layer was used before its weights were prepared");
    return op_run(x, op, err);
}

/* run; if requested and supported by the kernel, also the statistics of its output, in new memory.
 */
static int run_giving(struct exec *x, const struct layer *l, struct op *op, struct act *moments,
                      struct dr_error *err)
{
    op->weight = weight_variant_of(x, l);
    int64_t runs = moments && op->weight ? backend_stat_chunks(x->be, op) : 0;
    if (moments)
        *moments = (struct act){ .buf = NULL };
    if (runs) {
        int e = blk_new(x, op->dst.n, 1, runs, moments_width(op->dst.c), moments, err);
        if (e)
            return e;
        op->moments = *moments;
    }
    return run(x, l, op, err);
}

int blk_linear(struct exec *x, const struct layer *l, struct act src, struct blk_linear how,
               struct act dst, struct dr_error *err)
{
    struct op op = {
        .kind = OP_LINEAR,
        .dst = dst,
        .src = src,
        .activation = how.activation,
        .residual = how.residual,
    };
    return run_giving(x, l, &op, how.moments, err);
}

int blk_conv(struct exec *x, const struct layer *l, struct act src, struct blk_conv how,
             struct act dst, struct dr_error *err)
{
    if (x->wrap && !how.pad_high)
        return wrapped_conv(x, l, src, how, dst, err);
    struct op op = {
        .kind = OP_KIND_conv2d,
        .dst = dst,
        .src = src,
        .pad_low = how.pad_high ? 0 : 1,
        .pad_high = 1,
        .channel_add = how.channel_add,
        .residual = how.residual,
    };
    return run_giving(x, l, &op, how.moments, err);
}

int blk_group_norm(struct exec *x, const struct layer *l, const struct stream *src,
                   struct blk_norm how, struct act dst, struct dr_error *err)
{
    struct op op = {
        .kind = OP_KIND_group_norm,
        .dst = dst,
        .src = src->x,
        .moments = src->moments,
        .groups = how.groups,
        .eps = how.eps,
        .activation = how.activation,
    };
    return run(x, l, &op, err);
}

int blk_normed(struct exec *x, const struct layer *l, struct blk_norm how, struct stream *y,
               struct dr_error *err)
{
    struct act in = y->x, out = in;
    bool in_place = operand_type(x, OP_CONV2D) == in.dtype;
    int e;
    if (!in_place && (e = operand(x, OP_CONV2D, in.n, in.h, in.w, in.c, &out, err)))
        return e;
    if ((e = blk_group_norm(x, l, y, how, out, err)))
        return e;
    if (!in_place)
        act_free(x, &in);
    act_free(x, &y->moments);
    y->x = out;
    return 0;
}

int blk_layer_norm(struct exec *x, const struct layer *l, struct act src, double eps,
                   struct act dst, struct dr_error *err)
{
    struct op op = { .kind = OP_KIND_layer_norm, .dst = dst, .src = src, .eps = eps };
    return run(x, l, &op, err);
}

int blk_upsample(struct exec *x, const struct layer *l, struct act src, struct act dst,
                 struct act *moments, struct dr_error *err)
{
    if (moments)
        *moments = (struct act){ .buf = NULL };
    if (x->wrap)
        return wrapped_upsample(x, l, src, dst, err);
    struct op op = { .kind = OP_KIND_upsample_conv, .dst = dst, .src = src };
    return run_giving(x, l, &op, moments, err);
}

/* io += the layer's bias: what it gives for zeros. */
static int add_bias(struct exec *x, const struct layer *l, struct act io, struct dr_error *err)
{
    struct op op = { .kind = OP_KIND_add, .dst = io, .src = io };
    return run(x, l, &op, err);
}

int blk_relu(struct exec *x, struct act dst, struct dr_error *err)
{
    struct op op = { .kind = OP_KIND_add, .dst = dst, .src = dst, .activation = ACT_RELU };
    return op_run(x, &op, err);
}

int blk_weigh(struct exec *x, struct act src, double scale, struct act mask, struct act residual,
              struct act dst, struct dr_error *err)
{
    struct op op = { .kind = OP_KIND_weigh,
                     .dst = dst,
                     .src = src,
                     .k = mask,
                     .residual = residual,
                     .scale = scale };
    return op_run(x, &op, err);
}

int blk_low_scale(struct exec *x, double scale, struct act io, struct dr_error *err)
{
    struct op op = { .kind = OP_KIND_low_scale, .dst = io, .src = io, .scale = scale };
    return op_run(x, &op, err);
}

int blk_attention(struct exec *x, struct act q, struct act k, struct act v, int64_t heads,
                  bool causal, struct act dst, struct dr_error *err)
{
    struct op op = {
        .kind = OP_KIND_attention,
        .dst = dst,
        .src = q,
        .k = k,
        .v = v,
        .heads = (int)heads,
        .scale = 1.0 / sqrt((double)q.c / (double)heads),
        .causal = causal,
    };
    return op_run(x, &op, err);
}

int blk_concat(struct exec *x, struct act *a, struct act *b, struct act *ret, struct dr_error *err)
{
    struct act both;
    int r = blk_new(x, a->n, a->h, a->w, a->c + b->c, &both, err);
    if (r)
        return r;
    struct op left = { .kind = OP_KIND_resize, .dst = act_channels(both, 0, a->c), .src = *a };
    struct op right = { .kind = OP_KIND_resize, .dst = act_channels(both, a->c, b->c), .src = *b };
    if ((r = op_run(x, &left, err)) || (r = op_run(x, &right, err)))
        return r;
    act_free(x, a);
    act_free(x, b);
    *ret = both;
    return 0;
}

static int visit_at(const struct visitor *v, struct layer *l, const char *prefix, const char *leaf)
{
    char name[PARAM_NAME];
    int n = snprintf(name, sizeof name, "%s.%s", prefix, leaf);
    return n < (int)sizeof name ? visit_layer(v, l, name) : DR_ELIMIT;
}

static int visit_parts(const struct visitor *v, struct layer *l, const char *prefix,
                       const char *const *leaves, int n)
{
    char names[LAYER_PARTS][PARAM_NAME];
    const char *list[LAYER_PARTS] = { names[0], names[1], names[2] };
    for (int i = 0; i < n && i < LAYER_PARTS; i++)
        if (snprintf(names[i], PARAM_NAME, "%s.%s", prefix, leaves[i]) >= PARAM_NAME)
            return DR_ELIMIT;
    return visit_layers(v, l, list);
}

/* ---- residual block ---- */

void resnet_init(struct resnet *r, int64_t in, int64_t out, int64_t time, int groups, double eps)
{
    *r = (struct resnet){ .in = in, .out = out, .time = time, .groups = groups, .eps = eps };
    r->norm1 = layer_norm_of(in);
    r->conv1 = layer_conv(in, out, 3);
    if (time)
        r->time_emb_proj = layer_keep_f32(layer_linear(time, out, true));
    r->norm2 = layer_norm_of(out);
    r->conv2 = layer_conv(out, out, 3);
    if (in != out)
        r->shortcut = layer_linear(in, out, true);
}

int resnet_visit(struct resnet *r, const struct visitor *v, const char *prefix)
{
    int e;
    if ((e = visit_at(v, &r->norm1, prefix, "norm1")) ||
        (e = visit_at(v, &r->conv1, prefix, "conv1")))
        return e;
    if (r->time && (e = visit_at(v, &r->time_emb_proj, prefix, "time_emb_proj")))
        return e;
    if ((e = visit_at(v, &r->norm2, prefix, "norm2")) ||
        (e = visit_at(v, &r->conv2, prefix, "conv2")))
        return e;
    return r->in != r->out ? visit_at(v, &r->shortcut, prefix, "conv_shortcut") : 0;
}

/* Everything before the second convolution: *ret = silu(norm2(conv1(silu(norm1(in))) + time)).
 * With `use_up`, in's memory is overwritten and freed. */
static int resnet_inner(const struct resnet *r, struct exec *x, struct act emb, struct stream *in,
                        bool use_up, struct act *ret, struct dr_error *err)
{
    const struct blk_norm norm = { .groups = r->groups, .eps = r->eps, .activation = ACT_SILU };
    struct act shape = in->x, t = { 0 };
    struct stream h = *in, y = { .x = { 0 } };
    int e;
    if (use_up) {
        if ((e = blk_normed(x, &r->norm1, norm, &h, err)))
            return e;
        in->x.buf = NULL;
    } else {
        struct act normed;
        if ((e = operand(x, OP_CONV2D, shape.n, shape.h, shape.w, shape.c, &normed, err)) ||
            (e = blk_group_norm(x, &r->norm1, &h, norm, normed, err)))
            return e;
        act_free(x, &in->moments);
        h.x = normed;
    }
    if (r->time && ((e = blk_new(x, shape.n, 1, 1, r->out, &t, err)) ||
                    (e = blk_linear(x, &r->time_emb_proj, emb, (struct blk_linear){ 0 }, t, err))))
        return e;
    const struct blk_conv conv1 = { .channel_add = t,
                                    .moments = r->norm2_reads ? NULL : &y.moments };
    if ((e = blk_new(x, shape.n, shape.h, shape.w, r->out, &y.x, err)) ||
        (e = blk_conv(x, &r->conv1, h.x, conv1, y.x, err)))
        return e;
    act_free(x, &t);
    act_free(x, &h.x);
    if ((e = blk_normed(x, &r->norm2, norm, &y, err)))
        return e;
    *ret = y.x;
    return 0;
}

int resnet_run(const struct resnet *r, struct exec *x, struct act emb, struct stream *in,
               struct blk_way way, struct stream *ret, struct dr_error *err)
{
    struct stream dst = { .x = in->x };
    struct act residual = in->x, h;
    bool shortcut = r->in != r->out;
    int e;
    if (shortcut || way.keep) {
        if ((e = blk_new(x, in->x.n, in->x.h, in->x.w, r->out, &dst.x, err)))
            return e;
        if (shortcut) {
            residual = dst.x;
            if ((e = blk_linear(x, &r->shortcut, in->x, (struct blk_linear){ 0 }, dst.x, err)))
                return e;
        }
    }
    struct blk_conv conv2 = { .residual = residual, .moments = way.moments ? &dst.moments : NULL };
    if ((e = resnet_inner(r, x, emb, in, shortcut && !way.keep, &h, err)) ||
        (e = blk_conv(x, &r->conv2, h, conv2, dst.x, err)))
        return e;
    act_free(x, &h);
    *ret = dst;
    return 0;
}

/* ---- transformer ---- */

static void tblock_init(struct tblock *b, int64_t c, int64_t context)
{
    const int64_t three[] = { c, c, c }, two[] = { c, c };
    b->norm1 = layer_norm_of(c);
    b->qkv = layer_linears(c, three, 3, false);
    b->out1 = layer_linear(c, c, true);
    b->norm2 = layer_norm_of(c);
    b->q2 = layer_linear(c, c, false);
    b->kv2 = layer_linears(context, two, 2, false);
    b->out2 = layer_linear(c, c, true);
    b->norm3 = layer_norm_of(c);
    b->ff_in = layer_linear(c, 8 * c, true);
    b->ff_in.desc.gated = true;
    b->ff_out = layer_linear(4 * c, c, true);
}

static int tblock_visit(struct tblock *b, const struct visitor *v, const char *prefix)
{
    static const char *const qkv[] = { "attn1.to_q", "attn1.to_k", "attn1.to_v" };
    static const char *const kv[] = { "attn2.to_k", "attn2.to_v" };
    int e;
    if ((e = visit_at(v, &b->norm1, prefix, "norm1")) ||
        (e = visit_parts(v, &b->qkv, prefix, qkv, 3)) ||
        (e = visit_at(v, &b->out1, prefix, "attn1.to_out.0")) ||
        (e = visit_at(v, &b->norm2, prefix, "norm2")) ||
        (e = visit_at(v, &b->q2, prefix, "attn2.to_q")) ||
        (e = visit_parts(v, &b->kv2, prefix, kv, 2)) ||
        (e = visit_at(v, &b->out2, prefix, "attn2.to_out.0")) ||
        (e = visit_at(v, &b->norm3, prefix, "norm3")) ||
        (e = visit_at(v, &b->ff_in, prefix, "ff.net.0.proj")))
        return e;
    return visit_at(v, &b->ff_out, prefix, "ff.net.2");
}

int spatial_init(struct spatial *s, int64_t channels, int64_t context, int64_t heads, int depth,
                 int groups, int64_t *kv_columns, struct dr_error *err)
{
    *s = (struct spatial){ .channels = channels, .heads = heads, .groups = groups };
    s->norm = layer_norm_of(channels);
    s->proj_in = layer_linear(channels, channels, true);
    s->proj_out = layer_linear(channels, channels, true);
    s->blocks = dr_calloc(DR_TAG_MODEL, (size_t)depth, sizeof *s->blocks);
    if (!s->blocks)
        return dr_fail(err, DR_ENOMEM, "out of memory for %d transformer blocks", depth);
    s->depth = depth;
    for (int i = 0; i < depth; i++) {
        tblock_init(&s->blocks[i], channels, context);
        s->blocks[i].kv_at = *kv_columns;
        *kv_columns += (2 * channels + KV_ALIGN - 1) / KV_ALIGN * KV_ALIGN;
    }
    return 0;
}

void spatial_release(struct spatial *s)
{
    dr_free(s->blocks);
    s->blocks = NULL;
}

int spatial_visit(struct spatial *s, const struct visitor *v, const char *prefix)
{
    int e;
    if ((e = visit_at(v, &s->norm, prefix, "norm")) ||
        (e = visit_at(v, &s->proj_in, prefix, "proj_in")))
        return e;
    for (int i = 0; i < s->depth; i++) {
        char name[PARAM_NAME];
        snprintf(name, sizeof name, "%s.transformer_blocks.%d", prefix, i);
        if ((e = tblock_visit(&s->blocks[i], v, name)))
            return e;
    }
    return visit_at(v, &s->proj_out, prefix, "proj_out");
}

/* [1, 1, tokens, 2 * channels]: keys, then values, of block b. */
static struct act kv_view(const struct kv_set *kv, const struct tblock *b, int64_t channels)
{
    struct act a = kv->all;
    a.offset += (size_t)(b->kv_at * kv->tokens) * dtype_size(a.dtype);
    a.h = 1;
    a.w = kv->tokens;
    a.c = a.ld = 2 * channels;
    return a;
}

int spatial_text(const struct spatial *s, struct exec *x, struct act text, const struct kv_set *kv,
                 struct dr_error *err)
{
    int e = 0;
    for (int i = 0; i < s->depth && !e; i++) {
        const struct tblock *b = &s->blocks[i];
        e = blk_linear(x, &b->kv2, text, (struct blk_linear){ 0 }, kv_view(kv, b, s->channels),
                       err);
    }
    return e;
}

bool spatial_keeps_zero(const struct spatial *s)
{
    for (int i = 0; i < s->depth; i++)
        if (s->blocks[i].kv2.desc.bias)
            return false;
    return true;
}

/* Whether the sample's self-attention in this block is another. */
static bool self_changes(const struct spatial *s, const struct tblock *b,
                         const struct self_change *change)
{
    int block = (int)(b - s->blocks);
    for (int i = 0; change && i < change->n; i++) {
        const struct self_place *p = &change->place[i];
        if (p->part == s->at.part && (p->level < 0 || p->level == s->at.level) &&
            (p->unit < 0 || p->unit == s->at.unit) && (p->block < 0 || p->block == block))
            return true;
    }
    return false;
}

/* t += out1(attention of one query, the mean of all): the same for every token. The mean is
 * attention to the queries with scores that are all 0. */
static int mean_attention(const struct spatial *s, const struct tblock *b, struct exec *x,
                          struct act qkv, struct act t, struct dr_error *err)
{
    int64_t c = s->channels;
    struct act q = act_channels(qkv, 0, c), one = q, mean, attended, out, all;
    one.w = 1;
    int e;
    if ((e = operand(x, OP_LINEAR, 1, 1, 1, c, &mean, err)) ||
        (e = operand(x, OP_LINEAR, 1, 1, 1, c, &attended, err)) ||
        (e = blk_new(x, 1, 1, 1, c, &out, err)) || (e = blk_new(x, 1, 1, t.w, c, &all, err)))
        return e;
    struct op average = { .kind = OP_KIND_attention,
                          .dst = mean,
                          .src = one,
                          .k = act_channels(qkv, c, c),
                          .v = q,
                          .heads = (int)s->heads,
                          .scale = 1e-30 };
    struct op spread = { .kind = OP_KIND_resize, .dst = all, .src = out };
    if ((e = op_run(x, &average, err)) ||
        (e = blk_attention(x, mean, act_channels(qkv, c, c), act_channels(qkv, 2 * c, c), s->heads,
                           false, attended, err)) ||
        (e = blk_linear(x, &b->out1, attended, (struct blk_linear){ 0 }, out, err)) ||
        (e = op_run(x, &spread, err)) || (e = blk_weigh(x, all, 1, (struct act){ 0 }, t, t, err)))
        return e;
    act_free(x, &all);
    act_free(x, &out);
    act_free(x, &attended);
    act_free(x, &mean);
    return 0;
}

/* t += out1(self-attention) sample by sample, where some have another. */
static int mixed_attention(const struct spatial *s, const struct tblock *b, struct exec *x,
                           const struct kv_blocks *kv, struct act qkv, struct act t, struct act a,
                           struct dr_error *err)
{
    int64_t c = s->channels;
    int e = 0;
    for (int64_t i = 0; i < t.n && !e; i++) {
        struct act all = act_samples(qkv, i, 1), v = act_channels(all, 2 * c, c);
        struct act own = act_samples(t, i, 1), attended = act_samples(a, i, 1);
        const struct self_change *change = kv[i].self;
        bool changes = self_changes(s, b, change);
        if (changes && change->kind == SELF_MEAN) {
            e = mean_attention(s, b, x, all, own, err);
            continue;
        }
        if (changes)
            attended = v;
        else
            e = blk_attention(x, act_channels(all, 0, c), act_channels(all, c, c), v, s->heads,
                              false, attended, err);
        if (!e)
            e = blk_linear(x, &b->out1, attended, (struct blk_linear){ .residual = own }, own, err);
    }
    return e;
}

/* t += out1(attention(qkv(norm1(t)))); a is scratch of t's shape. */
static int self_attention(const struct spatial *s, const struct tblock *b, struct exec *x,
                          const struct kv_blocks *kv, struct act t, struct act a,
                          struct dr_error *err)
{
    bool mixed = false;
    for (int64_t i = 0; i < t.n; i++)
        mixed = mixed || self_changes(s, b, kv[i].self);
    int64_t c = s->channels;
    struct act qkv;
    int e;
    if ((e = blk_layer_norm(x, &b->norm1, t, TBLOCK_NORM_EPS, a, err)) ||
        (e = operand(x, OP_LINEAR, t.n, 1, t.w, 3 * c, &qkv, err)) ||
        (e = blk_linear(x, &b->qkv, a, (struct blk_linear){ 0 }, qkv, err)) ||
        (e = mixed ? mixed_attention(s, b, x, kv, qkv, t, a, err)
                   : blk_attention(x, act_channels(qkv, 0, c), act_channels(qkv, c, c),
                                   act_channels(qkv, 2 * c, c), s->heads, false, a, err)))
        return e;
    act_free(x, &qkv);
    if (mixed)
        return 0;
    return blk_linear(x, &b->out1, a, (struct blk_linear){ .residual = t }, t, err);
}

/* dst = the sum over the sample's sets of weight * mask * attention, float32; q's tokens are the
 * pixels of a picture of `picture`'s size. */
static int attention_sum(const struct spatial *s, const struct tblock *b, struct exec *x,
                         const struct kv_blocks *kv, struct act q, const struct act *picture,
                         struct act dst, struct dr_error *err)
{
    int64_t c = s->channels;
    struct act one, mask = { 0 };
    int e = blk_new(x, 1, 1, q.w, c, &one, err);
    for (int i = 0; i < kv->n && !e; i++) {
        const struct kv_block *k = &kv->block[i];
        struct act both = kv_view(k->kv, b, c);
        if ((e = blk_attention(x, q, act_channels(both, 0, c), act_channels(both, c, c), s->heads,
                               false, one, err)))
            break;
        if (k->mask.buf) {
            struct op fit = { .kind = OP_KIND_resize, .src = k->mask };
            if ((e = blk_new(x, 1, picture->h, picture->w, 1, &mask, err)))
                break;
            fit.dst = mask;
            if ((e = op_run(x, &fit, err)))
                break;
        }
        e = blk_weigh(x, one, k->weight, mask, i ? dst : (struct act){ 0 }, dst, err);
        act_free(x, &mask);
    }
    if (!e)
        act_free(x, &one);
    return e;
}

/* Attention to the text of samples that have any: of the plain ones to a, of the others to sum. */
static int attend(const struct spatial *s, const struct tblock *b, struct exec *x,
                  const struct kv_blocks *kv, struct act q, const struct act *picture, struct act a,
                  struct act sum, struct dr_error *err)
{
    int64_t c = s->channels, plain = 0;
    int e = 0;
    for (int64_t i = 0; i < q.n && !e; i++) {
        struct act sample = act_samples(q, i, 1);
        if (kv_blocks_plain(&kv[i])) {
            struct act both = kv_view(kv[i].block[0].kv, b, c);
            e = blk_attention(x, sample, act_channels(both, 0, c), act_channels(both, c, c),
                              s->heads, false, act_samples(a, plain++, 1), err);
        } else {
            e = attention_sum(s, b, x, &kv[i], sample, picture, act_samples(sum, i - plain, 1),
                              err);
        }
    }
    return e;
}

/* t += out2(attention(q2(norm2(t)), the sample's own keys and values)). Where a sample has none the
 * attention is zero, and out2 of it is its bias. */
static int text_attention(const struct spatial *s, const struct tblock *b, struct exec *x,
                          const struct kv_blocks *kv, const struct act *picture, struct act t,
                          struct act a, struct dr_error *err)
{
    int64_t c = s->channels, none = 0, plain = 0;
    struct act q, sum = { 0 };
    int e;
    while (none < t.n && !kv[none].n)
        none++;
    while (none + plain < t.n && kv_blocks_plain(&kv[none + plain]))
        plain++;
    if (none && (e = add_bias(x, &b->out2, act_samples(t, 0, none), err)))
        return e;
    if (none == t.n)
        return 0;
    t = act_samples(t, none, t.n - none);
    a = act_samples(a, none, a.n - none);
    if ((e = blk_layer_norm(x, &b->norm2, t, TBLOCK_NORM_EPS, a, err)) ||
        (e = operand(x, OP_LINEAR, t.n, 1, t.w, c, &q, err)) ||
        (e = blk_linear(x, &b->q2, a, (struct blk_linear){ 0 }, q, err)) ||
        (plain < t.n && (e = blk_new(x, t.n - plain, 1, t.w, c, &sum, err))) ||
        (e = attend(s, b, x, kv + none, q, picture, a, sum, err)))
        return e;
    act_free(x, &q);
    struct act of_plain = act_samples(t, 0, plain), rest = act_samples(t, plain, t.n - plain);
    if (plain && (e = blk_linear(x, &b->out2, act_samples(a, 0, plain),
                                 (struct blk_linear){ .residual = of_plain }, of_plain, err)))
        return e;
    if (plain < t.n &&
        (e = blk_linear(x, &b->out2, sum, (struct blk_linear){ .residual = rest }, rest, err)))
        return e;
    act_free(x, &sum);
    return 0;
}

static int feed_forward(const struct tblock *b, struct exec *x, struct act t, struct act a,
                        struct dr_error *err)
{
    struct act f;
    int e;
    if ((e = blk_layer_norm(x, &b->norm3, t, TBLOCK_NORM_EPS, a, err)) ||
        (e = operand(x, OP_LINEAR, t.n, 1, t.w, 4 * t.c, &f, err)) ||
        (e = blk_linear(x, &b->ff_in, a, (struct blk_linear){ .activation = ACT_GEGLU }, f, err)) ||
        (e = blk_linear(x, &b->ff_out, f, (struct blk_linear){ .residual = t }, t, err)))
        return e;
    act_free(x, &f);
    return 0;
}

int spatial_run(const struct spatial *s, struct exec *x, const struct kv_blocks *kv,
                struct stream *io, bool moments, struct dr_error *err)
{
    const struct blk_norm norm = { .groups = s->groups, .eps = SPATIAL_NORM_EPS };
    struct stream tokens = { .x = act_tokens(io->x), .moments = io->moments };
    int64_t n = tokens.x.n, w = tokens.x.w, c = s->channels;
    struct act t, a;
    int e;
    if ((e = blk_new(x, n, 1, w, c, &t, err)) || (e = operand(x, OP_LINEAR, n, 1, w, c, &a, err)) ||
        (e = blk_group_norm(x, &s->norm, &tokens, norm, a, err)) ||
        (e = blk_linear(x, &s->proj_in, a, (struct blk_linear){ 0 }, t, err)))
        return e;
    act_free(x, &io->moments);
    for (int i = 0; i < s->depth; i++) {
        const struct tblock *b = &s->blocks[i];
        if ((e = self_attention(s, b, x, kv, t, a, err)) ||
            (e = text_attention(s, b, x, kv, &io->x, t, a, err)) ||
            (e = feed_forward(b, x, t, a, err)))
            return e;
    }
    const struct blk_linear out = { .residual = tokens.x,
                                    .moments = moments ? &io->moments : NULL };
    if ((e = blk_linear(x, &s->proj_out, t, out, tokens.x, err)))
        return e;
    act_free(x, &a);
    act_free(x, &t);
    return 0;
}

/* ---- attention of the autoencoder ---- */

void pixel_attention_init(struct pixel_attention *a, int64_t channels, int groups, double eps)
{
    const int64_t three[] = { channels, channels, channels };
    *a = (struct pixel_attention){ .channels = channels, .groups = groups, .eps = eps };
    a->norm = layer_norm_of(channels);
    a->qkv = layer_linears(channels, three, 3, true);
    a->out = layer_linear(channels, channels, true);
}

int pixel_attention_visit(struct pixel_attention *a, const struct visitor *v, const char *prefix)
{
    static const char *const qkv[] = { "to_q", "to_k", "to_v" };
    int e;
    if ((e = visit_at(v, &a->norm, prefix, "group_norm")) ||
        (e = visit_parts(v, &a->qkv, prefix, qkv, 3)))
        return e;
    return visit_at(v, &a->out, prefix, "to_out.0");
}

int pixel_attention_run(const struct pixel_attention *a, struct exec *x, struct stream *io,
                        struct dr_error *err)
{
    const struct blk_norm norm = { .groups = a->groups, .eps = a->eps };
    struct stream tokens = { .x = act_tokens(io->x), .moments = io->moments };
    int64_t n = tokens.x.n, w = tokens.x.w, c = a->channels;
    struct act h, qkv;
    int e;
    if ((e = operand(x, OP_LINEAR, n, 1, w, c, &h, err)) ||
        (e = blk_group_norm(x, &a->norm, &tokens, norm, h, err)))
        return e;
    act_free(x, &io->moments);
    if ((e = operand(x, OP_LINEAR, n, 1, w, 3 * c, &qkv, err)) ||
        (e = blk_linear(x, &a->qkv, h, (struct blk_linear){ 0 }, qkv, err)) ||
        (e = blk_attention(x, act_channels(qkv, 0, c), act_channels(qkv, c, c),
                           act_channels(qkv, 2 * c, c), 1, false, h, err)))
        return e;
    act_free(x, &qkv);
    const struct blk_linear out = { .residual = tokens.x, .moments = &io->moments };
    if ((e = blk_linear(x, &a->out, h, out, tokens.x, err)))
        return e;
    act_free(x, &h);
    return 0;
}
