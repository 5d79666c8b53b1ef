/* lists.c - see lists.h. */
#include "cli/lists.h"

#include <string.h>

static const struct list_info lists[] = {
    { "samplers", "sampler", "values of --sampler, with other programs' names",
      "Samplers, with other programs' names for them. Names ignore case, blanks, - and _. A noise "
      "schedule may follow the name: \"DPM++ 2M Karras\". Options follow after commas: "
      "dpmpp_sde,eta=0.8,r=0.3. Each has its range, its default in brackets, and what it does." },
    { "schedules", "schedule", "values of --schedule",
      "Noise schedules: how the noise levels of the steps are spaced. Names ignore case, blanks, - "
      "and _." },
    { "guidance", "guidance", "values of --guidance, with their options",
      "Guiders: ways to guide a picture beside the guidance scale (--cfg). Options follow after "
      "commas: apg,eta=0.2. All take start and end, fractions of the steps between which they act. "
      "Several may be given, in any order; one at most may replace the formula of guidance." },
    { "recipes", "recipe", "values of --recipe: drawing in few steps",
      "Recipes: how to draw with models that were distilled to few steps. Each needs a file that "
      "carries the distillation: a checkpoint, or a UNet or LoRA made for it. A recipe is values "
      "for options; those that are given beside it win. Without guidance (cfg 1) the negative "
      "prompt is not used." },
    { "presets", "preset", "values of --preset",
      "Presets: the conventions of a program for what a request leaves open: defaults, schedules, "
      "random numbers." },
    { "kernels", "kernels", "kernel sets, values of --kernels, and which this processor has",
      "Kernel sets: implementations of the networks' operations. auto measures those that compute "
      "in the wanted precision and takes the fastest. A name says the instructions it needs and, "
      "after them, the type that operands are rounded to (none: float32)." },
    { "cases", "only", "cases of bench, values of --only",
      "Cases of bench. op_NAME_SIZE is one operation of SDXL's networks, unet_SIZE one call of the "
      "UNet for a picture of that size (_cfg: two rows, as with guidance), vae_ the decoder or "
      "encoder of the VAE, text_encoders both of them on one prompt, load_first and load_second "
      "the first and a later start of a model, picture_STEPS_SIZE a whole picture (30 steps: with "
      "guidance; only when it is named)." },
    { "models", "", "names of models, values of -m, and their folders", "" },
    { "config", "", "the configuration file: keys and an example", "" },
};

/* The meaning of names for which the worker gives only a title. */
static const struct {
    const char *list, *name, *words;
} words[] = {
    { "schedules", "normal", "the sampler's own, evenly spaced timesteps" },
    { "schedules", "karras", "Karras et al. 2022: more steps at low noise" },
    { "schedules", "exponential", "evenly spaced logarithms of the noise level" },
    { "schedules", "sgm_uniform", "evenly spaced timesteps without the last one" },
    { "schedules", "polyexponential", "a power of the way through the logarithm of the noise" },
    { "schedules", "simple", "ComfyUI's: every n-th of the model's timesteps, from the last" },
    { "schedules", "ddim_uniform",
      "ComfyUI's: every n-th of the model's timesteps, from the first" },
    { "schedules", "beta", "Lee et al. 2024: quantiles of a beta distribution" },
    { "schedules", "kl_optimal", "even steps of the angle whose tangent is the noise level" },
    { "schedules", "align_your_steps", "Sabour et al. 2024: 11 levels optimised for the model" },
    { "schedules", "align_your_steps_11", "the same" },
    { "schedules", "align_your_steps_32", "Sabour et al. 2024: 32 levels optimised for the model" },
    { "schedules", "align_your_steps_gits", "Chen et al. 2024: 11 levels optimised for the model" },
    { "schedules", "linear_quadratic",
      "Mochi's: half of the steps even and small, then a parabola" },
    { "schedules", "laplace", "Hang et al. 2024: steps gather around the middle noise levels" },
    { "schedules", "vp", "Song et al. 2021: the continuous variance-preserving process" },
    { "schedules", "turbo", "the timesteps of SD Turbo: even, from the last" },
    { "schedules", "smoothstep", "stable-diffusion.cpp's: timesteps along a smooth step" },
    { "schedules", "bong_tangent", "RES4LYF's: two arctangents" },
    { "schedules", "karras_exponential", "karras with a falling share of exponential" },
    { "schedules", "automatic", "AUTOMATIC1111's choice for the sampler" },
    { "presets", "darkroom", "the numbers of diffusers, what is missing there as users know it" },
    { "presets", "diffusers", "the diffusers library, the reference" },
    { "presets", "a1111", "AUTOMATIC1111's web UI on a graphics card" },
    { "presets", "comfyui", "ComfyUI on a graphics card: one generator for a batch" },
    { "presets", "sdcpp", "stable-diffusion.cpp" },
    { "kernels", "scalar", "plain C, the reference: slow, on every processor" },
    { "kernels", "avx2", "float32" },
    { "kernels", "avx512", "float32" },
    { "kernels", "avx512_bf16", "bfloat16" },
    { "kernels", "avx512_fp16", "float16" },
    { "kernels", "amx_bf16", "bfloat16, matrix unit" },
    { "kernels", "avx512_vnni_int8", "8-bit models, other layers float32" },
    { "kernels", "avx512_int8", "8-bit models, other layers 16 bits" },
    { "kernels", "amx_int8", "8-bit models, other layers 16 bits, matrix unit" },
};

const char *list_words(const struct list_info *list, const char *name)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(words[i].list, list->name) && !strcmp(words[i].name, name))
            return words[i].words;
    return "";
}

const struct list_info *list_at(int i)
{
    return i < (int)(sizeof lists / sizeof *lists) ? &lists[i] : NULL;
}

const json_t *list_items(const struct list_info *list, const json_t *capabilities)
{
    if (strcmp(list->name, "kernels"))
        return json_object_get(capabilities, list->name);
    const json_t *devices = json_object_get(json_object_get(capabilities, "device_info"),
                                            "devices");
    return json_object_get(json_array_get(devices, 0), "kernel_sets");
}

const char *list_item_name(const json_t *item)
{
    return json_string_value(json_is_string(item) ? item : json_object_get(item, "name"));
}
