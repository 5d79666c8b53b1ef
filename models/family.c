/* family.c - see family.h. References: the configurations of stabilityai's SDXL base and refiner,
 * CompVis's v1-inference.yaml, Stability's v2-inference-v.yaml (penultimate layer, then ln_final)
 * and the diffusers folders of the same models. */
#include "models/family.h"

#include <string.h>

/* All four were trained on these noise levels. */
#define TRAINED                                                                                    \
    "\"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085, \"beta_end\": 0.012, "         \
    "\"num_train_timesteps\": 1000, \"timestep_spacing\": \"leading\", \"steps_offset\": 1, "      \
    "\"set_alpha_to_one\": false, \"clip_sample\": false, "

static const char epsilon[] = "{" TRAINED "\"prediction_type\": \"epsilon\"}";
static const char velocity[] = "{" TRAINED "\"prediction_type\": \"v_prediction\"}";

#define BIGG                                                                                       \
    {                                                                                              \
        .component = COMPONENT_TEXT_ENCODER_2,                                                     \
        .meaning = "second text encoder (conditioner.embedders.1.*)", .act = ARCH_GELU,            \
        .pooled = true, .layer = 2                                                                 \
    }

const struct family family_sdxl_refiner = {
    .text = "an SDXL checkpoint",
    .opens = true,
    .encoders = { BIGG },
    .n_encoders = 1,
    .added = true,
    .head_width = 64,
    .sample_size = 128,
    .vae_scale = 0.13025,
    .zero_negative = false,
    .scheduler = epsilon,
};

const struct family family_sdxl = {
    .text = "an SDXL checkpoint",
    .pipeline = "StableDiffusionXL",
    .opens = true,
    .without_first = &family_sdxl_refiner,
    .encoders = { { .component = COMPONENT_TEXT_ENCODER,
                    .meaning = "first text encoder (conditioner.embedders.0.*)",
                    .act = ARCH_QUICK_GELU,
                    .layer = 2 },
                  BIGG },
    .n_encoders = 2,
    .added = true,
    .head_width = 64,
    .sample_size = 128,
    .vae_scale = 0.13025,
    .zero_negative = true,
    .scheduler = epsilon,
};

const struct family family_sd1 = {
    .text = "a Stable Diffusion 1.x checkpoint",
    .encoders = { { .component = COMPONENT_TEXT_ENCODER,
                    .meaning = "text encoder (cond_stage_model.transformer.*)",
                    .act = ARCH_QUICK_GELU,
                    .layer = 1,
                    .final_norm = true } },
    .n_encoders = 1,
    .heads = 8,
    .sample_size = 64,
    .vae_scale = 0.18215,
    .scheduler = epsilon,
};

const struct family family_sd2 = {
    .text = "a Stable Diffusion 2.x checkpoint",
    .encoders = { { .component = COMPONENT_TEXT_ENCODER,
                    .meaning = "text encoder (cond_stage_model.model.*)",
                    .act = ARCH_GELU,
                    .layer = 2,
                    .final_norm = true } },
    .n_encoders = 1,
    .head_width = 64,
    .sample_size = 96,
    .vae_scale = 0.18215,
    .scheduler = velocity,
};

static const struct family *const families[] = { &family_sdxl, &family_sdxl_refiner, &family_sd1,
                                                 &family_sd2 };

const struct family *family_of_pipeline(const char *class_name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const char *begins = families[i]->pipeline;
        if (begins && !strncmp(class_name, begins, strlen(begins)))
            return families[i];
    }
    return NULL;
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
