/* pipeline_manager.c - see pipeline_manager.h. */
#include "inference/pipeline_manager.h"

#include <string.h>

#include "backend/cache/pack.h"
#include "base/clock.h"
#include "base/log.h"
#include "inference/pipeline_weights.h"
#include "models/clip_text.h"
#include "models/tokenizers/clip_tokenizer.h"
#include "models/unet.h"
#include "models/vae.h"

static int open_tokenizers(struct pipeline *p, const atomic_int *stop, struct dr_error *err)
{
    for (int i = 0; i < PROMPT_ENCODERS; i++) {
        if (!checkpoint_clip_arch(p->checkpoint, i))
            continue;
        int r = checkpoint_tokenizer(p->checkpoint, i, stop, &p->tokenizers[i], err);
        if (r < 0)
            return r;
        p->encoders.encoder[i].tokens = p->tokenizers[i];
        int64_t vocab = checkpoint_clip_arch(p->checkpoint, i)->vocab;
        if (tok_info(p->tokenizers[i]).id_limit > vocab)
            return dr_fail(err, DR_EFORMAT,
                           "%s: tokenizer%s gives ids up to %d, the text encoder knows %lld tokens",
                           checkpoint_path(p->checkpoint), i ? "_2" : "",
                           tok_info(p->tokenizers[i]).id_limit - 1, (long long)vocab);
    }
    checkpoint_forget_texts(p->checkpoint);
    p->encoders.chunk = PIPELINE_TOKENS;
    return 0;
}

static int load(struct pipeline *p, enum component component, void *network, visit_fn visit,
                struct dr_error *err)
{
    p->networks[p->n_networks++] = (struct pipeline_network){ component, network, visit };
    return checkpoint_load(p->checkpoint, component, network, visit, err);
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
        p->encoders.encoder[i].layer = role->layer;
        p->encoders.encoder[i].final_norm = role->final_norm;
        p->encoders.encoder[i].pooled = role->pooled;
        r = clip_text_new(arch, &p->encoders.encoder[i].text, err);
        if (!r)
            r = load(p, text[i], p->encoders.encoder[i].text, clip_text_visit, err);
    }
    if (!r)
        r = unet_new(checkpoint_unet_arch(p->checkpoint), &p->unet, err);
    if (!r)
        r = load(p, COMPONENT_UNET, p->unet, unet_visit, err);
    if (!r)
        r = vae_new(checkpoint_vae_arch(p->checkpoint), false, true, &p->vae, err);
    if (!r)
        r = load(p, COMPONENT_VAE, p->vae, vae_visit, err);
    return r;
}

/* What text to image needs of a model, beyond being a sound checkpoint of its family. */
static int check_use(const struct pipeline *p, struct dr_error *err)
{
    const char *path = checkpoint_path(p->checkpoint);
    const struct unet_arch *u = checkpoint_unet_arch(p->checkpoint);
    const struct vae_arch *v = checkpoint_vae_arch(p->checkpoint);
    if (u->in_channels != v->latent_channels)
        return dr_fail(
            err, DR_EUNSUPPORTED,
            "%s: the UNet takes %lld channels and the VAE gives %lld: an inpainting model "
            "needs a picture and a mask, text alone does not do",
            path, (long long)u->in_channels, (long long)v->latent_channels);
    if (u->n_time_ids != PROMPT_TIME_IDS)
        return dr_fail(
            err, DR_EUNSUPPORTED,
            "%s: a refiner, which continues a base model's picture; expected a base model", path);
    if (v->out_channels != 3)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: the VAE gives %lld channels; expected 3, red, green and blue", path,
                       (long long)v->out_channels);
    return 0;
}

int pipeline_open(const char *path, struct backend *be, const struct pipeline_options *options,
                  struct pipeline **ret, struct dr_error *err)
{
    static const struct pipeline_options none;
    const struct pipeline_options *how = options ? options : &none;
    struct pipeline *p = dr_calloc(DR_TAG_MODEL, 1, sizeof *p);
    if (!p)
        return dr_fail(err, DR_ENOMEM, "out of memory for a pipeline");
    p->backend = be;
    int r = checkpoint_open_in(how->root, path, how->stop, &p->checkpoint, err);
    if (!r)
        r = check_use(p, err);
    if (!r)
        r = open_tokenizers(p, how->stop, err);
    if (!r)
        r = open_networks(p, err);
    if (!r)
        r = pipeline_weights(p, how, err);
    if (r < 0) {
        pipeline_close(p);
        return r;
    }
    p->latent_factor = (int64_t)1 << (checkpoint_vae_arch(p->checkpoint)->levels - 1);
    *ret = p;
    return 0;
}

void pipeline_close(struct pipeline *p)
{
    if (!p)
        return;
    for (int i = 0; i < PROMPT_ENCODERS; i++) {
        clip_text_free(p->encoders.encoder[i].text);
        tok_free(p->tokenizers[i]);
    }
    prompt_cache_release(&p->prompts);
    unet_free(p->unet);
    vae_free(p->vae);
    pack_close(p->pack);
    checkpoint_close(p->checkpoint);
    dr_free(p);
}

bool pipeline_is_ready(const struct pipeline *p)
{
    return !p->pack || (!pack_promised(p->pack) && pack_current(p->pack));
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

struct pipeline_manager {
    struct pipeline *loaded;
    char *path;
};

int pipeline_manager_new(struct pipeline_manager **ret, struct dr_error *err)
{
    struct pipeline_manager *m = dr_calloc(DR_TAG_MODEL, 1, sizeof *m);
    if (!m)
        return dr_fail(err, DR_ENOMEM, "out of memory for the pipeline manager");
    *ret = m;
    return 0;
}

void pipeline_manager_drop(struct pipeline_manager *m)
{
    pipeline_close(m->loaded);
    dr_free(m->path);
    m->loaded = NULL;
    m->path = NULL;
}

void pipeline_manager_free(struct pipeline_manager *m)
{
    if (!m)
        return;
    pipeline_manager_drop(m);
    dr_free(m);
}

static bool holds(const struct pipeline_manager *m, const char *path)
{
    return m->loaded && !strcmp(m->path, path) && checkpoint_current(m->loaded->checkpoint);
}

struct pipeline *pipeline_manager_peek(const struct pipeline_manager *m, const char *path)
{
    return holds(m, path) && !pipeline_check(m->loaded, NULL) ? m->loaded : NULL;
}

int pipeline_manager_int8(const struct pipeline_manager *m, const struct model_root *root,
                          const char *path, const atomic_int *stop, bool *ret, struct dr_error *err)
{
    struct checkpoint *c;
    if (holds(m, path)) {
        *ret = checkpoint_int8(m->loaded->checkpoint);
        return 0;
    }
    int r = checkpoint_open_in(root, path, stop, &c, err);
    if (r < 0)
        return r;
    *ret = checkpoint_int8(c);
    checkpoint_close(c);
    return 0;
}

int pipeline_manager_ready(struct pipeline_manager *m, const struct pipeline_options *options,
                           struct dr_error *err)
{
    struct pipeline_options real = *options;
    real.plan_only = false;
    if (pipeline_is_ready(m->loaded))
        return 0;
    pipeline_weights_drop(m->loaded);
    int r = pipeline_weights(m->loaded, &real, err);
    if (r < 0)
        pipeline_manager_drop(m);
    return r;
}

int pipeline_manager_get(struct pipeline_manager *m, const char *path, struct backend *be,
                         const struct pipeline_options *options, struct pipeline **ret,
                         struct dr_error *err)
{
    struct pipeline *held = pipeline_manager_peek(m, path);
    if (held && held->backend == be &&
        (pipeline_is_ready(held) || (options && options->plan_only))) {
        *ret = held;
        return 0;
    }
    pipeline_manager_drop(m);
    m->path = dr_strdup(DR_TAG_MODEL, path);
    if (!m->path)
        return dr_fail(err, DR_ENOMEM, "out of memory for a path");
    double began = dr_now();
    int r = pipeline_open(path, be, options, &m->loaded, err);
    if (!r) {
        struct dr_log_fields f = { .n = 0 };
        dr_log_text(&f, "path", path);
        dr_log_real(&f, "seconds", dr_now() - began);
        dr_log_text(&f, "kind", checkpoint_kind(m->loaded->checkpoint));
        dr_log_event(DR_LOG_INFO, "engine", &f, "model opened");
    }
    if (r < 0) {
        pipeline_manager_drop(m);
        return r;
    }
    *ret = m->loaded;
    return 0;
}
