/* odd_model.c - see odd_model.h. */
#include "testing/helpers/odd_model.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/model_access.h"

#include <stdio.h>
#include <string.h>

#include "backend/device.h"
#include "testing/helpers/guarded.h"

enum { BLOCK = 64 << 20 /* bytes of workspace */ };

static int load(struct odd *m, enum component part, void *network, visit_fn visit,
                struct dr_error *err)
{
    int r;
    if ((r = checkpoint_load(m->ckpt, part, network, visit, err)) ||
        (r = params_prepare(network, visit, m->be, NULL, err)))
        return r;
    return params_acquire(network, visit, err);
}

static int load_all(struct odd *m, struct dr_error *err)
{
    int r;
    for (int i = 0; i < 2; i++)
        if ((r = clip_text_new(checkpoint_clip_arch(m->ckpt, i), &m->clip[i], err)) ||
            (r = load(m, i ? COMPONENT_TEXT_ENCODER_2 : COMPONENT_TEXT_ENCODER, m->clip[i],
                      clip_text_visit, err)))
            return r;
    if ((r = unet_new(checkpoint_unet_arch(m->ckpt), &m->unet, err)) ||
        (r = load(m, COMPONENT_UNET, m->unet, unet_visit, err)) ||
        (r = vae_new(checkpoint_vae_arch(m->ckpt), true, true, &m->vae, err)))
        return r;
    return load(m, COMPONENT_VAE, m->vae, vae_visit, err);
}

static int open_backend(struct odd *m, enum odd_kind kind, const struct backend_options *opt,
                        struct dr_error *err)
{
    if (kind == ODD_GUARDED)
        return backend_open_guarded(opt, &m->be, err);
    if (kind == ODD_CPU)
        return backend_open(opt, &m->be, err);
    int r = backend_open(opt, &m->inner, err);
    return r ? r : backend_open_plan(m->inner, &m->be, err);
}

/* Exact arithmetic, unless the set has none. */
static enum precision precision_of(const char *kernels)
{
    const char *name;
    for (int i = 0; kernels && (name = backend_kernel_set_name(i, NULL)); i++)
        if (!strcmp(name, kernels))
            return backend_kernel_set_precision(i);
    return PRECISION_F32;
}

int odd_open(struct odd *m, enum odd_kind kind, const char *kernels, int threads,
             struct dr_error *err)
{
    return odd_open_at(m, test_source("testing/golden/odd/model"), kind, kernels, threads, err);
}

int odd_open_at(struct odd *m, const char *path, enum odd_kind kind, const char *kernels,
                int threads, struct dr_error *err)
{
    int r;
    memset(m, 0, sizeof *m);
    if ((r = checkpoint_open(path, &m->ckpt, err)) ||
        (r = open_backend(m, kind,
                          &(struct backend_options){ .kernels = kernels,
                                                     .threads = threads,
                                                     .precision = precision_of(kernels) },
                          err)) ||
        (r = workspace_new(m->be, kind == ODD_PLAN ? SIZE_MAX : BLOCK, &m->ws, err)))
        return r;
    m->x = (struct exec){ .be = m->be, .ws = m->ws, .stop = &m->stop };
    return load_all(m, err);
}

void odd_must(struct odd *m, enum odd_kind kind, const char *kernels, int threads)
{
    struct dr_error err = { 0 };
    if (odd_open(m, kind, kernels, threads, &err))
        fail_msg("%s", err.text);
}

void odd_close(struct odd *m)
{
    for (int i = 0; i < 2; i++)
        clip_text_free(m->clip[i]);
    unet_free(m->unet);
    vae_free(m->vae);
    workspace_free(m->ws);
    backend_close(m->be);
    backend_close(m->inner);
    checkpoint_close(m->ckpt);
}

struct npy odd_vector(const char *name)
{
    struct npy a;
    struct dr_error err = { 0 };
    char path[256];
    snprintf(path, sizeof path, "testing/golden/odd/%s.npy", name);
    if (npy_load(test_source(path), &a, &err))
        fail_msg("%s", err.text);
    return a;
}
