/* checkpoint_single.c - opening a single file with sgm keys, see checkpoint_impl.h. */
#include "models/checkpoint_impl.h"

#include <string.h>

#include "models/formats/classify.h"
#include "models/formats/infer_arch.h"
#include "models/formats/key_map.h"
#include "models/formats/quantised.h"
#include "models/formulation.h"

/* Adds the three parts of a stacked matrix under the names with q, k and v. */
static int add_stacked(struct checkpoint *c, const struct safetensors *st,
                       const struct st_tensor *t, struct key_target *target, struct dr_error *err)
{
    if (!t->shape.n || t->shape.d[0] % target->parts)
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

static int add_tensor(struct checkpoint *c, const struct safetensors *st, const struct st_tensor *t,
                      struct key_target *target, struct dr_error *err)
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

static int add_all(struct checkpoint *c, const struct safetensors *st, struct dr_error *err)
{
    struct key_blocks blocks;
    key_blocks_scan(&st->header, &blocks);
    c->unused = (struct name_group){ 0 };
    for (size_t i = 0; i < st->header.n_tensors; i++) {
        const struct st_tensor *t = &st->header.tensors[i];
        struct key_target target;
        enum key_answer answer = key_map_single(&blocks, t->name, &target);
        int r = 0;
        if (answer == KEY_KNOWN)
            r = add_tensor(c, st, t, &target, err);
        else if (answer == KEY_UNKNOWN)
            name_group_add(&c->unused, t->name);
        if (r)
            return r;
    }
    return checkpoint_warn_unused(c, &c->unused, err);
}

static int infer_all(struct checkpoint *c, const char *file, struct dr_error *err)
{
    static const struct {
        enum component component;
        const char *meaning;
    } needed[] = {
        { COMPONENT_UNET, "UNet (model.diffusion_model.*)" },
        { COMPONENT_TEXT_ENCODER_2, "second text encoder (conditioner.embedders.1.*)" },
        { COMPONENT_VAE, "VAE (first_stage_model.*)" },
    };
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!c->has[needed[i].component])
            return dr_fail(err, DR_EFORMAT, "%s: an SDXL checkpoint without its %s", file,
                           needed[i].meaning);
    int r = infer_clip(&c->tables[COMPONENT_TEXT_ENCODER_2], file, &c->clip[1], err);
    if (!r && c->has[COMPONENT_TEXT_ENCODER])
        r = infer_clip(&c->tables[COMPONENT_TEXT_ENCODER], file, &c->clip[0], err);
    if (!r)
        r = infer_unet(&c->tables[COMPONENT_UNET], c->clip[1].projection, file, &c->unet, err);
    return r ? r : infer_vae(&c->tables[COMPONENT_VAE], file, &c->vae, err);
}

int checkpoint_open_single(struct checkpoint *c, struct dr_error *err)
{
    struct safetensors *st;
    const char *name = dr_path_base(c->path);
    int r = checkpoint_add_file(c, name, &st, err);
    if (r)
        return r;
    const struct file_kind *kind = classify(&st->header);
    char what[320];
    if (!strcmp(kind->id, "sdxl-quantised") && quantised(&st->header, true, what, sizeof what))
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: an SDXL checkpoint of %s, which Darkroom does "
                       "not read",
                       c->path, what);
    if (strcmp(kind->id, "sdxl"))
        return dr_fail(err, DR_EUNSUPPORTED, "%s: this is %s, expected an SDXL checkpoint", c->path,
                       kind->text);
    r = add_all(c, st, err);
    for (int i = 0; !r && i < COMPONENT_COUNT; i++) {
        c->has[i] = c->tables[i].n > 0;
        r = tensor_table_sort(&c->tables[i], c->path, err);
    }
    if (!r)
        r = formulation_of_file(c, st, err);
    if (!r)
        r = infer_all(c, c->path, err);
    /* As the model_index.json files of the base (true) and the refiner (false) have it. */
    c->force_zeros = c->has[COMPONENT_TEXT_ENCODER];
    return r;
}
