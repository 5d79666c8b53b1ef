/* batch_manager.c - see batch_manager.h. */
#include "inference/batch_manager.h"

#include <string.h>

#include "base/alloc.h"
#include "inference/denoise.h"
#include "models/unet.h"

struct batch {
    int most; /* rows of one forward */
    struct denoise **picture;
    int *first, *rows; /* of a picture: its rows in `row` */
    int n, cap;
    struct unet_row *row, *together; /* [row_cap]: of all pictures; of those that go together */
    bool *ran;                       /* [cap] */
    int row_cap;
};

int batch_new(int most, struct batch **ret, struct dr_error *err)
{
    struct batch *b = dr_calloc(DR_TAG_JOB, 1, sizeof *b);
    if (!b)
        return dr_fail(err, DR_ENOMEM, "out of memory for a batch");
    b->most = most;
    *ret = b;
    return 0;
}

void batch_free(struct batch *b)
{
    if (!b)
        return;
    dr_free(b->picture);
    dr_free(b->first);
    dr_free(b->rows);
    dr_free(b->ran);
    dr_free(b->row);
    dr_free(b->together);
    dr_free(b);
}

/* p, grown to count elements; NULL leaves the old one. */
static void *grown(void *p, int count, size_t size)
{
    return dr_realloc(DR_TAG_JOB, p, (size_t)count * size);
}

static int reserve_pictures(struct batch *b)
{
    int cap = b->cap ? 2 * b->cap : 4;
    if (b->n < b->cap)
        return 0;
    void *picture = grown(b->picture, cap, sizeof(void *));
    b->picture = picture ? picture : b->picture;
    void *first = grown(b->first, cap, sizeof *b->first);
    b->first = first ? first : b->first;
    void *rows = grown(b->rows, cap, sizeof *b->rows);
    b->rows = rows ? rows : b->rows;
    void *ran = grown(b->ran, cap, sizeof *b->ran);
    b->ran = ran ? ran : b->ran;
    if (!picture || !first || !rows || !ran)
        return DR_ENOMEM;
    b->cap = cap;
    return 0;
}

static int reserve_rows(struct batch *b, int count)
{
    if (count <= b->row_cap)
        return 0;
    void *row = grown(b->row, count, sizeof *b->row);
    b->row = row ? row : b->row;
    void *together = grown(b->together, count, sizeof *b->together);
    b->together = together ? together : b->together;
    if (!row || !together)
        return DR_ENOMEM;
    b->row_cap = count;
    return 0;
}

int batch_add(struct batch *b, struct denoise *picture, struct dr_error *err)
{
    int rows = denoise_rows_most(picture);
    for (int i = 0; i < b->n; i++)
        rows += denoise_rows_most(b->picture[i]);
    if (reserve_pictures(b) || reserve_rows(b, rows))
        return dr_fail(err, DR_ENOMEM, "out of memory for a batch of %d pictures", b->n + 1);
    b->picture[b->n++] = picture;
    return 0;
}

void batch_remove(struct batch *b, struct denoise *picture)
{
    int kept = 0;
    for (int i = 0; i < b->n; i++)
        if (b->picture[i] != picture)
            b->picture[kept++] = b->picture[i];
    b->n = kept;
}

/* Asks all pictures; the finished ones leave. */
static void collect(struct batch *b)
{
    int kept = 0, row = 0;
    for (int i = 0; i < b->n; i++) {
        int rows = denoise_rows(b->picture[i], b->row + row);
        if (!rows)
            continue;
        b->picture[kept] = b->picture[i];
        b->first[kept] = row;
        b->rows[kept++] = rows;
        row += rows;
    }
    b->n = kept;
}

static bool go_together(const struct denoise *a, const struct denoise *b)
{
    int64_t ah, aw, bh, bw;
    denoise_size(a, &ah, &aw);
    denoise_size(b, &bh, &bw);
    return ah == bh && aw == bw && denoise_unet(a) == denoise_unet(b) &&
           denoise_variant(a) == denoise_variant(b);
}

/* The rows of all pictures that go with the leader, in their order. */
static int forward(struct batch *b, int leader, struct exec *x, struct dr_error *err)
{
    int64_t h, w;
    int count = 0, r = 0;
    for (int i = leader; i < b->n; i++) {
        if (b->ran[i] || !go_together(b->picture[leader], b->picture[i]))
            continue;
        memcpy(b->together + count, b->row + b->first[i], (size_t)b->rows[i] * sizeof *b->row);
        count += b->rows[i];
        b->ran[i] = true;
    }
    denoise_size(b->picture[leader], &h, &w);
    struct exec own = *x;
    own.variant = denoise_variant(b->picture[leader]);
    for (int first = 0; !r && first < count; first += b->most) {
        int rows = count - first < b->most ? count - first : b->most;
        r = unet_forward(denoise_unet(b->picture[leader]), &own, b->together + first, rows, h, w,
                         err);
    }
    if (r < 0)
        workspace_reset(x->ws); /* of what the forward had not freed */
    return r;
}

/* Runs the rows of all pictures that were asked. */
static int forward_all(struct batch *b, struct exec *x, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; i < b->n; i++)
        b->ran[i] = false;
    for (int i = 0; !r && i < b->n; i++)
        if (!b->ran[i])
            r = forward(b, i, x, err);
    return r;
}

/* Guides all predictions; one that is not finite takes its picture out of the batch. */
static int combine_all(struct batch *b, struct denoise **ret_failed, struct dr_error *err)
{
    for (int i = 0; i < b->n; i++) {
        struct denoise *picture = b->picture[i];
        int r = denoise_combine(picture, err);
        if (r < 0) {
            batch_remove(b, picture);
            *ret_failed = picture;
            return r;
        }
    }
    return 0;
}

/* The next level for every picture; one that fails takes itself out, the others still advance. */
static int advance_all(struct batch *b, struct denoise **ret_failed, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; i < b->n; i++) {
        struct dr_error own = { 0 };
        int code = denoise_advance(b->picture[i], &own);
        if (code < 0 && !r) {
            r = code;
            *ret_failed = b->picture[i];
            if (err)
                *err = own;
        }
    }
    if (r < 0)
        batch_remove(b, *ret_failed);
    return r;
}

int batch_forward(struct batch *b, struct exec *x, struct dr_error *err)
{
    collect(b);
    return forward_all(b, x, err);
}

int batch_step(struct batch *b, struct exec *x, const struct batch_hooks *hooks, int *ret_stepped,
               struct denoise **ret_failed, struct dr_error *err)
{
    static const struct batch_hooks none;
    const struct batch_hooks *on = hooks ? hooks : &none;
    bool skip = false;
    *ret_failed = NULL;
    *ret_stepped = 0;
    if (x->stop && atomic_load(x->stop))
        return dr_fail(err, DR_ECANCELED, "cancelled");
    collect(b);
    if (!b->n)
        return 0;
    int r = on->input ? on->input(on->ctx, &skip, err) : 0;
    if (!r && !skip)
        r = forward_all(b, x, err);
    if (!r && !skip)
        r = combine_all(b, ret_failed, err);
    if (!r && on->pred)
        r = on->pred(on->ctx, err);
    if (!r)
        r = advance_all(b, ret_failed, err);
    if (!r && on->latents)
        r = on->latents(on->ctx, err);
    *ret_stepped = r < 0 ? 0 : b->n;
    return r;
}
