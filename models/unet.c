/* unet.c - see unet.h.
 *
 * The trunk (unet_trunk.h) goes down and pushes skips; going up each unit takes one. The stack of
 * channel counts sizes the layers in unet_new. Sizes going up are the skips' own, so odd pictures
 * need nothing special.
 */
#include "models/unet.h"

#include <stdio.h>

#include "base/alloc.h"
#include "models/unet_trunk.h"

struct unet {
    struct unet_trunk trunk; /* first: contexts and variants know the network by its address */
    struct unet_level up[ARCH_LEVELS]; /* in order of execution, coarsest first */
    struct layer norm_out, conv_out;
};

/* ---- construction ---- */

static int init_up(struct unet *u, struct dr_error *err)
{
    const struct unet_arch *a = &u->trunk.arch;
    int64_t in = a->channels[a->levels - 1];
    int skip = u->trunk.n_skips, e;
    for (int i = 0; i < a->levels; i++) {
        int level = a->levels - 1 - i;
        struct unet_level *l = &u->up[i];
        int64_t c = a->channels[level];
        if ((e = unet_level_init(l, a->layers[level] + 1, err)))
            return e;
        for (int j = 0; j < l->n; j++, in = c)
            if ((e = unet_unit_init(&u->trunk, &l->units[j], in + u->trunk.skips[--skip], c, level,
                                    a->up_depth[level][j], err)))
                return e;
            else
                l->units[j].spatial.at = (struct self_place){ SELF_UP, i, j, -1 };
        if (level) {
            l->samples = true;
            l->sampler = layer_upsampler(c);
        }
    }
    return 0;
}

int unet_new(const struct unet_arch *arch, struct unet **ret, struct dr_error *err)
{
    struct unet *u = dr_calloc(DR_TAG_MODEL, 1, sizeof *u);
    if (!u)
        return dr_fail(err, DR_ENOMEM, "out of memory for the UNet's structure");
    int e = unet_trunk_init(&u->trunk, arch, err);
    if (!e)
        e = init_up(u, err);
    if (e) {
        unet_free(u);
        return e;
    }
    u->norm_out = layer_norm_of(arch->channels[0]);
    u->conv_out = layer_keep_f32(layer_conv(arch->channels[0], arch->out_channels, 3));
    *ret = u;
    return 0;
}

void unet_free(struct unet *u)
{
    if (!u)
        return;
    params_unprepare(u, unet_visit);
    unet_trunk_release(&u->trunk);
    for (int i = 0; i < ARCH_LEVELS; i++)
        unet_level_release(&u->up[i]);
    dr_free(u);
}

const struct unet_arch *unet_arch(const struct unet *u)
{
    return &u->trunk.arch;
}

int unet_visit(void *unet, const struct visitor *v)
{
    struct unet *u = unet;
    char name[PARAM_NAME];
    int e = unet_trunk_visit(&u->trunk, v);
    for (int i = 0; i < u->trunk.arch.levels && !e; i++) {
        snprintf(name, sizeof name, "up_blocks.%d", i);
        e = unet_level_visit(&u->up[i], v, name, "upsamplers");
    }
    if (e || (e = visit_layer(v, &u->norm_out, "conv_norm_out")))
        return e;
    return visit_layer(v, &u->conv_out, "conv_out");
}

int unet_context_new(struct unet *u, struct exec *x, const float *text, int64_t tokens,
                     const float *pooled, const float *time_ids, struct unet_context **ret,
                     struct dr_error *err)
{
    return unet_context_make(&u->trunk, u->up, u->trunk.arch.levels, x, text, tokens, pooled,
                             time_ids, ret, err);
}

static const struct unet_level *level_at(const struct unet *u, int part, int i)
{
    bool there = part == SELF_MID ? i == 0 : i < u->trunk.arch.levels;
    return !there              ? NULL
           : part == SELF_DOWN ? &u->trunk.down[i]
           : part == SELF_UP   ? &u->up[i]
                               : &u->trunk.mid;
}

bool unet_has_transformer(const struct unet *u, const struct self_place *at)
{
    const struct unet_level *l;
    for (int i = 0; (l = level_at(u, at->part, i)); i++)
        for (int j = 0; j < l->n; j++)
            if ((at->level < 0 || at->level == i) && (at->unit < 0 || at->unit == j) &&
                l->units[j].attends && at->block < l->units[j].spatial.depth)
                return true;
    return false;
}

/* ---- forward ---- */

/* io += the rows' residuals: of the skip of that number, or of the middle for one past the last. */
static int add_residuals(struct unet_pass *p, int skip, struct act io)
{
    int e = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const struct unet_conditioning *c = p->rows[i].conditioning;
        struct act sample = act_samples(io, i, 1);
        for (int r = 0; r < c->n_residuals && !e; r++) {
            const struct unet_residuals *all = c->residuals[r];
            struct act one = skip < all->n_skips ? all->skips[skip] : all->middle;
            if (one.buf)
                e = blk_weigh(p->x, one, all->weight, (struct act){ 0 }, sample, sample, p->err);
        }
    }
    return e;
}

/* FreeU's factors of what comes up and of the skip, for the rows that ask for them. */
static int free_rows(struct unet_pass *p, int level, struct act up, struct act skip)
{
    int e = 0;
    for (int64_t i = 0; i < p->n && level < 2 && !e; i++) {
        const struct unet_changes *c = p->rows[i].changes;
        struct act half = act_channels(act_samples(up, i, 1), 0, up.c / 2);
        if (!c || !c->freeu.on)
            continue;
        if (half.c)
            e = blk_weigh(p->x, half, c->freeu.backbone[level], (struct act){ 0 },
                          (struct act){ 0 }, half, p->err);
        if (!e)
            e = blk_low_scale(p->x, c->freeu.skip[level], act_samples(skip, i, 1), p->err);
    }
    return e;
}

static int run_up(const struct unet *u, struct unet_pass *p, struct stream *y)
{
    int e;
    for (int i = 0; i < u->trunk.arch.levels; i++) {
        const struct unet_level *l = &u->up[i];
        for (int j = 0; j < l->n; j++) {
            struct stream in = { .x = { 0 } };
            struct act skip = p->skips[--p->n_skips], left = y->x;
            struct blk_way way = { .moments = p->n_skips == 0 };
            if ((e = add_residuals(p, p->n_skips, skip)) || (e = free_rows(p, i, left, skip)) ||
                (e = blk_concat(p->x, &left, &skip, &in.x, p->err)))
                return e;
            if ((e = unet_unit_run(p, &l->units[j], &in, way, y)))
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

static int run_out(const struct unet *u, struct unet_pass *p, struct stream *y)
{
    const struct unet_arch *a = &u->trunk.arch;
    const struct blk_norm norm = { a->groups, a->eps, ACT_SILU };
    struct act out;
    int e;
    if ((e = blk_group_norm(p->x, &u->norm_out, y, norm, y->x, p->err)) ||
        (e = blk_new(p->x, y->x.n, y->x.h, y->x.w, a->out_channels, &out, p->err)) ||
        (e = blk_conv(p->x, &u->conv_out, y->x, (struct blk_conv){ 0 }, out, p->err)))
        return e;
    for (int64_t i = 0; i < p->n; i++)
        if ((e = act_read_nchw(p->x, act_samples(out, i, 1), p->rows[i].pred, p->err)))
            return e;
    act_free(p->x, &out);
    act_free(p->x, &y->moments);
    act_free(p->x, &y->x);
    return 0;
}

int unet_forward(struct unet *u, struct exec *x, const struct unet_row *rows, int n, int64_t h,
                 int64_t w, struct dr_error *err)
{
    struct unet_pass p;
    struct stream y;
    int e;
    if ((e = unet_pass_begin(&p, &u->trunk, x, rows, n, h, w, err)) ||
        (e = unet_trunk_run(&p, h, w, &y)) || (e = add_residuals(&p, p.n_skips, y.x)) ||
        (e = run_up(u, &p, &y)) || (e = run_out(u, &p, &y)))
        return e;
    unet_pass_end(&p);
    return 0;
}
