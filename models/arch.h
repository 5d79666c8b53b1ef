/* arch.h - what makes one network of the family differ from another. Filled from config.json
 * (diffusers layout) or inferred from tensor names and shapes (single file) by model_loader; read
 * by the networks. No branch anywhere asks for a model's name: Stable Diffusion 1.x and
 * 2.x, SDXL base, refiner, inpainting, SSD-1B, Vega and the shipped small model are values of these
 * structures. */
#ifndef DR_MODELS_ARCH_H
#define DR_MODELS_ARCH_H

#include <stdbool.h>
#include <stdint.h>

enum { ARCH_LEVELS = 6, ARCH_LAYERS = 8, ARCH_LATENTS = 16 };

/* Scaling factors of the latents: one over their deviation. */
#define SDXL_VAE_SCALE 0.13025
#define SD_VAE_SCALE 0.18215

enum arch_act { ARCH_GELU, ARCH_QUICK_GELU, ARCH_SILU };

/* CLIP text encoder (transformers CLIPTextConfig). */
struct clip_arch {
    int64_t vocab, width, layers, heads, mlp, positions;
    int64_t projection; /* 0: no projection (Stable Diffusion's encoder, SDXL's first) */
    enum arch_act act;
    double eps;             /* layer_norm_eps */
    int64_t eos_id, bos_id; /* eos_id 2 means: the end token is the arg-max id */
};

/* UNet2DConditionModel. Level 0 is the finest. */
struct unet_arch {
    int64_t in_channels, out_channels;
    int levels;
    int64_t channels[ARCH_LEVELS];
    int layers[ARCH_LEVELS];             /* resnets per down level; up levels have one more */
    int depth[ARCH_LEVELS][ARCH_LAYERS]; /* transformer blocks after each down resnet; 0: none */
    /* The same going up, indexed by level (finest 0), in order of execution. */
    int up_depth[ARCH_LEVELS][ARCH_LAYERS];
    bool mid;        /* has a middle block at all */
    int mid_depth;   /* transformer blocks between the middle's two resnets; 0: resnets only */
    int mid_resnets; /* then, how many */
    int64_t heads[ARCH_LEVELS]; /* attention heads; middle: the coarsest level's */
    int64_t context;            /* width of the text context */
    bool linear_projection;     /* proj_in/out; else 1x1 convolutions */
    int64_t time_dim;           /* width of the time embedding, 4 * channels[0] */
    int64_t addition_time_dim;  /* of a time id's embedding, 256; 0: none */
    int n_time_ids;             /* 6; refiner 5 */
    int64_t pooled;             /* width of the pooled text embedding */
    int groups;
    double eps; /* group norms of resnets */
    bool flip_sin_to_cos;
    double freq_shift;
    int64_t sample_size; /* latents' default edge */
};

/* AutoencoderKL, or AutoencoderTiny. Level 0 is full resolution. */
struct vae_arch {
    int64_t in_channels, out_channels, latent_channels;
    int levels;
    int64_t channels[ARCH_LEVELS]; /* of a tiny one: the same at all levels */
    bool tiny;
    int blocks[ARCH_LEVELS], up_blocks[ARCH_LEVELS]; /* of a tiny one, of its encoder and decoder */
    int layers; /* resnets per encoder level; decoder has one more */
    int groups;
    double scaling_factor;
    bool normalised; /* latents are (its own - mean) * scaling_factor / deviation, by channel */
    double mean[ARCH_LATENTS], deviation[ARCH_LATENTS];
    bool quant_conv, post_quant_conv, mid_attention;
};

#endif
