/* inspect_part.c - what a file with one part of a model fits, see inspect_model.h. By shapes alone:
 * the widths that tell one family's networks from another's. */
#include "models/inspect_part.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "models/formats/key_map.h"

struct part_facts {
    int64_t channels, context, added; /* of a UNet */
    int64_t width, projection;        /* of a text encoder */
    int64_t latents;                  /* of a VAE */
    bool decodes, encodes, tiny;
};

/* ---- what the tensors show ---- */

static void look_at_unet(const char *name, const struct shape *s, struct part_facts *f)
{
    static const char context[] = ".attn2.to_k.weight";
    size_t n = strlen(name), tail = sizeof context - 1;
    if (!strcmp(name, "conv_in.weight"))
        f->channels = s->d[1];
    else if (!strcmp(name, "add_embedding.linear_1.weight"))
        f->added = s->d[1];
    else if (n > tail && !strcmp(name + n - tail, context))
        f->context = s->d[1];
}

static void look_at_clip(const char *name, const struct shape *s, struct part_facts *f)
{
    if (!strcmp(name, "text_model.embeddings.token_embedding.weight"))
        f->width = s->d[1];
    else if (!strcmp(name, "text_projection.weight"))
        f->projection = s->d[0];
}

static void look_at_vae(const char *name, const struct shape *s, struct part_facts *f)
{
    bool tiny = !strcmp(name, "decoder.layers.0.weight");
    f->encodes |= !strncmp(name, "encoder.", 8);
    f->decodes |= !strncmp(name, "decoder.", 8);
    f->tiny |= tiny;
    if (tiny || !strcmp(name, "decoder.conv_in.weight"))
        f->latents = s->d[1];
}

static void look(const struct key_layout *layout, enum component component,
                 const struct st_header *h, struct part_facts *f)
{
    static void (*const looks[COMPONENT_COUNT])(const char *, const struct shape *,
                                                struct part_facts *) = {
        [COMPONENT_UNET] = look_at_unet,
        [COMPONENT_TEXT_ENCODER] = look_at_clip,
        [COMPONENT_TEXT_ENCODER_2] = look_at_clip,
        [COMPONENT_VAE] = look_at_vae,
    };
    struct key_blocks blocks;
    key_layout_scan(layout, h, &blocks);
    for (size_t i = 0; i < h->n_tensors; i++) {
        struct key_target target;
        const struct st_tensor *t = &h->tensors[i];
        if (key_map_part(layout, &blocks, t->name, &target) == KEY_KNOWN && t->shape.n >= 2)
            looks[component](target.name, &t->shape, f);
    }
}

/* ---- what that fits ---- */

static const struct {
    int64_t context, added;
    const char *fits;
} unets[] = {
    { 2048, 2816, "SDXL" },
    { 1280, 2560, "the SDXL refiner" },
    { 768, 0, "Stable Diffusion 1.x" },
    { 1024, 0, "Stable Diffusion 2.x" },
};

static const struct {
    int64_t width;
    const char *fits, *option;
} encoders[] = {
    { 768, "SDXL as its first encoder, Stable Diffusion 1.x", "--text-encoder" },
    { 1024, "Stable Diffusion 2.x", "--text-encoder" },
    { 1280, "SDXL as its second encoder", "--text-encoder-2" },
};

static int describe_unet(const struct part_facts *f, json_t *o)
{
    const char *fits = "no family that is known here: text and added conditioning of other widths";
    for (size_t i = 0; i < sizeof unets / sizeof *unets; i++)
        if (unets[i].context == f->context && unets[i].added == f->added)
            fits = unets[i].fits;
    int r = jx_set(o, "in_channels", json_integer(f->channels));
    if (!r)
        r = jx_set(o, "context", json_integer(f->context));
    if (!r)
        r = jx_set(o, "fits", json_string(fits));
    return r ? r : jx_set(o, "option", json_string("--unet"));
}

static int describe_clip(const struct part_facts *f, json_t *o)
{
    const char *fits = "no family that is known here: another width";
    const char *option = "--text-encoder or --text-encoder-2";
    for (size_t i = 0; i < sizeof encoders / sizeof *encoders; i++)
        if (encoders[i].width == f->width) {
            fits = encoders[i].fits;
            option = encoders[i].option;
        }
    int r = jx_set(o, "width", json_integer(f->width));
    if (!r)
        r = jx_set(o, "projection", json_integer(f->projection));
    if (!r)
        r = jx_set(o, "fits", json_string(fits));
    return r ? r : jx_set(o, "option", json_string(option));
}

static int describe_vae(const struct part_facts *f, json_t *o)
{
    char fits[120];
    snprintf(fits, sizeof fits,
             "models with %lld latent channels; its tensors do not tell of which "
             "family",
             (long long)f->latents);
    int r = jx_set(o, "latent_channels", json_integer(f->latents));
    if (!r)
        r = jx_set(o, "tiny", json_boolean(f->tiny));
    if (!r)
        r = jx_set(o, "decodes", json_boolean(f->decodes));
    if (!r)
        r = jx_set(o, "encodes", json_boolean(f->encodes));
    if (!r)
        r = jx_set(o, "fits", json_string(fits));
    return r ? r : jx_set(o, "option", json_string("--vae"));
}

int inspect_part(const struct st_header *h, json_t *o)
{
    static int (*const describe[COMPONENT_COUNT])(const struct part_facts *, json_t *) = {
        [COMPONENT_UNET] = describe_unet,
        [COMPONENT_TEXT_ENCODER] = describe_clip,
        [COMPONENT_TEXT_ENCODER_2] = describe_clip,
        [COMPONENT_VAE] = describe_vae,
    };
    for (int i = 0; i < COMPONENT_COUNT; i++) {
        struct part_facts f = { 0 };
        const struct key_layout *layout = key_layout_find(h, (enum component)i);
        if (!layout)
            continue;
        look(layout, (enum component)i, h, &f);
        return describe[i](&f, o);
    }
    return 0;
}
