/* fuzz_model.c - libFuzzer target: a line that names a component, then its config.json.
 *
 *     unet | text_encoder | vae
 *     {"_class_name": "UNet2DConditionModel", ...}
 *
 * What is accepted has sizes within the limits and builds a network with parameters that can be
 * counted. */
#include "testing/helpers/model_access.h"
#include "testing/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "models/clip_text.h"
#include "models/formats/config_arch.h"
#include "models/unet.h"
#include "models/vae.h"

static int on_unknown(void *ctx, const char *file, const char *key)
{
    FUZZ_MUST(!strcmp(file, ctx) && key);
    return 0;
}

/* The walk adds up elements, which must fit into 64 bits with room for their bytes. */
static void check_count(void *network, visit_fn visit)
{
    int64_t n = params_count(network, visit);
    FUZZ_MUST(n > 0 && n < INT64_MAX / 8);
}

static int try_unet(const json_t *config, const char *file, const struct config_unknown *unknown,
                    struct dr_error *err)
{
    struct unet_arch a;
    struct unet *u;
    struct dr_error inner = { 0 };
    int64_t added;
    int r = config_unet(config, file, unknown, &a, &added, err);
    if (r)
        return r;
    FUZZ_MUST(a.levels >= 1 && a.levels <= ARCH_LEVELS && a.in_channels > 0 && a.out_channels > 0);
    for (int i = 0; i < a.levels; i++) {
        FUZZ_MUST(a.channels[i] > 0 && a.heads[i] > 0);
        FUZZ_MUST(a.layers[i] > 0 && a.layers[i] < ARCH_LAYERS);
    }
    a.pooled = 16; /* what the loader works out from the text encoder */
    a.n_time_ids = 6;
    if ((r = unet_new(&a, &u, &inner))) {
        fuzz_must_explain(r, &inner);
        return 0;
    }
    check_count(u, unet_visit);
    unet_free(u);
    return 0;
}

static int try_clip(const json_t *config, const char *file, const struct config_unknown *unknown,
                    struct dr_error *err)
{
    struct clip_arch a;
    struct clip_text *t;
    struct dr_error inner = { 0 };
    int projects;
    int r = config_clip(config, file, unknown, &a, &projects, err);
    if (r)
        return r;
    FUZZ_MUST(a.vocab > 0 && a.width > 0 && a.layers > 0 && a.heads > 0 && a.positions > 0);
    FUZZ_MUST(projects >= -1 && projects <= 1 && a.width % a.heads == 0);
    if ((r = clip_text_new(&a, &t, &inner))) {
        fuzz_must_explain(r, &inner);
        return 0;
    }
    check_count(t, clip_text_visit);
    clip_text_free(t);
    return 0;
}

static int try_vae(const json_t *config, const char *file, const struct config_unknown *unknown,
                   struct dr_error *err)
{
    struct vae_arch a;
    struct vae *v;
    struct dr_error inner = { 0 };
    int r = config_vae(config, file, unknown, &a, err);
    if (r)
        return r;
    FUZZ_MUST(a.levels >= 1 && a.levels <= ARCH_LEVELS && a.latent_channels > 0 && a.layers > 0);
    FUZZ_MUST(a.scaling_factor > 0);
    if ((r = vae_new(&a, true, true, &v, &inner))) {
        fuzz_must_explain(r, &inner);
        return 0;
    }
    check_count(v, vae_visit);
    vae_free(v);
    return 0;
}

static const struct {
    const char *name, *file;
    int (*try)(const json_t *config, const char *file, const struct config_unknown *unknown,
               struct dr_error *err);
} components[] = {
    { "unet", "unet/config.json", try_unet },
    { "text_encoder", "text_encoder/config.json", try_clip },
    { "vae", "vae/config.json", try_vae },
};

static void run(int which, const char *text, size_t n)
{
    struct dr_error err = { 0 };
    json_t *config;
    const char *file = components[which].file;
    const struct config_unknown unknown = { on_unknown, (void *)file };
    int r = jx_parse(text, n, NULL, file, &config, &err);
    if (r) {
        fuzz_must_explain(r, &err);
        return;
    }
    if (json_is_object(config)) {
        r = components[which].try(config, file, &unknown, &err);
        if (r) {
            fuzz_must_explain(r, &err);
            FUZZ_MUST_SAY(!strncmp(err.text, file, strlen(file)), err.text);
        }
    }
    json_decref(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char *text = fuzz_text(bytes, n), *rest = text;
    const char *line = fuzz_line(&rest);
    for (int i = 0; line && i < 3; i++)
        if (!strcmp(line, components[i].name))
            run(i, rest, n - (size_t)(rest - text));
    free(text);
    fuzz_must_be_clean();
    return 0;
}
