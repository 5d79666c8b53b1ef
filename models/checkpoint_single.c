/* checkpoint_single.c - opening a single file with sgm keys, see checkpoint_impl.h. */
#include "models/checkpoint_impl.h"

#include <stdio.h>
#include <string.h>

#include "models/edm_marks.h"
#include "models/formats/classify.h"
#include "models/formats/infer_arch.h"
#include "models/formats/key_map.h"
#include "models/formats/quantised.h"
#include "models/formulation.h"

/* Adds the three parts of a stacked matrix under the names with q, k and v. */
static int add_stacked(struct checkpoint *c, const struct safetensors *st,
                       const struct st_tensor *t, struct key_target *target, struct dr_error *err)
{
    int64_t count, block = dtype_block(t->dtype);
    if (!t->shape.n || t->shape.d[0] % target->parts || !shape_count(&t->shape, &count) ||
        count / target->parts % block)
        return dr_fail(err, DR_EFORMAT, "%s: tensor '%s' cannot be cut in three", st->path,
                       t->name);
    char *letter = strchr(target->name, '?');
    int r = letter ? 0 : DR_EINTERNAL;
    for (int i = 0; !r && i < target->parts; i++) {
        *letter = "qkv"[i];
        struct weight_source src = checkpoint_source(st, t, i, target->parts);
        r = tensor_table_add(&c->tables[target->component], &c->texts, target->name, &src, false,
                             err);
    }
    return r;
}

int checkpoint_add_tensor(struct checkpoint *c, const struct safetensors *st,
                          const struct st_tensor *t, struct key_target *target,
                          struct dr_error *err)
{
    if (target->parts > 1)
        return add_stacked(c, st, t, target, err);
    struct weight_source src = checkpoint_source(st, t, 0, 1);
    if (target->transpose) {
        if (src.shape.n != 2)
            return dr_fail(err, DR_EFORMAT, "%s: tensor '%s' is not a matrix", st->path, t->name);
        src.shape = SHAPE2(t->shape.d[1], t->shape.d[0]);
    }
    return tensor_table_add(&c->tables[target->component], &c->texts, target->name, &src,
                            target->transpose, err);
}

/* Tensors that files are known to have beside their networks. */
static const struct {
    const char *prefix, *text;
} extras[] = {
    { "model_ema.", "averages of the weights from training" },
    { "first_stage_model.loss.", "the VAE's loss in training" },
    { "optimizer_states.", "the state of training" },
};

enum { EXTRAS = sizeof extras / sizeof *extras };

static void add_unknown(struct checkpoint *c, const char *name, size_t counts[EXTRAS])
{
    for (size_t i = 0; i < EXTRAS; i++)
        if (!strncmp(name, extras[i].prefix, strlen(extras[i].prefix))) {
            counts[i]++;
            return;
        }
    name_group_add(&c->unused, name);
}

static int warn_extras(struct checkpoint *c, const size_t counts[EXTRAS], struct dr_error *err)
{
    int r = 0;
    for (size_t i = 0; !r && i < EXTRAS; i++)
        if (counts[i])
            r = checkpoint_warn(c, "%zu tensors %s* are not used: %s", counts[i], extras[i].prefix,
                                extras[i].text);
    return r ? dr_fail(err, r, "out of memory for a warning") : 0;
}

static int add_all(struct checkpoint *c, const struct safetensors *st, struct dr_error *err)
{
    size_t counts[EXTRAS] = { 0 };
    struct key_blocks blocks;
    key_blocks_scan(&st->header, &blocks);
    c->unused = (struct name_group){ 0 };
    for (size_t i = 0; i < st->header.n_tensors; i++) {
        const struct st_tensor *t = &st->header.tensors[i];
        struct key_target target;
        enum key_answer answer = key_map_single(&blocks, t->name, &target);
        int r = 0;
        if (answer == KEY_KNOWN && !c->own[target.component])
            r = checkpoint_add_tensor(c, st, t, &target, err);
        else if (answer == KEY_UNKNOWN)
            add_unknown(c, t->name, counts);
        if (r)
            return r;
    }
    int r = warn_extras(c, counts, err);
    return r ? r : checkpoint_warn_unused(c, &c->unused, err);
}

/* In the file, or as a part of its own. */
static bool given(const struct checkpoint *c, enum component component)
{
    return c->has[component] || c->own[component];
}

static int lacks(const struct checkpoint *c, const char *meaning, struct dr_error *err)
{
    return dr_fail(err, DR_EFORMAT, "%s: %s without its %s", c->path, c->family->text, meaning);
}

static int check_parts(const struct checkpoint *c, struct dr_error *err)
{
    if (!given(c, COMPONENT_UNET))
        return lacks(c, "UNet (model.diffusion_model.*)", err);
    for (int i = 0; i < c->family->n_encoders; i++)
        if (!given(c, c->family->encoders[i].component))
            return lacks(c, c->family->encoders[i].meaning, err);
    return given(c, COMPONENT_VAE) ? 0 : lacks(c, "VAE (first_stage_model.*)", err);
}

/* What comes with an encoder and is not read. */
static void mark_spare(struct tensor_table *t, const struct family_encoder *e,
                       const struct clip_arch *arch)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "text_model.encoder.layers.%d.", e->read);
    if (e->read && arch->layers == e->read)
        tensor_table_spare(t, prefix);
    if (!e->pooled)
        tensor_table_spare(t, "text_projection.");
}

static int infer_one(struct checkpoint *c, const struct family_encoder *e, const char *file,
                     struct dr_error *err)
{
    if (c->own[e->component])
        return checkpoint_open_part(c, e->component, err);
    int r = infer_clip(&c->tables[e->component], e, file, checkpoint_clip(c, e->component), err);
    if (!r)
        mark_spare(&c->tables[e->component], e, checkpoint_clip(c, e->component));
    return r;
}

static int infer_all(struct checkpoint *c, const char *file, struct dr_error *err)
{
    const struct family *f = c->family;
    int64_t pooled = 0;
    int r = check_parts(c, err);
    for (int i = 0; !r && i < f->n_encoders; i++) {
        const struct family_encoder *e = &f->encoders[i];
        r = infer_one(c, e, file, err);
        if (e->pooled)
            pooled = checkpoint_clip(c, e->component)->projection;
    }
    if (!r)
        r = c->own[COMPONENT_UNET]
                ? checkpoint_open_part(c, COMPONENT_UNET, err)
                : infer_unet(&c->tables[COMPONENT_UNET], f, pooled, file, &c->unet, err);
    if (r)
        return r;
    return c->own[COMPONENT_VAE] ? checkpoint_open_part(c, COMPONENT_VAE, err)
                                 : infer_vae(&c->tables[COMPONENT_VAE], f, file, &c->vae, err);
}

/* GGUF files name what they are for, which helps where no tensor is known. */
static int wrong_kind(const struct checkpoint *c, const struct st_header *h,
                      const struct file_kind *kind, struct dr_error *err)
{
    const char *architecture = NULL;
    for (size_t i = 0; i < h->n_metadata; i++)
        if (!strcmp(h->metadata[i].key, "general.architecture"))
            architecture = h->metadata[i].value;
    return dr_fail(err, DR_EUNSUPPORTED,
                   "%s: this is %s%s%.60s%s, expected a checkpoint of Stable Diffusion or "
                   "SDXL%s%s%s",
                   c->path, kind->text, architecture ? " (general.architecture '" : "",
                   architecture ? architecture : "", architecture ? "')" : "",
                   kind->option ? "; give it with " : "", kind->option ? kind->option : "",
                   kind->option ? " beside the model whose part it replaces" : "");
}

int checkpoint_open_single(struct checkpoint *c, struct dr_error *err)
{
    struct safetensors *st;
    int r = checkpoint_add_file(c, COMPONENT_COUNT, "", &st, err);
    if (r)
        return r;
    const struct file_kind *kind = classify(&st->header);
    char what[320];
    if ((kind->quantised || kind->family) && quantised(&st->header, true, what, sizeof what))
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: a checkpoint of %s, which Darkroom does "
                       "not read",
                       c->path, what);
    if (!kind->family || !kind->family->opens)
        return wrong_kind(c, &st->header, kind, err);
    r = comfy_quant_check(st, err);
    if (!r)
        r = add_all(c, st, err);
    for (int i = 0; !r && i < COMPONENT_COUNT; i++) {
        c->has[i] = c->tables[i].n > 0;
        r = tensor_table_sort(&c->tables[i], c->path, err);
    }
    c->family = family_member(kind->family, given(c, kind->family->encoders[0].component));
    if (!r)
        r = formulation_of_file(c, st, err);
    if (!r)
        r = infer_all(c, c->path, err);
    if (!r)
        r = edm_latents(c, st, err);
    if (!r && c->own[COMPONENT_UNET])
        r = formulation_of_unet(c, err);
    c->force_zeros = c->family->zero_negative;
    return r;
}
