/* classify.c - see classify.h.
 *
 * A table of signs, the most telling first. A sign is a tensor name with '*' for any run of
 * characters, and perhaps a second one that must be there too.
 */
#include "models/formats/classify.h"

#include <string.h>

struct sign {
    const char *name, *also;
    struct file_kind kind;
};

#define UNET "model.diffusion_model."

static const struct sign signs[] = {
    /* Adapters first: they repeat the names of what they adapt. */
    { "*lora_down*", NULL, { "lora", "a LoRA: an adapter for a checkpoint" } },
    { "*lora_up*", NULL, { "lora", "a LoRA: an adapter for a checkpoint" } },
    { "*.lora_A.*", NULL, { "lora", "a LoRA: an adapter for a checkpoint" } },
    { "*.lora.up.*", NULL, { "lora", "a LoRA: an adapter for a checkpoint" } },
    { "*lora_linear_layer*", NULL, { "lora", "a LoRA: an adapter for a checkpoint" } },
    { "*.hada_w1_a", NULL, { "loha", "a LoHa: an adapter for a checkpoint" } },
    { "*.lokr_w1*", NULL, { "lokr", "a LoKr: an adapter for a checkpoint" } },
    { "*.oft_blocks", NULL, { "oft", "an OFT: an adapter for a checkpoint" } },
    { "lora_unet_*", NULL, { "lora", "a LoRA: an adapter for a checkpoint" } },
    { "*control_model.input_hint_block.*", NULL, { "controlnet", "a ControlNet" } },
    { "controlnet_cond_embedding.*", NULL, { "controlnet", "a ControlNet" } },
    { "controlnet_down_blocks.*", NULL, { "controlnet", "a ControlNet" } },
    { "*ip_adapter.*", NULL, { "ip-adapter", "an IP-Adapter" } },
    { "adapter.body.*", NULL, { "t2i-adapter", "a T2I-Adapter" } },
    { "*motion_modules.*", NULL, { "animatediff", "an AnimateDiff motion module" } },

    { UNET "label_emb.0.0.weight", "conditioner.embedders.*", { "sdxl", "an SDXL checkpoint" } },
    { UNET "*", "cond_stage_model.transformer.*", { "sd1", "a Stable Diffusion 1.x checkpoint" } },
    { UNET "*", "cond_stage_model.model.*", { "sd2", "a Stable Diffusion 2.x checkpoint" } },
    { "*double_blocks.*img_attn*", NULL, { "flux", "a Flux model" } },
    { "*joint_blocks.*", NULL, { "sd3", "a Stable Diffusion 3 model" } },
    { "*cap_embedder.*", NULL, { "lumina", "a Lumina or Z-Image model" } },
    { "*clip_txt_mapper.*", NULL, { "cascade", "a Stable Cascade model" } },
    { UNET "label_emb.0.0.weight",
      NULL,
      { "sdxl-unet", "an SDXL UNet without text encoders, no whole checkpoint" } },
    { UNET "input_blocks.0.0.weight",
      NULL,
      { "unet", "a UNet without text encoders, no whole checkpoint" } },
    { "input_blocks.0.0.weight", NULL, { "unet", "a UNet alone" } },
    { UNET "*", NULL, { "other", "a diffusion model of another family" } },
    { "down_blocks.0.resnets.*",
      "add_embedding.linear_1.weight",
      { "sdxl-unet", "an SDXL UNet alone, taken out of a diffusers folder" } },
    { "down_blocks.0.resnets.*",
      "time_embedding.*",
      { "unet", "a UNet alone, taken out of a diffusers folder" } },

    { "*encoder.conv_in.weight", "*decoder.conv_in.weight", { "vae", "a VAE alone" } },
    { "decoder.conv_in.weight", NULL, { "vae", "the decoder of a VAE alone" } },
    { "taesd_decoder.*", NULL, { "taesd", "a tiny autoencoder for previews" } },
    { "vision_model.*", "text_model.*", { "clip", "a whole CLIP model" } },
    { "*vision_model.*", NULL, { "clip-vision", "a CLIP image encoder" } },
    { "*text_model.encoder.layers.*", NULL, { "text-encoder", "a CLIP text encoder alone" } },
    { "*transformer.resblocks.*", NULL, { "text-encoder", "an OpenCLIP text encoder alone" } },
    { "encoder.block.0.layer.*", NULL, { "t5", "a T5 text encoder" } },
    { "clip_g", "clip_l", { "textual-inversion", "a textual inversion (embedding) for SDXL" } },
    { "emb_params", NULL, { "textual-inversion", "a textual inversion (embedding)" } },
    { "string_to_param*", NULL, { "textual-inversion", "a textual inversion (embedding)" } },
    { "conv_first.weight", NULL, { "upscaler", "an upscaler (ESRGAN family)" } },
    { "model.0.weight", "model.1.sub.*", { "upscaler", "an upscaler (ESRGAN family)" } },
};

/* Shell-like: '*' is any run of characters. */
static bool like(const char *pattern, const char *name)
{
    const char *star = NULL, *retry = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            retry = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

static bool any(const struct st_header *h, const char *pattern)
{
    if (!strchr(pattern, '*'))
        return st_find(h, pattern) != NULL;
    for (size_t i = 0; i < h->n_tensors; i++)
        if (like(pattern, h->tensors[i].name))
            return true;
    return false;
}

const struct file_kind *classify(const struct st_header *h)
{
    static const struct file_kind unknown = { "unknown", "a file of unknown tensors" };
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (any(h, signs[i].name) && (!signs[i].also || any(h, signs[i].also)))
            return &signs[i].kind;
    return &unknown;
}
