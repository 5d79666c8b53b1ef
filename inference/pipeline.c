/* pipeline.c - see pipeline.h. */
#include "inference/pipeline.h"

#include <stdint.h>

#include "backend/cache/pack.h"
#include "base/system.h"
#include "inference/pipeline_weights.h"
#include "models/adapters/variant_cache.h"
#include "models/clip_text.h"
#include "models/tokenizers/clip_tokenizer.h"
#include "models/unet.h"
#include "models/vae.h"

/* Tokens of a chunk: what both the encoder's positions and its tokenizer's limit allow. */
static void limit_chunk(struct pipeline *p, int64_t limit)
{
    if (!p->encoders.chunk || limit < p->encoders.chunk)
        p->encoders.chunk = limit;
}

static int open_tokenizers(struct pipeline *p, const atomic_int *stop, struct dr_error *err)
{
    for (int i = 0; i < PROMPT_ENCODERS; i++) {
        const struct clip_arch *arch = checkpoint_clip_arch(p->checkpoint, i);
        if (!arch)
            continue;
        int r = checkpoint_tokenizer(p->checkpoint, i, stop, &p->tokenizers[i], err);
        if (r < 0)
            return r;
        p->encoders.encoder[i].tokens = p->tokenizers[i];
        if (tok_info(p->tokenizers[i]).id_limit > arch->vocab)
            return dr_fail(err, DR_EFORMAT,
                           "%s: tokenizer%s gives ids up to %d, the text encoder knows %lld tokens",
                           checkpoint_path(p->checkpoint), i ? "_2" : "",
                           tok_info(p->tokenizers[i]).id_limit - 1, (long long)arch->vocab);
        limit_chunk(p, arch->positions);
        limit_chunk(p, tok_info(p->tokenizers[i]).max_length);
    }
    if (p->encoders.chunk < 2)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: the text encoder reads %lld tokens; expected 2 or more, the begin and "
                       "the end of a text",
                       checkpoint_path(p->checkpoint), (long long)p->encoders.chunk);
    checkpoint_forget_texts(p->checkpoint);
    p->encoders.n_time_ids = checkpoint_unet_arch(p->checkpoint)->n_time_ids;
    return 0;
}

static int load(struct pipeline *p, enum component component, void *network, visit_fn visit,
                struct dr_error *err)
{
    p->networks[p->n_networks++] = (struct pipeline_network){ component, network, visit };
    return checkpoint_load(p->checkpoint, component, network, visit, err);
}

/* Half a VAE is enough to draw from text, so one that cannot encode is an error of jobs that begin
 * with a picture. */
static int open_encoder(struct pipeline *p, struct dr_error *err)
{
    struct dr_error why = { 0 };
    const struct vae_arch *a = checkpoint_vae_arch(p->checkpoint);
    snprintf(p->no_encoder, sizeof p->no_encoder, "its VAE has no encoder");
    if (!checkpoint_has_encoder(p->checkpoint) || a->in_channels != 3)
        return 0;
    int r = vae_new(a, true, false, &p->encoder, err);
    if (r < 0)
        return r;
    r = load(p, COMPONENT_VAE, p->encoder, vae_visit, &why);
    if (r == DR_EFORMAT || r == DR_EUNSUPPORTED) {
        snprintf(p->no_encoder, sizeof p->no_encoder, "%s", why.text);
        p->n_networks--;
        vae_free(p->encoder);
        p->encoder = NULL;
        return 0;
    }
    if (r < 0 && err)
        *err = why;
    return r;
}

static int open_networks(struct pipeline *p, struct dr_error *err)
{
    static const enum component text[PROMPT_ENCODERS] = { COMPONENT_TEXT_ENCODER,
                                                          COMPONENT_TEXT_ENCODER_2 };
    int r = 0;
    for (int i = 0; !r && i < PROMPT_ENCODERS; i++) {
        const struct clip_arch *arch = checkpoint_clip_arch(p->checkpoint, i);
        if (!arch)
            continue;
        const struct family_encoder *role = family_encoder(checkpoint_family(p->checkpoint),
                                                           text[i]);
        struct prompt_encoder *e = &p->encoders.encoder[i];
        e->layer = role->layer;
        e->final_norm = role->final_norm;
        e->pooled = role->pooled;
        r = clip_text_new(arch, &e->text, err);
        if (!r)
            r = load(p, text[i], e->text, clip_text_visit, err);
    }
    if (!r)
        r = unet_new(checkpoint_unet_arch(p->checkpoint), &p->unet, err);
    if (!r)
        r = load(p, COMPONENT_UNET, p->unet, unet_visit, err);
    if (!r)
        r = vae_new(checkpoint_vae_arch(p->checkpoint), false, true, &p->vae, err);
    if (!r)
        r = load(p, COMPONENT_VAE, p->vae, vae_visit, err);
    return r ? r : open_encoder(p, err);
}

/* What a UNet's channels beyond those of the latents are for. */
static const char *more_channels(int64_t unet, int64_t latents)
{
    if (unet == 2 * latents + 1)
        return "an inpainting model needs a picture and a mask, text alone does not do";
    if (unet == 2 * latents)
        return "an instruct-pix2pix model needs a picture to edit, text alone does not do";
    if (unet == latents + 1)
        return "a depth model needs the depth of a picture, text alone does not do";
    return "expected the same number";
}

/* What text to image needs of a model, beyond being a sound checkpoint of its family. */
static int check_use(const struct pipeline *p, struct dr_error *err)
{
    const char *path = checkpoint_source_path(p->checkpoint, COMPONENT_UNET);
    const struct unet_arch *u = checkpoint_unet_arch(p->checkpoint);
    const struct vae_arch *v = checkpoint_vae_arch(p->checkpoint);
    if (u->in_channels != v->latent_channels)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: the UNet takes %lld channels and the VAE gives %lld: %s", path,
                       (long long)u->in_channels, (long long)v->latent_channels,
                       more_channels(u->in_channels, v->latent_channels));
    if (checkpoint_family(p->checkpoint)->added && u->n_time_ids != PROMPT_TIME_IDS)
        return dr_fail(
            err, DR_EUNSUPPORTED,
            "%s: a refiner, which continues a base model's picture; expected a base model", path);
    if (v->out_channels != 3)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: the VAE gives %lld channels; expected 3, red, green and blue",
                       checkpoint_source_path(p->checkpoint, COMPONENT_VAE),
                       (long long)v->out_channels);
    return 0;
}

/* Variants of earlier jobs may keep a quarter of the memory that the system has. */
static int open_variants(struct pipeline *p, struct dr_error *err)
{
    struct system_memory memory;
    size_t budget = SIZE_MAX / 4;
    system_memory("", &memory);
    if (*memory.machine.source && memory.machine.limit / 4 < budget)
        budget = memory.machine.limit / 4;
    if (*memory.group.source && memory.group.limit / 4 < budget)
        budget = memory.group.limit / 4;
    return variant_cache_new(budget, &p->variants, err);
}

bool pipeline_drop_variants(struct pipeline *p)
{
    return variant_cache_trim(p->variants);
}

static int open_all(struct pipeline *p, const struct model_spec *spec,
                    const struct pipeline_options *how, struct dr_error *err)
{
    int r = checkpoint_open_spec(spec, how->stop, &p->checkpoint, err);
    if (!r)
        r = check_use(p, err);
    if (!r)
        r = open_tokenizers(p, how->stop, err);
    if (!r)
        r = open_networks(p, err);
    if (!r)
        r = open_variants(p, err);
    if (!r)
        r = pipeline_weights_size(p, how->store, err);
    if (!r)
        p->latent_factor = (int64_t)1 << (checkpoint_vae_arch(p->checkpoint)->levels - 1);
    return r;
}

static const struct pipeline_options none;

int pipeline_open(const char *path, struct backend *be, const struct pipeline_options *options,
                  struct pipeline **ret, struct dr_error *err)
{
    struct model_spec spec = { .model = { path, options ? options->root : NULL } };
    return pipeline_open_spec(&spec, be, options, ret, err);
}

int pipeline_open_spec(const struct model_spec *spec, struct backend *be,
                       const struct pipeline_options *options, struct pipeline **ret,
                       struct dr_error *err)
{
    struct pipeline *p = dr_calloc(DR_TAG_MODEL, 1, sizeof *p);
    if (!p)
        return dr_fail(err, DR_ENOMEM, "out of memory for a pipeline");
    p->refs = 1;
    p->backend = be;
    dr_tally_init(&p->tally);
    struct dr_tally *before = dr_tally_use(&p->tally);
    int r = open_all(p, spec, options ? options : &none, err);
    dr_tally_use(before);
    if (r < 0) {
        pipeline_unref(p);
        return r;
    }
    *ret = p;
    return 0;
}

struct pipeline *pipeline_ref(struct pipeline *p)
{
    p->refs++;
    return p;
}

void pipeline_unref(struct pipeline *p)
{
    if (!p || --p->refs)
        return;
    variant_cache_free(p->variants);
    for (int i = 0; i < PROMPT_ENCODERS; i++) {
        clip_text_free(p->encoders.encoder[i].text);
        tok_free(p->tokenizers[i]);
    }
    prompt_cache_release(&p->prompts);
    unet_free(p->unet);
    vae_free(p->vae);
    vae_free(p->encoder);
    pack_close(p->pack);
    backend_close(p->plan);
    checkpoint_close(p->checkpoint);
    dr_free(p);
}

int pipeline_load(struct pipeline *p, const struct pipeline_options *options, struct dr_error *err)
{
    if (pipeline_is_loaded(p))
        return 0;
    struct dr_tally *before = dr_tally_use(&p->tally);
    int r = pipeline_weights_load(p, options ? options : &none, err);
    dr_tally_use(before);
    return r;
}

bool pipeline_is_loaded(const struct pipeline *p)
{
    return p->loaded && (!p->pack || pack_current(p->pack));
}

size_t pipeline_unmade_bytes(const struct pipeline *p)
{
    return p->loaded || p->in_pack ? 0 : p->made_bytes;
}

size_t pipeline_private_bytes(const struct pipeline *p)
{
    size_t bytes = 0;
    for (int t = 0; t < DR_TAG_COUNT; t++)
        bytes += p->tally.bytes[t];
    return bytes;
}

size_t pipeline_bytes(const struct pipeline *p)
{
    return pipeline_private_bytes(p) + p->mapped;
}

int pipeline_check(const struct pipeline *p, struct dr_error *err)
{
    int r = checkpoint_check(p->checkpoint, err);
    return r || !p->pack ? r : pack_check(p->pack, err);
}

int pipeline_check_after(struct pipeline *p, const atomic_int *stop, struct dr_error *err)
{
    int r = checkpoint_check(p->checkpoint, err);
    struct pack_verifying how = { .threads = backend_threads(p->backend), .stop = stop };
    return r || !p->pack ? r : pack_check_after(p->pack, &how, err);
}
