/* family.c - see family.h. References: the configurations of stabilityai's SDXL base and refiner,
 * CompVis's v1-inference.yaml, Stability's v2-inference.yaml and v2-inference-v.yaml (penultimate
 * layer, then ln_final) and the diffusers folders of the same models. */
#include "models/family.h"

#include <string.h>

#include "base/words.h"

/* All were trained on these noise levels. */
#define TRAINED                                                                                    \
    "\"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085, \"beta_end\": 0.012, "         \
    "\"num_train_timesteps\": 1000, \"timestep_spacing\": \"leading\", \"steps_offset\": 1, "      \
    "\"set_alpha_to_one\": false, \"clip_sample\": false, "

static const char epsilon[] = "{" TRAINED "\"prediction_type\": \"epsilon\"}";
static const char epsilon_xl[] =
    "{" TRAINED "\"prediction_type\": \"epsilon\", \"optimised_levels\": \"sdxl\"}";
static const char velocity[] = "{" TRAINED "\"prediction_type\": \"v_prediction\"}";

#define BIGG(place)                                                                                \
    {                                                                                              \
        .component = COMPONENT_TEXT_ENCODER_2,                                                     \
        .meaning = "second text encoder (conditioner.embedders.1.*)", .act = ARCH_GELU,            \
        .pooled = true, .layer = 2, .pads_zero = true,                                             \
        .prefix = "conditioner.embedders." place ".model.", .open_clip = true                      \
    }

/* OpenCLIP-H. The penultimate of its 24 layers is the last that is read, and the folders of these
 * models have 23. */
#define OPEN_CLIP_H                                                                                \
    {                                                                                              \
        .component = COMPONENT_TEXT_ENCODER, .meaning = "text encoder (cond_stage_model.model.*)", \
        .act = ARCH_GELU, .layer = 1, .final_norm = true, .read = 23, .pads_zero = true,           \
        .prefix = "cond_stage_model.model.", .open_clip = true                                     \
    }

const struct family family_sdxl_refiner = {
    .text = "an SDXL checkpoint",
    .kind = "sdxl-family",
    .opens = true,
    .encoders = { BIGG("0") },
    .n_encoders = 1,
    .added = true,
    .head_width = 64,
    .sample_size = 128,
    .vae_scale = SDXL_VAE_SCALE,
    .zero_negative = false,
    .scheduler = epsilon_xl,
};

const struct family family_sdxl = {
    .text = "an SDXL checkpoint",
    .ids = "sdxl",
    .kind = "sdxl-family",
    .pipeline = "StableDiffusionXL",
    .opens = true,
    .without_first = &family_sdxl_refiner,
    .encoders = { { .component = COMPONENT_TEXT_ENCODER,
                    .meaning = "first text encoder (conditioner.embedders.0.*)",
                    .act = ARCH_QUICK_GELU,
                    .layer = 2,
                    .prefix = "conditioner.embedders.0.transformer." },
                  BIGG("1") },
    .n_encoders = 2,
    .added = true,
    .head_width = 64,
    .sample_size = 128,
    .vae_scale = SDXL_VAE_SCALE,
    .zero_negative = true,
    .scheduler = epsilon_xl,
};

const struct family family_sd1 = {
    .text = "a Stable Diffusion 1.x checkpoint",
    .ids = "sd1",
    .kind = "sd1-family",
    .context = 768,
    .opens = true,
    .encoders = { { .component = COMPONENT_TEXT_ENCODER,
                    .meaning = "text encoder (cond_stage_model.transformer.*)",
                    .act = ARCH_QUICK_GELU,
                    .layer = 1,
                    .final_norm = true,
                    .prefix = "cond_stage_model.transformer." } },
    .n_encoders = 1,
    .heads = 8,
    .sample_size = 64,
    .vae_scale = SD_VAE_SCALE,
    .scheduler = epsilon,
};

/* Trained at 512 pixels: 2.x base, SD-Turbo. */
static const struct family sd2_base = {
    .text = "a Stable Diffusion 2.x checkpoint",
    .ids = "sd2",
    .kind = "sd2-family",
    .context = 1024,
    .opens = true,
    .epsilon_mark = true,
    .encoders = { OPEN_CLIP_H },
    .n_encoders = 1,
    .head_width = 64,
    .sample_size = 64,
    .vae_scale = SD_VAE_SCALE,
    .scheduler = epsilon,
};

/* Like diffusers' from_single_file, which takes the configuration of 2.1 for every one. */
const struct family family_sd2 = {
    .text = "a Stable Diffusion 2.x checkpoint",
    .ids = "sd2",
    .kind = "sd2-family",
    .context = 1024,
    .opens = true,
    .epsilon = &sd2_base,
    .unsaid = "the file does not say what its model predicts: v_prediction is assumed, as of "
              "Stable Diffusion 2.1 at 768 pixels; a model of the 512 pixel kind or SD-Turbo "
              "would be drawn wrongly: give --prediction epsilon",
    .encoders = { OPEN_CLIP_H },
    .n_encoders = 1,
    .head_width = 64,
    .sample_size = 96,
    .vae_scale = SD_VAE_SCALE,
    .scheduler = velocity,
};

/* The one that predicts epsilon: a folder that predicts something else says so. */
static const struct family *const sd_folders[] = { &family_sd1, &sd2_base, NULL };

const struct family family_sd_folder = {
    .text = "a Stable Diffusion model",
    .ids = "sd1|sd2",
    .by_context = sd_folders,
    .kind = "sd-family",
    .pipeline = "StableDiffusion",
    .classes = "Pipeline|Img2ImgPipeline|InpaintPipeline|InstructPix2PixPipeline",
    .opens = true,
    .encoders = { { .component = COMPONENT_TEXT_ENCODER, .layer = 1, .final_norm = true } },
    .n_encoders = 1,
    .scheduler = epsilon,
};

static const struct family *const families[] = { &family_sdxl, &family_sd_folder };

const struct family *family_of_pipeline(const char *class_name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const struct family *f = families[i];
        size_t n = strlen(f->pipeline);
        if (!strncmp(class_name, f->pipeline, n) &&
            (!f->classes || word_in(f->classes, '|', class_name + n)))
            return f;
    }
    return NULL;
}

const struct family *family_of_context(const struct family *f, int64_t context)
{
    for (int i = 0; f->by_context && f->by_context[i]; i++)
        if (f->by_context[i]->context == context)
            return f->by_context[i];
    return f;
}

const struct family_encoder *family_pooled(const struct family *f)
{
    for (int i = 0; i < f->n_encoders; i++)
        if (f->encoders[i].pooled)
            return &f->encoders[i];
    return NULL;
}

const struct family_encoder *family_encoder(const struct family *f, enum component component)
{
    for (int i = 0; i < f->n_encoders; i++)
        if (f->encoders[i].component == component)
            return &f->encoders[i];
    return NULL;
}
