/* stage_names.c - see stage_names.h. */
#include "core/communication/stage_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"

static const char *const plain[] = { "tokens",   "tokens_2",   "prompt_embeds", "pooled",
                                     "time_ids", "timesteps",  "sigmas",        "latents_init",
                                     "image",    "init_image", "init_latents",  "noise" };
static const char *const counted[] = { "model_input", "pred", "latents" };

enum { N_PLAIN = sizeof plain / sizeof *plain, N_COUNTED = sizeof counted / sizeof *counted };

const char *stage_name(const char *base, int evaluation, char dst[32])
{
    snprintf(dst, 32, "%s_%03d", base, evaluation);
    return dst;
}

/* The number of a counted stage's name, spelled as stage_name does; -1 when it is none. */
static int evaluation_of(const char *name)
{
    for (int i = 0; i < N_COUNTED; i++) {
        size_t n = strlen(counted[i]);
        const char *digits = name + n + 1;
        if (strncmp(name, counted[i], n) || name[n] != '_')
            continue;
        size_t count = strspn(digits, "0123456789");
        if (count >= 3 && count <= 6 && !digits[count] && (count == 3 || *digits != '0'))
            return (int)strtol(digits, NULL, 10);
    }
    return -1;
}

bool stage_is_name(const char *name, int *ret_evaluation)
{
    *ret_evaluation = evaluation_of(name);
    for (int i = 0; i < N_PLAIN; i++)
        if (!strcmp(name, plain[i]))
            return true;
    return *ret_evaluation >= 0;
}

bool stage_is_file(const char *file)
{
    char name[32];
    int evaluation;
    size_t n = strlen(file), extension = strlen(".npy");
    if (n <= extension || n - extension >= sizeof name || strcmp(file + n - extension, ".npy"))
        return false;
    memcpy(name, file, n - extension);
    name[n - extension] = '\0';
    return stage_is_name(name, &evaluation);
}

int stage_fail_unknown(const char *field, const char *name, struct dr_error *err)
{
    static const char *const names[N_PLAIN + N_COUNTED] = {
        "tokens",       "tokens_2", "prompt_embeds",   "pooled",   "time_ids",
        "timesteps",    "sigmas",   "latents_init",    "image",    "init_image",
        "init_latents", "noise",    "model_input_000", "pred_000", "latents_000"
    };
    return dr_fail_nearest(
        err, DR_EINVAL, field, name,
        "tokens, tokens_2, prompt_embeds, pooled, time_ids, timesteps, sigmas, "
        "latents_init, init_image, init_latents, noise, model_input_III, pred_III, "
        "latents_III or image",
        names, N_PLAIN + N_COUNTED);
}
