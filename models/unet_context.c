/* unet_context.c - what a UNet computes once for a prompt: keys and values of its cross attention,
 * the embedding of pooled text and time ids. See unet.h and unet_trunk.h. */
#include "models/unet_trunk.h"

#include "base/alloc.h"
#include "base/checked.h"
#include "models/adapters/weight_variant.h"
#include "models/timestep_embedding.h"

static int64_t context_floats(const struct unet_trunk *t, int64_t tokens)
{
    int64_t kv;
    if (tokens <= 0 || !dr_mul_i64(t->kv_columns, tokens, &kv) ||
        !dr_add_i64(kv, t->arch.time_dim, &kv) || kv > INT64_MAX / 8)
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
static int added_embedding(struct unet_trunk *t, struct exec *x, const float *pooled,
                           const float *time_ids, struct act dst, struct dr_error *err)
{
    const struct unet_arch *a = &t->arch;
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
        (e = blk_linear(x, &t->add1, in, (struct blk_linear){ .activation = ACT_SILU }, mid,
                        err)) ||
        (e = blk_linear(x, &t->add2, mid, (struct blk_linear){ 0 }, dst, err)))
        return e;
    act_free(x, &mid);
    act_free(x, &in);
    return 0;
}

static int level_text(const struct unet_level *l, struct exec *x, struct act text,
                      const struct kv_set *kv, struct dr_error *err)
{
    int e = 0;
    for (int i = 0; i < l->n && !e; i++)
        if (l->units[i].attends)
            e = spatial_text(&l->units[i].spatial, x, text, kv, err);
    return e;
}

static int levels_text(const struct unet_level *l, int n, struct exec *x, struct act text,
                       const struct kv_set *kv, struct dr_error *err)
{
    int e = 0;
    for (int i = 0; i < n && !e; i++)
        e = level_text(&l[i], x, text, kv, err);
    return e;
}

static int context_fill(const struct unet_trunk *t, const struct unet_level *up, int n_up,
                        struct exec *x, const float *text, struct unet_context *c,
                        struct dr_error *err)
{
    struct act in;
    int e;
    if ((e = blk_new(x, 1, 1, c->kv.tokens, t->arch.context, &in, err)) ||
        (e = act_write(x, in, text, err)) ||
        (e = levels_text(t->down, t->arch.levels, x, in, &c->kv, err)) ||
        (e = levels_text(&t->mid, 1, x, in, &c->kv, err)) ||
        (e = levels_text(up, n_up, x, in, &c->kv, err)))
        return e;
    act_free(x, &in);
    return 0;
}

int unet_context_make(struct unet_trunk *t, const struct unet_level *up, int n_up, struct exec *x,
                      const float *text, int64_t tokens, const float *pooled, const float *time_ids,
                      struct unet_context **ret, struct dr_error *err)
{
    int64_t floats = context_floats(t, tokens);
    int e = weight_variant_fits(x->variant, t, err);
    if (e)
        return e;
    if (!floats)
        return dr_fail(err, DR_EINVAL, "a context of %lld tokens", (long long)tokens);
    struct unet_context *c = dr_calloc(DR_TAG_JOB, 1, sizeof *c);
    if (!c)
        return dr_fail(err, DR_ENOMEM, "out of memory for a text context");
    c->trunk = t;
    c->variant = weight_variant_serial(x->variant);
    c->kv.tokens = tokens;
    c->kv.zero = t->keeps_zero && text && text_is_zero(text, tokens * t->arch.context);
    if (c->kv.zero)
        floats = t->arch.time_dim;
    c->kv.all.c = floats;
    e = workspace_new(x->be, unet_context_bytes(c), &c->ws, err);
    if (e)
        goto out;
    struct exec own = *x;
    own.ws = c->ws;
    if ((e = blk_new(&own, 1, 1, 1, floats, &c->kv.all, err)))
        goto out;
    c->added = act_channels(c->kv.all, floats - t->arch.time_dim, t->arch.time_dim);
    c->added.ld = c->added.c;
    if (t->arch.addition_time_dim && (e = added_embedding(t, x, pooled, time_ids, c->added, err)))
        goto out;
    if (!c->kv.zero && (e = context_fill(t, up, n_up, x, text, c, err)))
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

int unet_trunk_context_new(struct unet_trunk *t, struct exec *x, const float *text, int64_t tokens,
                           const float *pooled, const float *time_ids, struct unet_context **ret,
                           struct dr_error *err)
{
    return unet_context_make(t, NULL, 0, x, text, tokens, pooled, time_ids, ret, err);
}
