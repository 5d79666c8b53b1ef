/* vae_manager.c - see vae_manager.h.
 *
 * Tiles are visited in rows. A tile's top and left edges are blended with the tiles above and to
 * the left, which are themselves blended already, as in the reference; of those only the strips
 * that will be blended are kept: the bottom of every tile of the row above, and the right of the
 * tile before.
 */
#include "models/vae_manager.h"

#include <string.h>

#include "base/alloc.h"
#include "base/checked.h"

enum { EDGE_MAX = 1 << 24 /* latents; what is longer is left to vae_decode to refuse */ };

struct picture {
    float *data; /* [channels, h, w] */
    int64_t h, w;
};

struct tiler {
    struct vae *v;
    struct exec *x;
    bool encodes;
    const float *from; /* of the sample, [from_channels, h * from_factor, w * from_factor] */
    float *to;         /* of the sample, [channels, h * factor, w * factor] */
    int64_t from_channels, from_factor, channels, factor;
    int64_t h, w, tile, step, columns; /* latents; columns: tiles in a row */
    int64_t blend, limit;              /* of the result: the ramp; what a tile gives to it */
    float *block, *cut, *strips;       /* all memory; a tile of the source; [columns] strips */
    struct picture now, left;          /* left: the last `blend` columns of the tile before */
};

struct vae_tiling vae_tiling_effective(struct vae_tiling wanted, const struct vae *v, int64_t h,
                                       int64_t w)
{
    double f = (double)vae_factor(v), pixels = (double)h * f * (double)w * f;
    struct vae_tiling how = { wanted.mode, wanted.tile ? wanted.tile : VAE_TILE };
    if (how.mode == VAE_TILING_AUTO)
        how.mode = pixels > VAE_TILING_PIXELS ? VAE_TILING_ON : VAE_TILING_OFF;
    if (h <= how.tile && w <= how.tile)
        how.mode = VAE_TILING_OFF;
    return how;
}

/* Multiples of 4, so that a quarter of a tile is whole in latents and in pixels. */
static bool tile_valid(int64_t tile)
{
    return tile >= VAE_TILE_MIN && tile <= VAE_TILE_MAX && tile % 4 == 0;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static struct tiler tiler_of(const struct vae *v, bool encodes, int64_t tile, int64_t h, int64_t w)
{
    const struct vae_arch *a = vae_arch(v);
    struct tiler t = { .encodes = encodes, .h = h, .w = w, .tile = tile };
    t.from_channels = encodes ? a->in_channels : a->latent_channels;
    t.from_factor = encodes ? vae_factor(v) : 1;
    t.channels = encodes ? vae_moments(a) : a->out_channels;
    t.factor = encodes ? 1 : vae_factor(v);
    t.step = tile * 3 / 4;
    t.blend = tile * t.factor / 4;
    t.limit = tile * t.factor - t.blend;
    t.columns = (w + t.step - 1) / t.step;
    return t;
}

static int64_t strip_floats(const struct tiler *t)
{
    return t->channels * t->blend * t->tile * t->factor;
}

/* 0 when it does not fit. */
static size_t tiler_bytes(const struct tiler *t)
{
    int64_t edge = t->tile * t->factor, from = t->tile * t->from_factor, strips, sum;
    if (!dr_mul_i64(strip_floats(t), t->columns + 1, &strips) ||
        !dr_add_i64(strips, t->channels * edge * edge, &sum) ||
        !dr_add_i64(sum, t->from_channels * from * from, &sum) || sum > INT64_MAX / 8)
        return 0;
    return (size_t)sum * sizeof(float);
}

static size_t bytes_of(const struct vae *v, bool encodes, struct vae_tiling how, int64_t h,
                       int64_t w)
{
    how = vae_tiling_effective(how, v, h, w);
    if (how.mode == VAE_TILING_OFF || !tile_valid(how.tile) || h > EDGE_MAX || w > EDGE_MAX)
        return 0;
    struct tiler t = tiler_of(v, encodes, how.tile, h, w);
    return tiler_bytes(&t);
}

size_t vae_manager_bytes(const struct vae *v, struct vae_tiling how, int64_t h, int64_t w)
{
    return bytes_of(v, false, how, h, w);
}

size_t vae_manager_encode_bytes(const struct vae *v, struct vae_tiling how, int64_t h, int64_t w)
{
    return bytes_of(v, true, how, h, w);
}

/* dst = old * (1 - at) + dst * at, the weights rounded to float32 as the reference does. */
static void mix(float *dst, const float *old, int64_t n, double at)
{
    float before = (float)(1 - at), now = (float)at;
    for (int64_t i = 0; i < n; i++)
        dst[i] = old[i] * before + dst[i] * now;
}

/* The bottom of `above` fades into the top of `b`. */
static void blend_down(const struct tiler *t, struct picture above, struct picture b)
{
    int64_t extent = least(least(above.h, b.h), t->blend);
    for (int64_t c = 0; c < t->channels; c++)
        for (int64_t y = 0; y < extent; y++)
            mix(b.data + (c * b.h + y) * b.w,
                above.data + (c * above.h + above.h - extent + y) * above.w, b.w,
                (double)y / (double)extent);
}

/* The right of `left` fades into the left of `b`. */
static void blend_right(const struct tiler *t, struct picture left, struct picture b)
{
    int64_t extent = least(least(left.w, b.w), t->blend);
    for (int64_t row = 0; row < t->channels * b.h; row++)
        for (int64_t i = 0; i < extent; i++)
            mix(b.data + row * b.w + i, left.data + row * left.w + left.w - extent + i, 1,
                (double)i / (double)extent);
}

/* The last rows or columns of `from`. */
static struct picture tail(const struct tiler *t, struct picture from, int64_t h, int64_t w,
                           float *data)
{
    struct picture to = { .h = h, .w = w };
    to.data = data;
    for (int64_t c = 0; c < t->channels; c++)
        for (int64_t y = 0; y < h; y++)
            memcpy(to.data + (c * h + y) * w,
                   from.data + (c * from.h + from.h - h + y) * from.w + from.w - w,
                   (size_t)w * sizeof *data);
    return to;
}

static void place(const struct tiler *t, int64_t top, int64_t left)
{
    int64_t h = t->h * t->factor, w = t->w * t->factor;
    int64_t rows = least(t->now.h, t->limit), width = least(t->now.w, t->limit);
    for (int64_t c = 0; c < t->channels; c++)
        for (int64_t y = 0; y < rows; y++)
            memcpy(t->to + (c * h + top + y) * w + left,
                   t->now.data + (c * t->now.h + y) * t->now.w, (size_t)width * sizeof *t->to);
}

/* The part of the source at row i and column j, which is h x w, in latents. */
static void cut_tile(const struct tiler *t, int64_t i, int64_t j, int64_t h, int64_t w)
{
    int64_t f = t->from_factor;
    for (int64_t c = 0; c < t->from_channels; c++)
        for (int64_t y = 0; y < h * f; y++)
            memcpy(t->cut + (c * h * f + y) * w * f,
                   t->from + (c * t->h * f + i * f + y) * t->w * f + j * f,
                   (size_t)(w * f) * sizeof *t->cut);
}

static int tile_compute(struct tiler *t, int64_t i, int64_t j, struct dr_error *err)
{
    int64_t h = least(t->tile, t->h - i), w = least(t->tile, t->w - j), f = t->from_factor;
    bool plan = backend_is_plan(t->x->be);
    t->now.h = h * t->factor;
    t->now.w = w * t->factor;
    if (!plan)
        cut_tile(t, i, j, h, w);
    return t->encodes ? vae_encode(t->v, t->x, t->cut, 1, h * f, w * f, t->now.data, err)
                      : vae_decode(t->v, t->x, t->cut, 1, h, w, t->now.data, err);
}

/* Row and column of tiles, counted in tiles. */
static int tile_run(struct tiler *t, int64_t row, int64_t column, struct dr_error *err)
{
    int e = tile_compute(t, row * t->step, column * t->step, err);
    if (e || backend_is_plan(t->x->be))
        return e;
    struct picture strip = { t->strips + column * strip_floats(t), t->blend, t->now.w };
    if (row > 0)
        blend_down(t, strip, t->now);
    if (column > 0)
        blend_right(t, t->left, t->now);
    tail(t, t->now, least(t->now.h, t->blend), t->now.w, strip.data);
    t->left = tail(t, t->now, t->now.h, least(t->now.w, t->blend), t->left.data);
    place(t, row * t->limit, column * t->limit);
    return 0;
}

static int sample_run(struct tiler *t, struct dr_error *err)
{
    for (int64_t row = 0; row * t->step < t->h; row++)
        for (int64_t column = 0; column < t->columns; column++) {
            int e = tile_run(t, row, column, err);
            if (e)
                return e;
        }
    return 0;
}

/* All samples, in tiles of that many latents. */
static int run_tiled(struct tiler *t, const float *from, int64_t n, float *to, struct dr_error *err)
{
    int64_t f = t->from_factor;
    int e = 0;
    size_t bytes = tiler_bytes(t);
    bool plan = backend_is_plan(t->x->be);
    if (!plan && !(t->block = bytes ? dr_malloc(DR_TAG_JOB, bytes) : NULL))
        return dr_fail(err, DR_ENOMEM, "out of memory for the tiles of a %lldx%lld picture",
                       (long long)(t->w * f * t->factor), (long long)(t->h * f * t->factor));
    if (!plan) {
        t->strips = t->block;
        t->left.data = t->strips + t->columns * strip_floats(t);
        t->cut = t->left.data + strip_floats(t);
        t->now.data = t->cut + t->from_channels * t->tile * f * t->tile * f;
    }
    for (int64_t i = 0; i < n && !e; i++) {
        if (!plan) {
            t->from = from + i * t->from_channels * t->h * f * t->w * f;
            t->to = to + i * t->channels * t->h * t->w * t->factor * t->factor;
        }
        e = sample_run(t, err);
    }
    dr_free(t->block);
    return e;
}

static int check_tile(struct vae_tiling how, struct dr_error *err)
{
    return how.tile && !tile_valid(how.tile)
               ? dr_fail(err, DR_EINVAL,
                         "tiles of %lld latents: expected a multiple of 4 from %d to %d",
                         (long long)how.tile, VAE_TILE_MIN, VAE_TILE_MAX)
               : 0;
}

static bool is_whole(struct vae_tiling how, int64_t h, int64_t w)
{
    return how.mode == VAE_TILING_OFF || h < 1 || w < 1 || h > EDGE_MAX || w > EDGE_MAX;
}

int vae_manager_decode(struct vae *v, struct exec *x, struct vae_tiling how, const float *latents,
                       int64_t n, int64_t h, int64_t w, float *ret_image, struct dr_error *err)
{
    int r = check_tile(how, err);
    if (r < 0)
        return r;
    how = vae_tiling_effective(how, v, h, w);
    if (is_whole(how, h, w))
        return vae_decode(v, x, latents, n, h, w, ret_image, err);
    struct tiler t = tiler_of(v, false, how.tile, h, w);
    t.v = v;
    t.x = x;
    return run_tiled(&t, latents, n, ret_image, err);
}

int vae_manager_encode(struct vae *v, struct exec *x, struct vae_tiling how, const float *image,
                       int64_t n, int64_t h, int64_t w, float *ret_moments, struct dr_error *err)
{
    int r = check_tile(how, err);
    if (r < 0)
        return r;
    int64_t f = vae_factor(v);
    how = vae_tiling_effective(how, v, h, w);
    if (is_whole(how, h, w))
        return vae_encode(v, x, image, n, h * f, w * f, ret_moments, err);
    struct tiler t = tiler_of(v, true, how.tile, h, w);
    t.v = v;
    t.x = x;
    return run_tiled(&t, image, n, ret_moments, err);
}
