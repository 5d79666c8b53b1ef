/* lora_survey.c - see lora_survey.h.
 *
 * The networks are those of the config.json files of stabilityai/stable-diffusion-xl-base-1.0 and
 * -refiner-1.0, stable-diffusion-v1-5 and stabilityai/stable-diffusion-2-1. Distilled ones (SSD-1B,
 * Vega, KOALA) have some of SDXL's layers, in the same shapes.
 */
#include "models/adapters/lora_survey.h"

#include <stdio.h>
#include <string.h>

#include "models/arch_sdxl.h"
#include "models/clip_text.h"
#include "models/unet.h"

/* ---- the families ---- */

static const struct unet_arch sd1_unet = {
    .in_channels = 4,
    .out_channels = 4,
    .levels = 4,
    .channels = { 320, 640, 1280, 1280 },
    .layers = { 2, 2, 2, 2 },
    .depth = { { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0 } },
    .up_depth = { { 1, 1, 1 }, { 1, 1, 1 }, { 1, 1, 1 }, { 0 } },
    .mid = true,
    .mid_depth = 1,
    .mid_resnets = 2,
    .heads = { 8, 8, 8, 8 },
    .context = 768,
    .time_dim = 1280,
    .groups = 32,
    .eps = 1e-5,
};

static const struct unet_arch sd2_unet = {
    .in_channels = 4,
    .out_channels = 4,
    .levels = 4,
    .channels = { 320, 640, 1280, 1280 },
    .layers = { 2, 2, 2, 2 },
    .depth = { { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0 } },
    .up_depth = { { 1, 1, 1 }, { 1, 1, 1 }, { 1, 1, 1 }, { 0 } },
    .mid = true,
    .mid_depth = 1,
    .mid_resnets = 2,
    .heads = { 5, 10, 20, 20 },
    .context = 1024,
    .linear_projection = true,
    .time_dim = 1280,
    .groups = 32,
    .eps = 1e-5,
};

static const struct unet_arch refiner_unet = {
    .in_channels = 4,
    .out_channels = 4,
    .levels = 4,
    .channels = { 384, 768, 1536, 1536 },
    .layers = { 2, 2, 2, 2 },
    .depth = { { 0 }, { 4, 4 }, { 4, 4 }, { 0 } },
    .up_depth = { { 0 }, { 4, 4, 4 }, { 4, 4, 4 }, { 0 } },
    .mid = true,
    .mid_depth = 4,
    .mid_resnets = 2,
    .heads = { 6, 12, 24, 24 },
    .context = 1280,
    .linear_projection = true,
    .time_dim = 1536,
    .addition_time_dim = 256,
    .n_time_ids = 5,
    .pooled = 1280,
    .groups = 32,
    .eps = 1e-5,
};

static const struct clip_arch sd2_text = {
    .vocab = 49408,
    .width = 1024,
    .layers = 24,
    .heads = 16,
    .mlp = 4096,
    .positions = 77,
    .act = ARCH_GELU,
    .eps = 1e-5,
};

static const struct {
    const char *name;
    const struct unet_arch *unet;
    const struct clip_arch *text[2];
} families[SURVEY_FAMILIES] = {
    { "SDXL", &arch_sdxl_unet, { &arch_sdxl_text[0], &arch_sdxl_text[1] } },
    { "Stable Diffusion 1.x", &sd1_unet, { &arch_sdxl_text[0] } },
    { "Stable Diffusion 2.x", &sd2_unet, { &sd2_text } },
    { "the SDXL refiner", &refiner_unet, { NULL, &arch_sdxl_text[1] } },
};

struct networks {
    struct unet *unet;
    struct clip_text *text[2];
    struct adapter_network list[3];
};

static int networks_open(int family, struct networks *n, struct dr_error *err)
{
    static const enum component of_text[] = { COMPONENT_TEXT_ENCODER, COMPONENT_TEXT_ENCODER_2 };
    *n = (struct networks){ .unet = NULL };
    int r = unet_new(families[family].unet, &n->unet, err);
    n->list[0] = (struct adapter_network){ COMPONENT_UNET, n->unet, unet_visit };
    for (int i = 0; i < 2; i++) {
        if (!r && families[family].text[i])
            r = clip_text_new(families[family].text[i], &n->text[i], err);
        n->list[1 + i] = (struct adapter_network){ of_text[i], n->text[i], clip_text_visit };
    }
    return r;
}

static void networks_close(struct networks *n)
{
    unet_free(n->unet);
    clip_text_free(n->text[0]);
    clip_text_free(n->text[1]);
}

/* ---- shapes ---- */

struct shapes_met {
    const struct weight_delta *deltas;
    size_t n, fits;
};

/* Counts the changes that this parameter can take. */
static int fit_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct shapes_met *f = ctx;
    (void)p;
    for (size_t i = 0; i < f->n; i++) {
        const struct weight_delta *d = &f->deltas[i];
        f->fits += !strcmp(d->param, name) && !d->kind->check(d, shape, NULL);
    }
    return 0;
}

static int count_fits(const struct lora_file *file, const struct networks *n, size_t *ret_fits,
                      size_t *ret_changes)
{
    struct shapes_met f = { .fits = 0 };
    struct visitor v = { .param = fit_param, .ctx = &f };
    int r = 0;
    *ret_changes = 0;
    for (int i = 0; !r && i < 3; i++) {
        f.n = lora_file_deltas(file, n->list[i].component, &f.deltas);
        *ret_changes += f.n;
        r = n->list[i].network && f.n ? n->list[i].visit(n->list[i].network, &v) : 0;
    }
    *ret_fits = f.fits;
    return r;
}

/* ---- the whole ---- */

/* One family; the file is kept where it is the best so far. */
static int try_family(struct lora_survey *s, int family, const struct model_root *root,
                      const char *path, const atomic_int *stop, struct dr_error *err)
{
    struct networks n;
    struct lora_file *file = NULL;
    struct dr_error why = { 0 };
    size_t fits = 0, changes = 0;
    int r = networks_open(family, &n, err);
    struct lora_model model = { n.list, 3, families[family].unet, true };
    if (!r && !(r = lora_file_open(root, path, &model, stop, &file, &why)))
        r = count_fits(file, &n, &fits, &changes);
    else if (!r)
        *err = why;
    networks_close(&n);
    s->family[family].name = families[family].name;
    s->family[family].fits = fits;
    if (r) {
        lora_file_close(file);
        if (r == DR_ENOMEM || r == DR_ECANCELED)
            return dr_fail(err, r, "%s: %s", path, dr_code_meaning(r));
        if (!*s->problem || r != DR_EINVAL)
            snprintf(s->problem, sizeof s->problem, "%s", why.text);
        return 0;
    }
    size_t most = s->best < 0 ? 0 : s->family[s->best].fits;
    if (!s->file || fits > most || (!most && changes > s->changes)) {
        lora_file_close(s->file);
        s->file = file;
        s->changes = changes;
        s->best = fits ? family : s->best;
    } else {
        lora_file_close(file);
    }
    return 0;
}

int lora_survey_open(const struct model_root *root, const char *path, bool values,
                     const atomic_int *stop, struct lora_survey *ret, struct dr_error *err)
{
    struct dr_error why = { 0 };
    int r = 0;
    *ret = (struct lora_survey){ .best = -1 };
    for (int i = 0; !r && i < SURVEY_FAMILIES; i++)
        r = try_family(ret, i, root, path, stop, err);
    if (!r && ret->file)
        ret->problem[0] = '\0';
    if (!r && ret->file && values && (r = lora_file_values(ret->file, stop, &why))) {
        bool fatal = r == DR_ENOMEM || r == DR_ECANCELED || r == DR_EIO;
        snprintf(ret->problem, sizeof ret->problem, "%s", why.text);
        r = fatal ? dr_fail(err, r, "%s", why.text) : 0;
    }
    if (r)
        lora_survey_close(ret);
    return r;
}

void lora_survey_close(struct lora_survey *s)
{
    lora_file_close(s->file);
    s->file = NULL;
}

const struct unet_arch *lora_survey_unet(const struct lora_survey *s, bool *ret_one_encoder)
{
    *ret_one_encoder = s->best >= 0 && !families[s->best].text[1];
    return s->best < 0 ? NULL : families[s->best].unet;
}

/* ---- words ---- */

int64_t lora_survey_rank(const struct weight_delta *d)
{
    const struct delta_kind *kind = d->inner ? d->inner : d->kind;
    int at = kind == &delta_kind_low_rank ? LOW_RANK_DOWN
             : kind == &delta_kind_loha   ? LOHA_1B
             : kind != &delta_kind_lokr   ? -1
             : delta_has(d, LOKR_2B)      ? LOKR_2B
             : delta_has(d, LOKR_1B)      ? LOKR_1B
                                          : -1;
    return at < 0 ? 0 : delta_dim(&d->tensor[at], 0);
}

const char *lora_survey_kind(const struct weight_delta *d)
{
    static const struct {
        const struct delta_kind *kind;
        const char *name;
    } names[] = {
        { &delta_kind_difference, "full difference" },
        { &delta_kind_replacement, "replacement" },
        { &delta_kind_loha, "LoHa" },
        { &delta_kind_lokr, "LoKr" },
        { &delta_kind_dora, "DoRA" },
        { &delta_kind_glora, "GLoRA" },
        { &delta_kind_oft, "OFT" },
        { &delta_kind_boft, "BOFT" },
        { &delta_kind_ia3, "IA3" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].kind == d->kind)
            return names[i].name;
    return delta_has(d, LOW_RANK_MID) ? "LoCon (Tucker)"
           : d->tensor[LOW_RANK_DOWN].shape.n > 2 && delta_dim(&d->tensor[LOW_RANK_DOWN], 2) > 1
               ? "LoCon"
               : "LoRA";
}
