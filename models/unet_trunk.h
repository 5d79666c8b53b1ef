/* unet_trunk.h - the way down and the middle of a UNet, which a ControlNet has too: first
 * convolution, time embedding, levels going down, middle.
 *
 * A trunk is a value with one visit function and one run, so it is loaded and packed alone or as
 * the first part of a UNet. What UNet and ControlNet share belongs here: levels, rows, contexts;
 * the way up is in unet.c.
 */
#ifndef DR_MODELS_UNET_TRUNK_H
#define DR_MODELS_UNET_TRUNK_H

#include "models/blocks.h"
#include "models/unet.h"

/* A residual block, perhaps followed by a transformer. */
struct unet_unit {
    struct resnet resnet;
    bool attends;
    struct spatial spatial;
};

struct unet_level {
    int n;
    struct unet_unit *units; /* [n], owned */
    bool samples;
    struct layer sampler;
};

struct unet_trunk {
    struct unet_arch arch;
    struct layer conv_in, time1, time2, add1, add2;
    struct unet_level down[ARCH_LEVELS], mid;
    int64_t skips[UNET_SKIPS]; /* channels of what is kept for the way up, in order */
    int n_skips;
    int64_t kv_columns; /* of all transformer blocks of the network, per token */
    bool keeps_zero;    /* a text of zeros has keys and values of zeros */
};

/* DR_EINVAL for an architecture that is not possible, DR_ENOMEM. unet_trunk_release takes a
 * partially initialised one, or zeros. */
int unet_trunk_init(struct unet_trunk *t, const struct unet_arch *arch, struct dr_error *err);
void unet_trunk_release(struct unet_trunk *t);
int unet_trunk_visit(void *trunk, const struct visitor *v);

/* Values that are computed once for a prompt. */
struct unet_context {
    const struct unet_trunk *trunk;
    uint64_t variant; /* that it was computed with, by its serial */
    struct workspace *ws;
    struct kv_set kv;
    struct act
        added; /* [1, 1, 1, time_dim]: pooled text and time ids, added to the time embedding */
};

/* The context of a prompt for a trunk alone; see unet_context_new. */
int unet_trunk_context_new(struct unet_trunk *t, struct exec *x, const float *text, int64_t tokens,
                           const float *pooled, const float *time_ids, struct unet_context **ret,
                           struct dr_error *err);

/* One forward: what its blocks share. */
struct unet_pass {
    const struct unet_trunk *trunk;
    struct exec *x;
    int64_t n;
    struct unet_row rows[UNET_ROWS]; /* in the order of samples: unet_pass_begin sorts them */
    struct kv_blocks kv[UNET_ROWS];
    struct act emb; /* silu(time embedding) [n, 1, 1, time_dim] */
    struct act skips[UNET_SKIPS];
    int n_skips;
    struct dr_error *err;
};

/* DR_EINVAL for a row that does not fit the trunk. */
int unet_pass_begin(struct unet_pass *p, const struct unet_trunk *t, struct exec *x,
                    const struct unet_row *rows, int n, int64_t h, int64_t w, struct dr_error *err);
/* Fills p->skips; *ret is the middle's result, without the rows' residuals. Both are the caller's.
 */
int unet_trunk_run(struct unet_pass *p, int64_t h, int64_t w, struct stream *ret);
/* Frees what the pass itself holds. */
void unet_pass_end(struct unet_pass *p);

/* ---- for the way up ---- */

int unet_level_init(struct unet_level *l, int n, struct dr_error *err);
void unet_level_release(struct unet_level *l);
/* The transformer, if depth is not 0, has the heads of `level`. */
int unet_unit_init(struct unet_trunk *t, struct unet_unit *b, int64_t in, int64_t out, int level,
                   int depth, struct dr_error *err);
/* `sampler` names the level's downsamplers or upsamplers. */
int unet_level_visit(struct unet_level *l, const struct visitor *v, const char *prefix,
                     const char *sampler);
int unet_unit_run(struct unet_pass *p, const struct unet_unit *b, struct stream *in,
                  struct blk_way way, struct stream *ret);

/* Whether the network has a transformer at such a place. */
bool unet_has_transformer(const struct unet *u, const struct self_place *at);

/* A context with the keys and values of the trunk and of n_up levels more. */
int unet_context_make(struct unet_trunk *t, const struct unet_level *up, int n_up, struct exec *x,
                      const float *text, int64_t tokens, const float *pooled, const float *time_ids,
                      struct unet_context **ret, struct dr_error *err);

#endif
