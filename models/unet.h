/* unet.h - the denoising network of the SDXL family, by rows.
 *
 * A row is one sample at one timestep under one conditioning; rows of one forward need have
 * nothing in common but picture size and weights, so rows of different jobs and steps can go
 * through together, and each gets the bits it would get alone. The network has no state: what is
 * computed once per prompt (keys and values of cross attention) lives in the caller's
 * unet_context. Reference: diffusers UNet2DConditionModel with addition_embed_type "text_time". */
#ifndef DR_MODELS_UNET_H
#define DR_MODELS_UNET_H

#include "models/arch.h"
#include "models/blocks.h"
#include "models/params.h"

struct unet;
struct unet_context;

int unet_new(const struct unet_arch *arch, struct unet **ret, struct dr_error *err);
void unet_free(struct unet *u);
int unet_visit(void *unet, const struct visitor *v);
const struct unet_arch *unet_arch(const struct unet *u);

/* Names of transformers with ; between, as diffusers has them ("mid", "down_blocks.2",
 * "up_blocks.0.attentions.1", "mid_block.attentions.0.transformer_blocks.3"), into places.
 * DR_EINVAL about `path` for a name that none of this network's transformers has. */
int unet_places(const struct unet *u, const char *path, const char *text, struct self_change *ret,
                struct dr_error *err);

/* What is computed once for a prompt: text [tokens, context] and pooled [pooled] float32, time_ids
 * [n_time_ids]. Computes the cross-attention keys and values of all blocks on x's backend in a
 * buffer of its own (unet_context_bytes; x's workspace is used and left balanced). A text that is
 * all zeros (what many models take for no negative prompt) has keys and values of zeros: they are
 * not computed, and its rows skip cross-attention. Borrowed by rows; free before the backend
 * closes. Under the plan backend all host pointers, here and in rows, may be NULL, except masks,
 * where NULL is no mask. A text that is NULL is not zeros. */
int unet_context_new(struct unet *u, struct exec *x, const float *text, int64_t tokens,
                     const float *pooled, const float *time_ids, struct unet_context **ret,
                     struct dr_error *err);
void unet_context_free(struct unet_context *c);
size_t unet_context_bytes(const struct unet_context *c);

/* One list of tokens that a row attends to. */
struct unet_block {
    const struct unet_context *context;
    double weight; /* factor on its attention; 0: as if it were not there */
    const float
        *mask; /* [h, w], factors of the latents' pixels, nearest at coarser levels; NULL: 1 */
};

/* What is added to the skips and to the middle's result before the way up takes them, for one row:
 * the outputs of a trunk of another network (a ControlNet's), on the same backend. */
struct unet_residuals {
    const struct act *skips; /* [n_skips], each [1, h, w, channels] of its level, as pushed */
    int n_skips;             /* of the UNet; an activation without buffer adds nothing */
    struct act middle;
    double weight;
};

enum { UNET_BLOCKS = 8, UNET_RESIDUALS = 8 };

/* What a row is conditioned on. The embedding of pooled text and time ids is that of the first
 * block, which must be there. */
struct unet_conditioning {
    int n_blocks, n_residuals;
    struct unet_block blocks[UNET_BLOCKS];
    const struct unet_residuals *residuals[UNET_RESIDUALS];
    const float *extra; /* [n_extra, h, w]: channels after the latent's (inpainting) */
    int64_t n_extra;
};

/* A prompt alone. */
static inline struct unet_conditioning unet_prompt(const struct unet_context *context)
{
    return (struct unet_conditioning){ .n_blocks = 1,
                                       .blocks = { { .context = context, .weight = 1 } } };
}

/* FreeU (Si et al. 2023, arXiv 2309.11497): factors in the first two levels of the way up. */
struct unet_freeu {
    bool on;
    double backbone[2]; /* b1, b2: of the first half of the channels that come up */
    double skip[2];     /* s1, s2: of the lowest frequencies of the skips */
};

/* What a row's forward does otherwise. */
struct unet_changes {
    struct self_change self; /* n 0: self-attention as usual */
    struct unet_freeu freeu;
};

/* Contexts are for forwards with the variant (x->variant) that they were made with. */
struct unet_row {
    const float *latent; /* [in_channels - n_extra, h, w], scaled model input */
    double timestep;     /* may be fractional */
    const struct unet_conditioning *conditioning;
    float *pred;                        /* [out_channels, h, w], out */
    const struct unet_changes *changes; /* NULL: none */
};

enum { UNET_ROWS = 64 /* most rows of one forward */ };
enum { UNET_SKIPS = 1 + ARCH_LEVELS * (ARCH_LAYERS + 1) };

/* Needs packed weights (params_prepare, params_acquire). Latents are h x w (pictures / 8), any
 * size from 1 up. Balanced use of x's workspace. */
int unet_forward(struct unet *u, struct exec *x, const struct unet_row *rows, int n, int64_t h,
                 int64_t w, struct dr_error *err);

#endif
