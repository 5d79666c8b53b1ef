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
    const float *latents; /* of the sample, [latent_channels, h, w] */
    float *image;         /* of the sample, [channels, h * factor, w * factor] */
    int64_t latent_channels, channels, factor;
    int64_t h, w, tile, step, columns; /* latents; columns: tiles in a row */
    int64_t blend, limit;              /* pixels: the ramp; what a tile gives to the picture */
    float *block, *latent, *strips;    /* all memory; a tile's latents; [columns] strips */
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

static struct tiler tiler_of(const struct vae *v, int64_t tile, int64_t h, int64_t w)
{
    const struct vae_arch *a = vae_arch(v);
    struct tiler t = { .h = h, .w = w, .tile = tile };
    t.latent_channels = a->latent_channels;
    t.channels = a->out_channels;
    t.factor = vae_factor(v);
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
    int64_t edge = t->tile * t->factor, strips, sum;
    if (!dr_mul_i64(strip_floats(t), t->columns + 1, &strips) ||
        !dr_add_i64(strips, t->channels * edge * edge, &sum) ||
        !dr_add_i64(sum, t->latent_channels * t->tile * t->tile, &sum) || sum > INT64_MAX / 8)
        return 0;
    return (size_t)sum * sizeof(float);
}

size_t vae_manager_bytes(const struct vae *v, struct vae_tiling how, int64_t h, int64_t w)
{
    how = vae_tiling_effective(how, v, h, w);
    if (how.mode == VAE_TILING_OFF || !tile_valid(how.tile) || h > EDGE_MAX || w > EDGE_MAX)
        return 0;
    struct tiler t = tiler_of(v, how.tile, h, w);
    return tiler_bytes(&t);
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
            memcpy(t->image + (c * h + top + y) * w + left,
                   t->now.data + (c * t->now.h + y) * t->now.w, (size_t)width * sizeof *t->image);
}

static int tile_decode(struct tiler *t, int64_t i, int64_t j, struct dr_error *err)
{
    int64_t h = least(t->tile, t->h - i), w = least(t->tile, t->w - j);
    t->now.h = h * t->factor;
    t->now.w = w * t->factor;
    if (backend_is_plan(t->x->be))
        return vae_decode(t->v, t->x, NULL, 1, h, w, NULL, err);
    for (int64_t c = 0; c < t->latent_channels; c++)
        for (int64_t y = 0; y < h; y++)
            memcpy(t->latent + (c * h + y) * w, t->latents + (c * t->h + i + y) * t->w + j,
                   (size_t)w * sizeof *t->latent);
    return vae_decode(t->v, t->x, t->latent, 1, h, w, t->now.data, err);
}

/* Row and column of tiles, counted in tiles. */
static int tile_run(struct tiler *t, int64_t row, int64_t column, struct dr_error *err)
{
    int e = tile_decode(t, row * t->step, column * t->step, err);
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

int vae_manager_decode(struct vae *v, struct exec *x, struct vae_tiling how, const float *latents,
                       int64_t n, int64_t h, int64_t w, float *ret_image, struct dr_error *err)
{
    if (how.tile && !tile_valid(how.tile))
        return dr_fail(err, DR_EINVAL,
                       "tiles of %lld latents: expected a multiple of 4 from %d to %d",
                       (long long)how.tile, VAE_TILE_MIN, VAE_TILE_MAX);
    how = vae_tiling_effective(how, v, h, w);
    if (how.mode == VAE_TILING_OFF || h < 1 || w < 1 || h > EDGE_MAX || w > EDGE_MAX)
        return vae_decode(v, x, latents, n, h, w, ret_image, err);
    struct tiler t = tiler_of(v, how.tile, h, w);
    t.v = v;
    t.x = x;
    size_t bytes = tiler_bytes(&t);
    bool plan = backend_is_plan(x->be);
    if (!plan && !(t.block = bytes ? dr_malloc(DR_TAG_JOB, bytes) : NULL))
        return dr_fail(err, DR_ENOMEM, "out of memory for the tiles of a %lldx%lld decode",
                       (long long)w, (long long)h);
    if (!plan) {
        t.strips = t.block;
        t.left.data = t.strips + t.columns * strip_floats(&t);
        t.latent = t.left.data + strip_floats(&t);
        t.now.data = t.latent + t.latent_channels * t.tile * t.tile;
    }
    int e = 0;
    for (int64_t i = 0; i < n && !e; i++) {
        if (!plan) {
            t.latents = latents + i * t.latent_channels * h * w;
            t.image = ret_image + i * t.channels * h * w * t.factor * t.factor;
        }
        e = sample_run(&t, err);
    }
    dr_free(t.block);
    return e;
}
