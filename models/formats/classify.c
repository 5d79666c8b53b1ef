/* classify.c - see classify.h.
 *
 * A table of signs, the most specific first. A sign is a tensor name with '*' for any run of
 * characters, and perhaps a second one that must be there too. SDXL's UNet with text encoders comes
 * before anything else, and an adapter's signs count only where they are a good part of the file: a
 * few stray tensors of an adapter do not make it one.
 */
#include "models/formats/classify.h"

#include <string.h>

#include "models/formats/quantised.h"

struct sign {
    const char *name, *also;
    struct file_kind kind;
};

/* One tensor in so many must have an adapter's sign: a LoHa has it in one of five or six. */
enum { ADAPTER_SHARE = 8 };

enum { OPEN_CLIP_H = 1024 }; /* channels of the text encoder of 2.x */

#define UNET "model.diffusion_model."
#define GGML_CLIP_2 "cond_stage_model.1.transformer." /* by stable-diffusion.cpp */
#define TINY(words)                                                                                \
    {                                                                                              \
        .id = "taesd", .text = words, .option = "--vae"                                            \
    }
#define TEXT_ENCODERS "--text-encoder or --text-encoder-2"

#define ADAPTER(name, what)                                                                        \
    {                                                                                              \
        .id = name, .text = what ": an adapter for a checkpoint (--lora)", .adapter = true         \
    }

/* They repeat the names of what they adapt, so they come before it. */
static const struct sign adapters[] = {
    { "*lora_down*", NULL, ADAPTER("lora", "a LoRA") },
    { "*lora_up*", NULL, ADAPTER("lora", "a LoRA") },
    { "*.lora_A.*", NULL, ADAPTER("lora", "a LoRA") },
    { "*.lora.up.*", NULL, ADAPTER("lora", "a LoRA") },
    { "*lora_linear_layer*", NULL, ADAPTER("lora", "a LoRA") },
    { "*.hada_w1_a", NULL, ADAPTER("loha", "a LoHa") },
    { "*.lokr_w1*", NULL, ADAPTER("lokr", "a LoKr") },
    { "*.oft_blocks", NULL, ADAPTER("oft", "an OFT") },
    { "lora_unet_*", NULL, ADAPTER("lora", "a LoRA") },
    { "lora_te*", NULL, ADAPTER("lora", "a LoRA") },
    { "lycoris_*", NULL, ADAPTER("lora", "a LoRA or a relative of it") },
    { "*ip_adapter.*", NULL, { .id = "ip-adapter", .text = "an IP-Adapter" } },
    { "*motion_modules.*", NULL, { .id = "animatediff", .text = "an AnimateDiff motion module" } },
};

static const struct sign signs[] = {
    { "*control_model.input_hint_block.*", NULL, { .id = "controlnet", .text = "a ControlNet" } },
    { "controlnet_cond_embedding.*", NULL, { .id = "controlnet", .text = "a ControlNet" } },
    { "controlnet_down_blocks.*", NULL, { .id = "controlnet", .text = "a ControlNet" } },
    { "adapter.body.*", NULL, { .id = "t2i-adapter", .text = "a T2I-Adapter" } },

    { UNET "label_emb.0.0.weight",
      "cond_stage_model.transformer.*",
      { .id = "sdxl-refiner", .text = "an SDXL refiner in the spelling of stable-diffusion.cpp" } },
    { UNET "*",
      "cond_stage_model.transformer.*",
      { .id = "sd1", .text = "a Stable Diffusion 1.x checkpoint", .family = &family_sd1 } },
    { UNET "*",
      "cond_stage_model.model.*",
      { .id = "sd2", .text = "a Stable Diffusion 2.x checkpoint", .family = &family_sd2 } },
    { "*double_blocks.*img_attn*", NULL, { .id = "flux", .text = "a Flux model" } },
    { "*joint_blocks.*", NULL, { .id = "sd3", .text = "a Stable Diffusion 3 model" } },
    { "*cap_embedder.*", NULL, { .id = "lumina", .text = "a Lumina or Z-Image model" } },
    { "*clip_txt_mapper.*", NULL, { .id = "cascade", .text = "a Stable Cascade model" } },
    { UNET "label_emb.0.0.weight",
      NULL,
      { .id = "sdxl-unet",
        .text = "an SDXL UNet without text encoders, no whole checkpoint",
        .option = "--unet" } },
    { UNET "input_blocks.0.0.weight",
      NULL,
      { .id = "unet",
        .text = "a UNet without text encoders, no whole checkpoint",
        .option = "--unet" } },
    { "input_blocks.0.0.weight",
      NULL,
      { .id = "unet", .text = "a UNet alone", .option = "--unet" } },
    { UNET "*", NULL, { .id = "other", .text = "a diffusion model of another family" } },
    { "down_blocks.0.resnets.*",
      "add_embedding.linear_1.weight",
      { .id = "sdxl-unet",
        .text = "an SDXL UNet alone, taken out of a diffusers folder",
        .option = "--unet" } },
    { "down_blocks.0.resnets.*",
      "time_embedding.*",
      { .id = "unet",
        .text = "a UNet alone, taken out of a diffusers folder",
        .option = "--unet" } },

    { "*encoder.conv_in.weight",
      "*decoder.conv_in.weight",
      { .id = "vae", .text = "a VAE alone", .option = "--vae" } },
    { "*decoder.conv_in.weight",
      NULL,
      { .id = "vae", .text = "the decoder of a VAE alone", .option = "--vae" } },
    { "taesd_decoder.*", NULL, TINY("a tiny VAE") },
    { "decoder.layers.0.weight", NULL, TINY("a tiny VAE") },
    { "1.weight", "3.conv.0.weight", TINY("the decoder of a tiny VAE") },
    { "0.weight", "1.conv.0.weight", { .id = "taesd", .text = "the encoder of a tiny VAE alone" } },
    { "encoder.layers.0.weight",
      NULL,
      { .id = "taesd", .text = "the encoder of a tiny VAE alone" } },
    { "vision_model.*", "text_model.*", { .id = "clip", .text = "a whole CLIP model" } },
    { "*vision_model.*", NULL, { .id = "clip-vision", .text = "a CLIP image encoder" } },
    { "*text_model.encoder.layers.*",
      NULL,
      { .id = "text-encoder", .text = "a CLIP text encoder alone", .option = TEXT_ENCODERS } },
    { "encoder.layers.*.mlp.fc1.weight",
      "embeddings.token_embedding.weight",
      { .id = "text-encoder", .text = "a CLIP text encoder alone", .option = TEXT_ENCODERS } },
    { "*transformer.resblocks.*",
      NULL,
      { .id = "text-encoder", .text = "an OpenCLIP text encoder alone", .option = TEXT_ENCODERS } },
    { "encoder.block.0.layer.*", NULL, { .id = "t5", .text = "a T5 text encoder" } },
    { "clip_g",
      "clip_l",
      { .id = "textual-inversion", .text = "a textual inversion (embedding) for SDXL" } },
    { "emb_params",
      NULL,
      { .id = "textual-inversion", .text = "a textual inversion (embedding)" } },
    { "string_to_param*",
      NULL,
      { .id = "textual-inversion", .text = "a textual inversion (embedding)" } },
    { "conv_first.weight", NULL, { .id = "upscaler", .text = "an upscaler (ESRGAN family)" } },
    { "model.0.weight",
      "model.1.sub.*",
      { .id = "upscaler", .text = "an upscaler (ESRGAN family)" } },
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

static size_t count(const struct st_header *h, const char *pattern)
{
    size_t n = 0;
    for (size_t i = 0; i < h->n_tensors; i++)
        n += like(pattern, h->tensors[i].name);
    return n;
}

/* SDXL's UNet with its added conditioning and text encoders; `kind` by its marks. */
static const struct file_kind *sdxl_kind(const struct st_header *h)
{
    static const struct file_kind plain = { .id = "sdxl",
                                            .text = "an SDXL checkpoint",
                                            .family = &family_sdxl };
    static const struct file_kind quant = { .id = "sdxl-quantised",
                                            .text = "a quantised SDXL checkpoint",
                                            .quantised = true };
    char what[320];
    return quantised(h, true, what, sizeof what) ? &quant : &plain;
}

/* stable-diffusion.cpp gives OpenCLIP's encoder the names that 1.x has: only its width tells. */
static bool ggml_sd2(const struct st_header *h)
{
    const struct st_tensor *t = st_find(
        h, "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight");
    return t && t->shape.n == 2 && t->shape.d[1] == OPEN_CLIP_H;
}

const struct file_kind *classify(const struct st_header *h)
{
    static const struct file_kind unknown = { .id = "unknown",
                                              .text = "a file of unknown tensors" };
    static const struct file_kind sd2 = {
        .id = "sd2",
        .text = "a Stable Diffusion 2.x checkpoint in the spelling of stable-diffusion.cpp"
    };
    if (any(h, UNET "label_emb.0.0.weight") &&
        (any(h, "conditioner.embedders.*") || any(h, GGML_CLIP_2 "*")))
        return sdxl_kind(h);
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++) {
        size_t n = count(h, adapters[i].name);
        if (n && n * ADAPTER_SHARE >= h->n_tensors)
            return &adapters[i].kind;
    }
    if (any(h, UNET "*") && ggml_sd2(h))
        return &sd2;
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (any(h, signs[i].name) && (!signs[i].also || any(h, signs[i].also)))
            return &signs[i].kind;
    return &unknown;
}
