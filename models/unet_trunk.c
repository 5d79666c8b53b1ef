/* unet_trunk.c - see unet_trunk.h.
 *
 * The architecture is data: a level is a list of units (a residual block, perhaps a transformer)
 * and perhaps a sampler; every unit's output is pushed on a stack of skips. Rows are sorted by what
 * they attend to, so that each kind of row is one range of samples.
 */
#include "models/unet_trunk.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "models/adapters/weight_variant.h"
#include "models/timestep_embedding.h"

/* ---- construction ---- */

int unet_level_init(struct unet_level *l, int n, struct dr_error *err)
{
    l->units = dr_calloc(DR_TAG_MODEL, (size_t)n, sizeof *l->units);
    if (!l->units)
        return dr_fail(err, DR_ENOMEM, "out of memory for the UNet's structure");
    l->n = n;
    return 0;
}

int unet_unit_init(struct unet_trunk *t, struct unet_unit *b, int64_t in, int64_t out, int level,
                   int depth, struct dr_error *err)
{
    const struct unet_arch *a = &t->arch;
    resnet_init(&b->resnet, in, out, a->time_dim, a->groups, a->eps);
    if (!depth)
        return 0;
    b->attends = true;
    int e = spatial_init(&b->spatial, out, a->context, a->heads[level], depth, a->groups,
                         &t->kv_columns, err);
    t->keeps_zero = t->keeps_zero && !e && spatial_keeps_zero(&b->spatial);
    return e;
}

static int init_down(struct unet_trunk *t, struct dr_error *err)
{
    const struct unet_arch *a = &t->arch;
    int64_t in = a->channels[0];
    int e;
    t->skips[t->n_skips++] = in;
    for (int i = 0; i < a->levels; i++) {
        struct unet_level *l = &t->down[i];
        int64_t c = a->channels[i];
        if ((e = unet_level_init(l, a->layers[i], err)))
            return e;
        for (int j = 0; j < l->n; j++, in = c) {
            if ((e = unet_unit_init(t, &l->units[j], in, c, i, a->depth[i][j], err)))
                return e;
            l->units[j].spatial.at = (struct self_place){ SELF_DOWN, i, j, -1 };
            l->units[j].resnet.norm2_reads = i + j == 0;
            t->skips[t->n_skips++] = c;
        }
        if (i < a->levels - 1) {
            l->samples = true;
            l->sampler = layer_downsampler(c);
            t->skips[t->n_skips++] = c;
        }
    }
    return 0;
}

static int init_mid(struct unet_trunk *t, struct dr_error *err)
{
    const struct unet_arch *a = &t->arch;
    int top = a->levels - 1, e;
    if (!a->mid)
        return 0;
    if ((e = unet_level_init(&t->mid, a->mid_depth ? 2 : a->mid_resnets, err)))
        return e;
    for (int j = 0; j < t->mid.n; j++)
        if ((e = unet_unit_init(t, &t->mid.units[j], a->channels[top], a->channels[top], top,
                                j ? 0 : a->mid_depth, err)))
            return e;
    t->mid.units[0].spatial.at = (struct self_place){ SELF_MID, 0, 0, -1 };
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

int unet_trunk_init(struct unet_trunk *t, const struct unet_arch *arch, struct dr_error *err)
{
    const struct unet_arch *a = &t->arch;
    *t = (struct unet_trunk){ .keeps_zero = true };
    int e = check_arch(arch, err);
    if (e)
        return e;
    t->arch = *arch;
    t->conv_in = layer_keep_f32(layer_conv(a->in_channels, a->channels[0], 3));
    t->time1 = layer_keep_f32(layer_linear(a->channels[0], a->time_dim, true));
    t->time2 = layer_keep_f32(layer_linear(a->time_dim, a->time_dim, true));
    if (a->addition_time_dim) {
        t->add1 = layer_keep_f32(
            layer_linear(a->pooled + a->n_time_ids * a->addition_time_dim, a->time_dim, true));
        t->add2 = layer_keep_f32(layer_linear(a->time_dim, a->time_dim, true));
    }
    e = init_down(t, err);
    return e ? e : init_mid(t, err);
}

void unet_level_release(struct unet_level *l)
{
    for (int i = 0; i < l->n; i++)
        spatial_release(&l->units[i].spatial);
    dr_free(l->units);
}

void unet_trunk_release(struct unet_trunk *t)
{
    for (int i = 0; i < ARCH_LEVELS; i++)
        unet_level_release(&t->down[i]);
    unet_level_release(&t->mid);
}

/* ---- parameters ---- */

int unet_level_visit(struct unet_level *l, const struct visitor *v, const char *prefix,
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

static int visit_embeddings(struct unet_trunk *t, const struct visitor *v)
{
    int e;
    if ((e = visit_layer(v, &t->time1, "time_embedding.linear_1")) ||
        (e = visit_layer(v, &t->time2, "time_embedding.linear_2")) || !t->arch.addition_time_dim)
        return e;
    if ((e = visit_layer(v, &t->add1, "add_embedding.linear_1")))
        return e;
    return visit_layer(v, &t->add2, "add_embedding.linear_2");
}

int unet_trunk_visit(void *trunk, const struct visitor *v)
{
    struct unet_trunk *t = trunk;
    char name[PARAM_NAME];
    int e;
    if ((e = visit_layer(v, &t->conv_in, "conv_in")) || (e = visit_embeddings(t, v)))
        return e;
    for (int i = 0; i < t->arch.levels; i++) {
        snprintf(name, sizeof name, "down_blocks.%d", i);
        if ((e = unet_level_visit(&t->down[i], v, name, "downsamplers")))
            return e;
    }
    return unet_level_visit(&t->mid, v, "mid_block", "");
}

/* ---- forward ---- */

/* emb = silu(linear_2(silu(linear_1(sinusoid(timestep)))) + added) */
static int time_embedding(struct unet_pass *p)
{
    const struct unet_arch *a = &p->trunk->arch;
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
    if ((e = blk_linear(p->x, &p->trunk->time1, in, silu, mid, p->err)) ||
        (e = blk_linear(p->x, &p->trunk->time2, mid, last, p->emb, p->err)))
        return e;
    for (int64_t i = 0; i < p->n && a->addition_time_dim; i++) {
        struct act emb = act_samples(p->emb, i, 1);
        struct op add = {
            .kind = OP_KIND_add,
            .dst = emb,
            .src = emb,
            .residual = p->rows[i].conditioning->blocks[0].context->added,
            .activation = ACT_SILU,
        };
        if ((e = op_run(p->x, &add, p->err)))
            return e;
    }
    act_free(p->x, &mid);
    act_free(p->x, &in);
    return 0;
}

int unet_unit_run(struct unet_pass *p, const struct unet_unit *b, struct stream *in,
                  struct blk_way way, struct stream *ret)
{
    struct blk_way inner = way;
    inner.moments |= b->attends;
    int e = resnet_run(&b->resnet, p->x, p->emb, in, inner, ret, p->err);
    if (e || !b->attends)
        return e;
    return spatial_run(&b->spatial, p->x, p->kv, ret, way.moments, p->err);
}

static int run_down(struct unet_pass *p, struct stream *y)
{
    int e;
    p->skips[p->n_skips++] = y->x;
    for (int i = 0; i < p->trunk->arch.levels; i++) {
        const struct unet_level *l = &p->trunk->down[i];
        for (int j = 0; j < l->n; j++) {
            struct stream in = *y;
            struct blk_way way = { .keep = true, .moments = j + 1 < l->n || !l->samples };
            if ((e = unet_unit_run(p, &l->units[j], &in, way, y)))
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
static int run_mid(struct unet_pass *p, struct stream *y)
{
    int e = 0;
    struct stream in = *y;
    const struct unet_level *l = &p->trunk->mid;
    for (int j = 0; j < l->n && !e; j++, in = *y)
        e = unet_unit_run(p, &l->units[j], &in,
                          (struct blk_way){ .keep = j == 0, .moments = j + 1 < l->n }, y);
    if (e || l->n)
        return e;
    act_free(p->x, &y->moments);
    if ((e = blk_new(p->x, in.x.n, in.x.h, in.x.w, in.x.c, &y->x, p->err)))
        return e;
    struct op copy = { .kind = OP_KIND_resize, .dst = y->x, .src = in.x };
    return op_run(p->x, &copy, p->err);
}

/* dst [1, h, w, in_channels] = the row's latent and its extra channels. */
static int write_input(struct unet_pass *p, const struct unet_row *row, struct act dst)
{
    const struct unet_conditioning *c = row->conditioning;
    int64_t own = dst.c - c->n_extra;
    int e = act_write_nchw(p->x, act_channels(dst, 0, own), row->latent, p->err);
    if (e || !c->n_extra)
        return e;
    return act_write_nchw(p->x, act_channels(dst, own, c->n_extra), c->extra, p->err);
}

/* *ret = conv_in of every row's input. */
static int run_in(struct unet_pass *p, int64_t h, int64_t w, struct stream *ret)
{
    const struct unet_arch *a = &p->trunk->arch;
    const struct blk_conv how = { .moments = &ret->moments };
    struct act in;
    int e = blk_new(p->x, p->n, h, w, a->in_channels, &in, p->err);
    if (e)
        return e;
    for (int64_t i = 0; i < p->n; i++)
        if ((e = write_input(p, &p->rows[i], act_samples(in, i, 1))))
            return e;
    if ((e = blk_new(p->x, p->n, h, w, a->channels[0], &ret->x, p->err)) ||
        (e = blk_conv(p->x, &p->trunk->conv_in, in, how, ret->x, p->err)))
        return e;
    act_free(p->x, &in);
    return 0;
}

static bool counts(const struct unet_block *b)
{
    return b->weight != 0 && !b->context->kv.zero;
}

static int kind_of(const struct unet_conditioning *c)
{
    int n = 0;
    bool plain = true;
    for (int i = 0; i < c->n_blocks; i++)
        if (counts(&c->blocks[i])) {
            n++;
            plain = plain && c->blocks[i].weight == 1 && !c->blocks[i].mask;
        }
    return !n ? 0 : n == 1 && plain ? 1 : 2;
}

/* Rows that attend to nothing, to one set as it is, and the others: as spatial_run wants them. */
static void order_rows(struct unet_pass *p, const struct unet_row *rows, int n)
{
    int at = 0;
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; i < n; i++)
            if (kind_of(rows[i].conditioning) == kind)
                p->rows[at++] = rows[i];
}

static int check_blocks(const struct unet_trunk *t, const struct weight_variant *variant,
                        const struct unet_conditioning *c, int row, struct dr_error *err)
{
    if (!c || c->n_blocks < 1 || c->n_blocks > UNET_BLOCKS)
        return dr_fail(err, DR_EINVAL, "row %d: %d blocks of keys and values, expected 1 to %d",
                       row, c ? c->n_blocks : 0, UNET_BLOCKS);
    for (int i = 0; i < c->n_blocks; i++) {
        const struct unet_context *context = c->blocks[i].context;
        if (!context || context->trunk != t || context->variant != weight_variant_serial(variant))
            return dr_fail(err, DR_EINVAL,
                           "row %d: its context was made for another network or variant", row);
        if (!isfinite(c->blocks[i].weight))
            return dr_fail(err, DR_EINVAL, "row %d: block %d has weight %g, expected a finite one",
                           row, i, c->blocks[i].weight);
    }
    return 0;
}

static int check_row(const struct unet_trunk *t, const struct weight_variant *variant,
                     const struct unet_row *row, int i, struct dr_error *err)
{
    const struct unet_conditioning *c = row->conditioning;
    int e = check_blocks(t, variant, c, i, err);
    if (e)
        return e;
    if (c->n_extra < 0 || c->n_extra >= t->arch.in_channels)
        return dr_fail(err, DR_EINVAL,
                       "row %d: %lld extra channels, expected less than the network's %lld", i,
                       (long long)c->n_extra, (long long)t->arch.in_channels);
    if (c->n_residuals < 0 || c->n_residuals > UNET_RESIDUALS)
        return dr_fail(err, DR_EINVAL, "row %d: residuals of %d networks, expected at most %d", i,
                       c->n_residuals, UNET_RESIDUALS);
    for (int r = 0; r < c->n_residuals; r++)
        if (c->residuals[r]->n_skips != t->n_skips || !isfinite(c->residuals[r]->weight))
            return dr_fail(err, DR_EINVAL,
                           "row %d: residuals for %d skips of weight %g, expected %d and a finite "
                           "one",
                           i, c->residuals[r]->n_skips, c->residuals[r]->weight, t->n_skips);
    return 0;
}

int unet_pass_begin(struct unet_pass *p, const struct unet_trunk *t, struct exec *x,
                    const struct unet_row *rows, int n, int64_t h, int64_t w, struct dr_error *err)
{
    int e = weight_variant_fits(x->variant, t, err);
    if (e)
        return e;
    if (n < 1 || n > UNET_ROWS || h < 1 || w < 1)
        return dr_fail(err, DR_EINVAL,
                       "%d rows of %lldx%lld: expected 1 to %d rows of 1x1 at least", n,
                       (long long)w, (long long)h, UNET_ROWS);
    for (int i = 0; i < n && !e; i++)
        e = check_row(t, x->variant, &rows[i], i, err);
    if (e)
        return e;
    p->trunk = t;
    p->x = x;
    p->n = n;
    p->n_skips = 0;
    p->err = err;
    order_rows(p, rows, n);
    return 0;
}

/* What the row attends to, its masks on the backend. */
static int collect_blocks(struct unet_pass *p, const struct unet_row *row, int64_t h, int64_t w,
                          struct kv_blocks *ret)
{
    const struct unet_conditioning *c = row->conditioning;
    int e = 0;
    ret->n = 0;
    ret->self = row->changes ? &row->changes->self : NULL;
    for (int i = 0; i < c->n_blocks && !e; i++) {
        const struct unet_block *b = &c->blocks[i];
        struct kv_block *k = &ret->block[ret->n];
        if (!counts(b))
            continue;
        ret->n++;
        *k = (struct kv_block){ .kv = &b->context->kv, .weight = b->weight };
        if (b->mask && !(e = blk_new(p->x, 1, h, w, 1, &k->mask, p->err)))
            e = act_write(p->x, k->mask, b->mask, p->err);
    }
    return e;
}

int unet_trunk_run(struct unet_pass *p, int64_t h, int64_t w, struct stream *ret)
{
    int e = 0;
    for (int64_t i = 0; i < p->n && !e; i++)
        e = collect_blocks(p, &p->rows[i], h, w, &p->kv[i]);
    if (e || (e = time_embedding(p)) || (e = run_in(p, h, w, ret)) || (e = run_down(p, ret)))
        return e;
    return run_mid(p, ret);
}

void unet_pass_end(struct unet_pass *p)
{
    act_free(p->x, &p->emb);
    for (int64_t i = 0; i < p->n; i++)
        for (int k = 0; k < p->kv[i].n; k++)
            act_free(p->x, &p->kv[i].block[k].mask);
}
