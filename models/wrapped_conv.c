/* wrapped_conv.c - see wrapped_conv.h. */
#include "models/wrapped_conv.h"

static int wrap(struct exec *x, struct act src, int rows, int columns, struct act dst,
                struct dr_error *err)
{
    struct op op = {
        .kind = OP_KIND_wrap, .dst = dst, .src = src, .pad_low = rows, .pad_high = columns
    };
    return op_run(x, &op, err);
}

/* *ret = src with `before` rows of its end before it, and `more` rows in all, on axes that wrap. */
static int widen(struct exec *x, struct act src, int before, int more, struct act *ret,
                 struct dr_error *err)
{
    int down = x->wrap & EXEC_WRAP_Y ? 1 : 0, across = x->wrap & EXEC_WRAP_X ? 1 : 0;
    int e = act_new(x, src.dtype, src.n, src.h + down * more, src.w + across * more, src.c, ret,
                    err);
    return e ? e : wrap(x, src, -down * before, -across * before, *ret, err);
}

/* What is the same without wrapping. */
static struct exec plainly(const struct exec *x)
{
    struct exec plain = *x;
    plain.wrap = 0;
    return plain;
}

int wrapped_conv(struct exec *x, const struct layer *l, struct act src, struct blk_conv how,
                 struct act dst, struct dr_error *err)
{
    bool half = l->desc.downsamples;
    int down = x->wrap & EXEC_WRAP_Y ? 1 : 0, across = x->wrap & EXEC_WRAP_X ? 1 : 0;
    int64_t more = half ? 1 : 2; /* rows of the result */
    struct blk_conv own = { .channel_add = how.channel_add };
    struct act wide, result, cut = dst;
    struct exec plain = plainly(x);
    int e;
    if (how.moments)
        *how.moments = (struct act){ .buf = NULL };
    if ((e = widen(x, src, half ? 2 : 1, 2, &wide, err)) ||
        (e = blk_new(x, dst.n, dst.h + down * more, dst.w + across * more, dst.c, &result, err)) ||
        (e = blk_conv(&plain, l, wide, own, result, err)) ||
        (how.residual.buf && (e = blk_new(x, dst.n, dst.h, dst.w, dst.c, &cut, err))) ||
        (e = wrap(x, result, down, across, cut, err)) ||
        (how.residual.buf && (e = blk_weigh(x, cut, 1, (struct act){ 0 }, how.residual, dst, err))))
        return e;
    if (how.residual.buf)
        act_free(x, &cut);
    act_free(x, &result);
    act_free(x, &wide);
    return 0;
}

int wrapped_upsample(struct exec *x, const struct layer *l, struct act src, struct act dst,
                     struct dr_error *err)
{
    int down = x->wrap & EXEC_WRAP_Y ? 1 : 0, across = x->wrap & EXEC_WRAP_X ? 1 : 0;
    struct act wide, result;
    struct exec plain = plainly(x);
    int e;
    if ((down && dst.h != 2 * src.h) || (across && dst.w != 2 * src.w))
        return dr_fail(err, DR_EINVAL, "a picture of %lldx%lld does not tile at half its size",
                       (long long)dst.w, (long long)dst.h);
    if ((e = widen(x, src, 1, 2, &wide, err)) ||
        (e = blk_new(x, dst.n, dst.h + 4 * down, dst.w + 4 * across, dst.c, &result, err)) ||
        (e = blk_upsample(&plain, l, wide, result, NULL, err)) ||
        (e = wrap(x, result, 2 * down, 2 * across, dst, err)))
        return e;
    act_free(x, &result);
    act_free(x, &wide);
    return 0;
}
