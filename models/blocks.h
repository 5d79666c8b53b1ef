/* blocks.h - what the networks are built of: residual blocks, transformers, the autoencoder's
 * attention.
 *
 * Each block is a value: init says its shape, visit names its parameters, run computes it.
 * Activations are [n, h, w, c], float32 between blocks. A run that fails leaves its activations to
 * workspace_reset; one that succeeds has freed all but what it returns.
 * Reference: diffusers ResnetBlock2D, Transformer2DModel with BasicTransformerBlock, Attention (He
 * et al. 2016; Vaswani et al. 2017; Shazeer 2020 for GEGLU).
 */
#ifndef DR_MODELS_BLOCKS_H
#define DR_MODELS_BLOCKS_H

#include "backend/ops/op.h"
#include "models/params.h"

/* What passes from block to block: an activation and, if the op that wrote it was asked for and
 * gave them, its moments, which spare the norm that comes next a pass over it. Whoever takes a
 * stream frees the moments. */
struct stream {
    struct act x, moments;
};

/* ---- single layers: shapes of dst are the callee's; residual.buf and add.buf NULL: none ---- */

int blk_new(struct exec *x, int64_t n, int64_t h, int64_t w, int64_t c, struct act *ret,
            struct dr_error *err);

/* `moments`, where it is not NULL, gets those of dst if the backend has them, else no buffer. */
struct blk_linear {
    enum activation activation;
    struct act residual; /* may be dst */
    struct act *moments;
};
int blk_linear(struct exec *x, const struct layer *l, struct act src, struct blk_linear how,
               struct act dst, struct dr_error *err);

struct blk_conv {
    bool pad_high; /* pad 0 before and 1 after (the autoencoder's downsampling), not 1 and 1 */
    struct act channel_add, residual;
    struct act *moments;
};
int blk_conv(struct exec *x, const struct layer *l, struct act src, struct blk_conv how,
             struct act dst, struct dr_error *err);

struct blk_norm {
    int groups;
    double eps;
    enum activation activation;
};
/* dst may be src's activation. */
int blk_group_norm(struct exec *x, const struct layer *l, const struct stream *src,
                   struct blk_norm how, struct act dst, struct dr_error *err);
/* y->x = group_norm(y->x) of the type that convolutions take, in place where that is y's; without
 * moments. */
int blk_normed(struct exec *x, const struct layer *l, struct blk_norm how, struct stream *y,
               struct dr_error *err);
int blk_layer_norm(struct exec *x, const struct layer *l, struct act src, double eps,
                   struct act dst, struct dr_error *err);
/* Nearest neighbour to dst's size, then a 3x3 convolution. */
int blk_upsample(struct exec *x, const struct layer *l, struct act src, struct act dst,
                 struct act *moments, struct dr_error *err);
/* dst = max(dst, 0), in place. */
int blk_relu(struct exec *x, struct act dst, struct dr_error *err);
/* dst = residual + scale * mask * src; mask.buf NULL: 1. */
int blk_weigh(struct exec *x, struct act src, double scale, struct act mask, struct act residual,
              struct act dst, struct dr_error *err);
/* io with the lowest frequencies of each picture multiplied by scale. */
int blk_low_scale(struct exec *x, double scale, struct act io, struct dr_error *err);
int blk_attention(struct exec *x, struct act q, struct act k, struct act v, int64_t heads,
                  bool causal, struct act dst, struct dr_error *err);

/* *ret = [a, b] along the channels, b resized to a's picture; a and b are freed. */
int blk_concat(struct exec *x, struct act *a, struct act *b, struct act *ret, struct dr_error *err);

/* ---- residual block ---- */

struct resnet {
    int64_t in, out, time; /* time 0: no time embedding (autoencoder) */
    int groups;
    double eps;
    struct layer norm1, conv1, time_emb_proj, norm2, conv2;
    struct layer shortcut; /* when in != out */
    /* norm2 reads its statistics from its source instead of taking conv1's moments. Their last bits
     * differ, and pictures were drawn so: a UNet's first block keeps it. */
    bool norm2_reads;
};

void resnet_init(struct resnet *r, int64_t in, int64_t out, int64_t time, int groups, double eps);
int resnet_visit(struct resnet *r, const struct visitor *v, const char *prefix);
struct blk_way {
    bool keep;    /* leave the activation of *in alone; else its memory is worked in or returned */
    bool moments; /* a norm follows: give the moments of *ret */
};
/* emb: [n, 1, 1, time], SiLU already applied; no buffer without a time embedding. *in is taken. */
int resnet_run(const struct resnet *r, struct exec *x, struct act emb, struct stream *in,
               struct blk_way way, struct stream *ret, struct dr_error *err);

/* ---- transformer over a picture's pixels ---- */

struct tblock {
    struct layer norm1, qkv, out1;     /* self-attention */
    struct layer norm2, q2, kv2, out2; /* attention to the text */
    struct layer norm3, ff_in, ff_out; /* GEGLU feed-forward */
    int64_t kv_at; /* columns of keys and values before this block's in a context, per token */
};

/* Where a transformer is in a UNet; -1: any. */
enum self_part { SELF_DOWN, SELF_MID, SELF_UP, SELF_PARTS };
struct self_place {
    int part, level, unit, block; /* down_blocks.LEVEL.attentions.UNIT.transformer_blocks.BLOCK */
};

/* What takes the place of self-attention, in some transformers and for some samples. */
enum self_kind {
    SELF_VALUES, /* every token attends to itself alone (Ahn et al. 2024, arXiv 2403.17377) */
    SELF_MEAN    /* every query is the mean of all (Hong 2024, arXiv 2408.00760, without limit) */
};
enum { SELF_PLACES = 16 };
struct self_change {
    enum self_kind kind;
    int n;
    struct self_place place[SELF_PLACES];
};

struct spatial {
    int64_t channels, heads;
    int groups;
    int depth;
    struct self_place at; /* block: -1 */
    struct layer norm, proj_in, proj_out;
    struct tblock *blocks; /* [depth], owned */
};

/* Keys and values of one list of tokens (a prompt, an image) for every transformer block of a
 * network: [tokens, 2 * channels] at column kv_at. With `zero` they are all zeros and not there:
 * attention to them is zero, whatever the picture. */
struct kv_set {
    struct act all; /* one row of kv_columns * tokens floats, and more */
    int64_t tokens;
    bool zero;
};

/* What a sample attends to beside itself: the sum of weight * mask * attention over some sets, each
 * with a softmax of its own (Ye et al. 2023, IP-Adapter, section 3.2.2). */
enum { KV_BLOCKS = 8 };
struct kv_block {
    const struct kv_set *kv;
    double weight;
    struct act mask; /* [1, h, w, 1], resized to the picture attended from; no buffer: 1 */
};
struct kv_blocks {
    int n;
    struct kv_block block[KV_BLOCKS];
    const struct self_change *self; /* NULL: self-attention as usual */
};

/* One set with weight 1 and no mask: its attention is the sum. */
static inline bool kv_blocks_plain(const struct kv_blocks *k)
{
    return k->n == 1 && k->block[0].weight == 1 && !k->block[0].mask.buf;
}

/* DR_ENOMEM. *kv_columns grows by what the blocks' keys and values take. */
int spatial_init(struct spatial *s, int64_t channels, int64_t context, int64_t heads, int depth,
                 int groups, int64_t *kv_columns, struct dr_error *err);
void spatial_release(struct spatial *s);
int spatial_visit(struct spatial *s, const struct visitor *v, const char *prefix);
/* text: [1, 1, tokens, context] -> this transformer's part of kv. */
int spatial_text(const struct spatial *s, struct exec *x, struct act text, const struct kv_set *kv,
                 struct dr_error *err);
/* Whether a text of zeros has keys and values of zeros: no block's have a bias. */
bool spatial_keeps_zero(const struct spatial *s);
/* In place; kv[i] belongs to sample i. Samples with n = 0 come first, then those that are plain.
 * `moments`: a norm follows. */
int spatial_run(const struct spatial *s, struct exec *x, const struct kv_blocks *kv,
                struct stream *io, bool moments, struct dr_error *err);

/* ---- attention of the autoencoder: one head over all pixels, residual ---- */

struct pixel_attention {
    int64_t channels;
    int groups;
    double eps;
    struct layer norm, qkv, out;
};

void pixel_attention_init(struct pixel_attention *a, int64_t channels, int groups, double eps);
int pixel_attention_visit(struct pixel_attention *a, const struct visitor *v, const char *prefix);
/* In place; a norm follows. */
int pixel_attention_run(const struct pixel_attention *a, struct exec *x, struct stream *io,
                        struct dr_error *err);

#endif
