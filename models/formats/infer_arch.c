/* infer_arch.c - see infer_arch.h. */
#include "models/formats/infer_arch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { HEAD_WIDTH = 64, GROUPS = 32, TIME_ID_WIDTH = 256, MAX_CLIP_LAYERS = 256 };

static int missing(struct dr_error *err, const char *file, const char *component, const char *name)
{
    return dr_fail(err, DR_EFORMAT, "%s: tensor '%s.%s' is missing", file, component, name);
}

/* Transformer blocks of the attention whose name begins with `at`; 0 when there is none. */
static int depth_of(const struct tensor_table *t, const char *at)
{
    int n = 0;
    while (tensor_table_dim(t, 0, "%s.transformer_blocks.%d.norm1.weight", at, n))
        n++;
    return n;
}

static int depth_at(const struct tensor_table *t, const char *side, int block, int place)
{
    char at[64];
    snprintf(at, sizeof at, "%s_blocks.%d.attentions.%d", side, block, place);
    return depth_of(t, at);
}

static int resnets_of(const struct tensor_table *t, const char *side, int block)
{
    int n = 0;
    while (tensor_table_dim(t, 0, "%s_blocks.%d.resnets.%d.conv1.weight", side, block, n))
        n++;
    return n;
}

static int infer_down(const struct tensor_table *t, const struct family *family, const char *file,
                      struct unet_arch *a, struct dr_error *err)
{
    for (;; a->levels++) {
        int i = a->levels, n = resnets_of(t, "down", i);
        if (!n)
            break;
        if (i == ARCH_LEVELS || n >= ARCH_LAYERS)
            return dr_fail(err, DR_EUNSUPPORTED,
                           "%s: a UNet of more than %d levels or %d layers a level", file,
                           ARCH_LEVELS, ARCH_LAYERS - 1);
        a->layers[i] = n;
        a->channels[i] = tensor_table_dim(t, 0, "down_blocks.%d.resnets.0.conv1.weight", i);
        a->heads[i] = family->head_width ? a->channels[i] / family->head_width : family->heads;
        for (int j = 0; j < n; j++)
            a->depth[i][j] = depth_at(t, "down", i, j);
    }
    return a->levels ? 0 : missing(err, file, "unet", "down_blocks.0.resnets.0.conv1.weight");
}

static int infer_up(const struct tensor_table *t, const char *file, struct unet_arch *a,
                    struct dr_error *err)
{
    for (int i = 0; i < a->levels; i++) {
        int block = a->levels - 1 - i;
        if (resnets_of(t, "up", block) != a->layers[i] + 1)
            return dr_fail(err, DR_EFORMAT,
                           "%s: unet.up_blocks.%d has %d resnets, expected %d, one more than its "
                           "counterpart going down",
                           file, block, resnets_of(t, "up", block), a->layers[i] + 1);
        for (int j = 0; j <= a->layers[i]; j++)
            a->up_depth[i][j] = depth_at(t, "up", block, j);
    }
    return 0;
}

/* Width of the text context from the first cross attention found. */
static int64_t context_of(const struct tensor_table *t, const struct unet_arch *a)
{
    for (int i = 0; i < a->levels; i++)
        for (int j = 0; j < a->layers[i]; j++)
            if (a->depth[i][j])
                return tensor_table_dim(
                    t, 1, "down_blocks.%d.attentions.%d.transformer_blocks.0.attn2.to_k.weight", i,
                    j);
    return tensor_table_dim(t, 1, "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight");
}

static bool linear_projection(const struct tensor_table *t, const struct unet_arch *a)
{
    for (int i = 0; i < a->levels; i++)
        for (int j = 0; j < a->layers[i]; j++)
            if (a->depth[i][j])
                return !tensor_table_dim(t, 2, "down_blocks.%d.attentions.%d.proj_in.weight", i, j);
    return true;
}

/* Pooled text and time ids, where the family adds them to the time embedding. */
static int infer_added(const struct tensor_table *t, const char *file, int64_t pooled,
                       struct unet_arch *a, struct dr_error *err)
{
    int64_t added = tensor_table_dim(t, 1, "add_embedding.linear_1.weight");
    if (!added)
        return missing(err, file, "unet", "add_embedding.linear_1.weight");
    if (added <= pooled || (added - pooled) % TIME_ID_WIDTH)
        return dr_fail(err, DR_EFORMAT,
                       "%s: added conditioning of %" PRId64 " channels is not pooled text (%" PRId64
                       ") and time ids of %d each",
                       file, added, pooled, TIME_ID_WIDTH);
    a->addition_time_dim = TIME_ID_WIDTH;
    a->pooled = pooled;
    a->n_time_ids = (int)((added - pooled) / TIME_ID_WIDTH);
    return 0;
}

/* unCLIP and upscalers have the tensors of a family that adds nothing, and this one more. */
static int refuse_added(const struct tensor_table *t, const char *file, const struct family *family,
                        struct dr_error *err)
{
    return tensor_table_dim(t, 0, "add_embedding.linear_1.weight")
               ? dr_fail(err, DR_EUNSUPPORTED,
                         "%s: %s whose UNet takes more than text (label_emb), a variant of it that "
                         "Darkroom does not draw",
                         file, family->text)
               : 0;
}

/* All but what is added to the time embedding. */
static int infer_levels(const struct tensor_table *t, const struct family *family, const char *file,
                        struct unet_arch *ret, struct dr_error *err)
{
    struct unet_arch a = {
        .in_channels = tensor_table_dim(t, 1, "conv_in.weight"),
        .out_channels = tensor_table_dim(t, 0, "conv_out.weight"),
        .time_dim = tensor_table_dim(t, 0, "time_embedding.linear_1.weight"),
        .groups = GROUPS,
        .eps = 1e-5,
        .flip_sin_to_cos = true,
        .sample_size = family->sample_size,
    };
    if (!a.in_channels)
        return missing(err, file, "unet", "conv_in.weight");
    if (!a.out_channels)
        return missing(err, file, "unet", "conv_out.weight");
    if (!a.time_dim)
        return missing(err, file, "unet", "time_embedding.linear_1.weight");
    int r = infer_down(t, family, file, &a, err);
    if (!r)
        r = infer_up(t, file, &a, err);
    if (r)
        return r;
    a.mid = tensor_table_dim(t, 0, "mid_block.resnets.0.conv1.weight") > 0;
    a.mid_depth = depth_of(t, "mid_block.attentions.0");
    a.mid_resnets = tensor_table_dim(t, 0, "mid_block.resnets.1.conv1.weight") ? 2 : a.mid;
    a.context = context_of(t, &a);
    if (!a.context)
        return dr_fail(err, DR_EFORMAT, "%s: the UNet has no cross attention", file);
    a.linear_projection = linear_projection(t, &a);
    *ret = a;
    return 0;
}

int infer_unet(const struct tensor_table *t, const struct family *family, int64_t pooled,
               const char *file, struct unet_arch *ret, struct dr_error *err)
{
    struct unet_arch a;
    int r = infer_levels(t, family, file, &a, err);
    if (!r && !family->added)
        r = refuse_added(t, file, family, err);
    if (!r && family->added)
        r = infer_added(t, file, pooled, &a, err);
    if (!r)
        *ret = a;
    return r;
}

bool infer_is_unet(const struct tensor_table *t, const struct unet_arch *known)
{
    static const struct family any = { .heads = 1 };
    struct unet_arch a;
    if (infer_levels(t, &any, "", &a, NULL) || a.levels != known->levels)
        return false;
    int64_t added = known->pooled + known->n_time_ids * known->addition_time_dim;
    bool same = a.in_channels == known->in_channels && a.out_channels == known->out_channels &&
                a.time_dim == known->time_dim && a.context == known->context &&
                a.linear_projection == known->linear_projection && a.mid == known->mid &&
                a.mid_depth == known->mid_depth && a.mid_resnets == known->mid_resnets &&
                tensor_table_dim(t, 1, "add_embedding.linear_1.weight") == added;
    for (int i = 0; same && i < a.levels; i++)
        same = a.channels[i] == known->channels[i] && a.layers[i] == known->layers[i] &&
               !memcmp(a.depth[i], known->depth[i], sizeof a.depth[i]) &&
               !memcmp(a.up_depth[i], known->up_depth[i], sizeof a.up_depth[i]);
    return same;
}

static int clip_layers(const struct tensor_table *t)
{
    int n = 0;
    while (n < MAX_CLIP_LAYERS &&
           tensor_table_dim(t, 0, "text_model.encoder.layers.%d.layer_norm1.weight", n))
        n++;
    return n;
}

bool infer_is_clip(const struct tensor_table *t, const struct clip_arch *known)
{
    static const char tokens[] = "text_model.embeddings.token_embedding.weight";
    static const char positions[] = "text_model.embeddings.position_embedding.weight";
    return tensor_table_dim(t, 0, "%s", tokens) == known->vocab &&
           tensor_table_dim(t, 1, "%s", tokens) == known->width &&
           tensor_table_dim(t, 0, "%s", positions) == known->positions &&
           tensor_table_dim(t, 0, "text_model.encoder.layers.0.mlp.fc1.weight") == known->mlp &&
           clip_layers(t) == known->layers &&
           (!known->projection ||
            tensor_table_dim(t, 0, "text_projection.weight") == known->projection);
}

int infer_clip(const struct tensor_table *t, const struct family_encoder *encoder, const char *file,
               struct clip_arch *ret, struct dr_error *err)
{
    static const char tokens[] = "text_model.embeddings.token_embedding.weight";
    static const char positions[] = "text_model.embeddings.position_embedding.weight";
    struct clip_arch a = {
        .vocab = tensor_table_dim(t, 0, "%s", tokens),
        .width = tensor_table_dim(t, 1, "%s", tokens),
        .positions = tensor_table_dim(t, 0, "%s", positions),
        .mlp = tensor_table_dim(t, 0, "text_model.encoder.layers.0.mlp.fc1.weight"),
        .projection = encoder->pooled ? tensor_table_dim(t, 0, "text_projection.weight") : 0,
        .act = encoder->act,
        .eps = 1e-5,
        .bos_id = 49406,
        .eos_id = 2,
    };
    const char *component = component_name(t->component);
    if (!a.vocab || !a.width)
        return missing(err, file, component, tokens);
    if (!a.positions)
        return missing(err, file, component, positions);
    if (encoder->pooled && !a.projection)
        return missing(err, file, component, "text_projection.weight");
    a.layers = clip_layers(t);
    a.layers -= encoder->read && a.layers == encoder->read + 1;
    if (!a.layers || !a.mlp)
        return missing(err, file, component, "text_model.encoder.layers.0.mlp.fc1.weight");
    if (a.width % HEAD_WIDTH)
        return dr_fail(err, DR_EFORMAT, "%s: %s is %" PRId64 " wide, expected a multiple of %d",
                       file, component, a.width, HEAD_WIDTH);
    a.heads = a.width / HEAD_WIDTH;
    *ret = a;
    return 0;
}

/* Levels and layers of the encoder or, of a VAE without one, of the decoder, whose levels come in
 * the other order and have one layer more. */
static void vae_levels(const struct tensor_table *t, bool encoder, struct vae_arch *a)
{
    static const char down[] = "encoder.down_blocks.%d.resnets.%d.conv1.weight";
    static const char up[] = "decoder.up_blocks.%d.resnets.%d.conv1.weight";
    const char *level = encoder ? down : up;
    int64_t channels[ARCH_LEVELS + 1];
    int n = 0;
    while (n <= ARCH_LEVELS && (channels[n] = tensor_table_dim(t, 0, level, n, 0)))
        n++;
    a->levels = n;
    for (int i = 0; i < n && n <= ARCH_LEVELS; i++)
        a->channels[i] = channels[encoder ? i : n - 1 - i];
    while (a->layers <= ARCH_LAYERS && tensor_table_dim(t, 0, level, 0, a->layers))
        a->layers++;
    a->layers -= !encoder && a->layers;
}

/* Layers of one half of a tiny VAE, numbered as in vae_tiny.c, from its second convolution on: the
 * blocks of each level. False: no sound list. */
static bool tiny_levels(const struct tensor_table *t, const char *half, bool encoder, int *ret,
                        int *ret_levels)
{
    int at = encoder ? 1 : 2;
    for (int i = 0; i < ARCH_LEVELS; i++) {
        for (ret[i] = 0; tensor_table_dim(t, 0, "%s.layers.%d.conv.0.weight", half, at); at++)
            ret[i]++;
        *ret_levels = i + 1;
        bool last = tensor_table_dim(t, 0, "%s.layers.%d.bias", half, at) > 0;
        if (ret[i] > ARCH_LAYERS || last)
            return last && ret[i] <= ARCH_LAYERS;
        at += encoder ? 1 : 2; /* going up there is an upsampling before the convolution */
        if (!tensor_table_dim(t, 0, "%s.layers.%d.weight", half, at - 1))
            return false;
    }
    return false;
}

static bool is_tiny(const struct tensor_table *t)
{
    return tensor_table_dim(t, 0, "decoder.layers.0.weight") > 0;
}

/* A tiny VAE; one without its encoder has no blocks going down. */
static int infer_tiny(const struct tensor_table *t, const char *file, struct vae_arch *ret,
                      struct dr_error *err)
{
    bool encoder = tensor_table_dim(t, 0, "encoder.layers.0.weight") > 0;
    struct vae_arch a = { .in_channels = 3,
                          .latent_channels = tensor_table_dim(t, 1, "decoder.layers.0.weight"),
                          .tiny = true,
                          .scaling_factor = 1 };
    int levels = 0, at = 2;
    if (!tiny_levels(t, "decoder", false, a.up_blocks, &a.levels) ||
        (encoder && (!tiny_levels(t, "encoder", true, a.blocks, &levels) || levels != a.levels)))
        return dr_fail(err, DR_EFORMAT,
                       "%s: the layers of this tiny VAE are no list of blocks with an upsampling "
                       "after each level but the last",
                       file);
    for (int i = 0; i < a.levels; i++) {
        a.channels[i] = tensor_table_dim(t, 0, "decoder.layers.0.weight");
        at += a.up_blocks[i] + 2 * (i + 1 < a.levels);
    }
    a.out_channels = tensor_table_dim(t, 0, "decoder.layers.%d.weight", at);
    if (encoder)
        a.in_channels = tensor_table_dim(t, 1, "encoder.layers.0.weight");
    *ret = a;
    return 0;
}

static struct vae_arch vae_shown(const struct tensor_table *t)
{
    bool encoder = tensor_table_dim(t, 1, "encoder.conv_in.weight") > 0;
    struct vae_arch a = {
        .in_channels = tensor_table_dim(t, encoder ? 1 : 0, "%s",
                                        encoder ? "encoder.conv_in.weight"
                                                : "decoder.conv_out.weight"),
        .out_channels = tensor_table_dim(t, 0, "decoder.conv_out.weight"),
        .latent_channels = tensor_table_dim(t, 1, "decoder.conv_in.weight"),
        .groups = GROUPS,
        .quant_conv = tensor_table_dim(t, 0, "quant_conv.weight") > 0,
        .post_quant_conv = tensor_table_dim(t, 0, "post_quant_conv.weight") > 0,
        .mid_attention = tensor_table_dim(t, 0, "decoder.mid_block.attentions.0.to_q.weight") > 0,
    };
    vae_levels(t, encoder, &a);
    return a;
}

bool infer_is_vae(const struct tensor_table *t, const struct vae_arch *known)
{
    struct vae_arch a = vae_shown(t);
    bool encoder = tensor_table_dim(t, 1, "encoder.conv_in.weight") > 0;
    return !known->tiny && !is_tiny(t) && a.in_channels == known->in_channels &&
           a.out_channels == known->out_channels && a.latent_channels == known->latent_channels &&
           a.levels == known->levels && a.layers == known->layers &&
           a.mid_attention == known->mid_attention &&
           (a.quant_conv == known->quant_conv || !encoder) &&
           a.post_quant_conv == known->post_quant_conv &&
           !memcmp(a.channels, known->channels, (size_t)a.levels * sizeof *a.channels);
}

int infer_vae(const struct tensor_table *t, const struct family *family, const char *file,
              struct vae_arch *ret, struct dr_error *err)
{
    if (is_tiny(t))
        return infer_tiny(t, file, ret, err);
    struct vae_arch a = vae_shown(t);
    bool encoder = tensor_table_dim(t, 1, "encoder.conv_in.weight") > 0;
    a.scaling_factor = family->vae_scale;
    if (!a.latent_channels)
        return missing(err, file, "vae", "decoder.conv_in.weight");
    if (!a.out_channels)
        return missing(err, file, "vae", "decoder.conv_out.weight");
    if (!a.levels || !a.layers)
        return missing(err, file, "vae",
                       encoder ? "encoder.down_blocks.0.resnets.0.conv1.weight"
                               : "decoder.up_blocks.0.resnets.0.conv1.weight");
    if (a.layers >= ARCH_LAYERS || a.levels > ARCH_LEVELS)
        return dr_fail(err, DR_EUNSUPPORTED, "%s: a VAE of more than %d levels or %d layers", file,
                       ARCH_LEVELS, ARCH_LAYERS - 1);
    *ret = a;
    return 0;
}
