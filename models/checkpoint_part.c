/* checkpoint_part.c - a UNet, text encoder or VAE that replaces the model's own, see
 * checkpoint_impl.h.
 *
 * A part is a folder of one component, a whole diffusers folder or checkpoint that has it, or a
 * file with its tensors alone, in sgm names or those of diffusers and transformers. What no tensor
 * of a file shows (heads, activations, norm groups, scaling factor) is taken from the
 * configuration of the component that it replaces, as in the reference, which loads such weights
 * into the model's network; where the shapes are another network's, from the model's family.
 */
#include "models/checkpoint_impl.h"

#include <inttypes.h>

#include "models/formats/classify.h"
#include "models/formats/config_arch.h"
#include "models/formats/infer_arch.h"
#include "models/formats/quantised.h"

static const struct jx_limits config_limits = { .bytes = 1 << 20, .python = true };

static const char *const meanings[COMPONENT_COUNT] = {
    [COMPONENT_UNET] = "a UNet (model.diffusion_model.*, input_blocks.* or down_blocks.*)",
    [COMPONENT_TEXT_ENCODER] = "a text encoder (text_model.* or transformer.resblocks.*)",
    [COMPONENT_TEXT_ENCODER_2] = "a text encoder (text_model.* or transformer.resblocks.*)",
    [COMPONENT_VAE] = ("a VAE (first_stage_model.*, decoder.mid.*, decoder.mid_block.*; a tiny "
                       "one: decoder.layers.*, taesd_decoder.*, 1.weight and 3.conv.0.weight)"),
};

/* ---- what the model has in that place ---- */

/* The configuration of the component that is replaced; *ret is NULL without one. */
static int own_config(const struct checkpoint *c, enum component component, json_t **ret,
                      char file[64], struct dr_error *err)
{
    *ret = NULL;
    snprintf(file, 64, "%s/config.json", component_name(component));
    return c->folder ? model_files_json(c->model, file, true, &config_limits, ret, err) : 0;
}

static int like_unet(struct checkpoint *c, const json_t *config, const char *file, bool *ret,
                     struct dr_error *err)
{
    struct unet_arch before = c->unet, own;
    int64_t added = 0;
    int r = config_unet(config, file, c->family->added, NULL, &own, &added, err);
    if (r)
        return r;
    c->unet = own;
    if (c->family->added)
        r = checkpoint_split_added(c, added, file, err);
    *ret = !r && infer_is_unet(&c->tables[COMPONENT_UNET], &c->unet);
    if (!*ret)
        c->unet = before;
    return r;
}

static int like_clip(struct checkpoint *c, enum component component, const json_t *config,
                     const char *file, bool *ret, struct dr_error *err)
{
    struct clip_arch own;
    int projects = -1;
    int r = config_clip(config, file, NULL, &own, &projects, err);
    if (r)
        return r;
    const struct family_encoder *e = family_encoder(c->family, component);
    if (!projects || !e || !e->pooled)
        own.projection = 0;
    *ret = infer_is_clip(&c->tables[component], &own);
    if (*ret)
        *checkpoint_clip(c, component) = own;
    return 0;
}

static int like_vae(struct checkpoint *c, const json_t *config, const char *file, bool *ret,
                    struct dr_error *err)
{
    struct vae_arch own;
    int r = config_vae(config, file, NULL, &own, err);
    if (r)
        return r;
    *ret = infer_is_vae(&c->tables[COMPONENT_VAE], &own);
    if (*ret)
        c->vae = own;
    if (!*ret && own.normalised)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: latents of this model have a mean and a deviation of their own, which "
                       "%s does not know",
                       file, checkpoint_part_path(c, COMPONENT_VAE));
    return 0;
}

/* *ret: the tensors are those of the component that they replace, whose architecture they get. */
static int like_own(struct checkpoint *c, enum component component, bool *ret, struct dr_error *err)
{
    char file[64];
    json_t *config;
    int r = own_config(c, component, &config, file, err);
    *ret = false;
    if (!r && config && component == COMPONENT_UNET)
        r = like_unet(c, config, file, ret, err);
    else if (!r && config && component == COMPONENT_VAE)
        r = like_vae(c, config, file, ret, err);
    else if (!r && config)
        r = like_clip(c, component, config, file, ret, err);
    json_decref(config);
    return r ? dr_while(err, r, "reading %s", c->path) : 0;
}

/* ---- a file ---- */

/* Another network than the family's, in words that its owner knows. */
static int check_kind(const struct checkpoint *c, const char *path, struct dr_error *err)
{
    const struct tensor_table *t = &c->tables[COMPONENT_UNET];
    bool added = tensor_table_dim(t, 1, "add_embedding.linear_1.weight") > 0;
    if (added == c->family->added)
        return 0;
    return dr_fail(err, DR_EFORMAT,
                   "%s: this UNet is %sconditioned on sizes (label_emb), expected "
                   "one for %s",
                   path, added ? "" : "not ", c->family->text);
}

static int infer(struct checkpoint *c, enum component component, const char *path,
                 struct dr_error *err)
{
    const struct family_encoder *e = family_encoder(c->family, component),
                                *pooled = family_pooled(c->family);
    bool known = false;
    int r = component == COMPONENT_UNET ? check_kind(c, path, err) : 0;
    if (!r)
        r = like_own(c, component, &known, err);
    if (r || known)
        return r;
    if (component == COMPONENT_VAE)
        return infer_vae(&c->tables[component], c->family, path, &c->vae, err);
    if (component == COMPONENT_UNET)
        return infer_unet(&c->tables[component], c->family,
                          pooled ? checkpoint_clip(c, pooled->component)->projection : 0, path,
                          &c->unet, err);
    return infer_clip(&c->tables[component], e, path, checkpoint_clip(c, component), err);
}

static int add_tensors(struct checkpoint *c, const struct key_layout *layout,
                       const struct safetensors *st, struct dr_error *err)
{
    struct key_blocks blocks;
    int r = 0;
    key_layout_scan(layout, &st->header, &blocks);
    c->unused = (struct name_group){ 0 };
    for (size_t i = 0; !r && i < st->header.n_tensors; i++) {
        const struct st_tensor *t = &st->header.tensors[i];
        struct key_target target;
        enum key_answer answer = key_map_part(layout, &blocks, t->name, &target);
        if (answer == KEY_KNOWN)
            r = checkpoint_add_tensor(c, st, t, &target, err);
        else if (answer == KEY_UNKNOWN)
            name_group_add(&c->unused, t->name);
    }
    return r ? r : checkpoint_warn_unused(c, &c->unused, err);
}

static int open_file(struct checkpoint *c, enum component component, struct dr_error *err)
{
    const char *path = checkpoint_part_path(c, component);
    struct safetensors *st;
    char what[320];
    int r = checkpoint_add_file(c, component, "", &st, err);
    if (r)
        return r;
    if (quantised(&st->header, false, what, sizeof what))
        return dr_fail(err, DR_EUNSUPPORTED, "%s: %s, which Darkroom does not read", path, what);
    const struct key_layout *layout = key_layout_find(&st->header, component);
    if (!layout)
        return dr_fail(err, DR_EUNSUPPORTED, "%s: this is %s, expected %s", path,
                       classify(&st->header)->text, meanings[component]);
    r = comfy_quant_check(st, err);
    if (!r)
        r = add_tensors(c, layout, st, err);
    if (!r)
        r = tensor_table_sort(&c->tables[component], path, err);
    return r ? r : infer(c, component, path, err);
}

/* ---- a folder ---- */

static int open_folder(struct checkpoint *c, enum component component, struct dr_error *err)
{
    const struct model_file *index;
    int r = model_files_find(c->own[component], "model_index.json", config_limits.bytes, &index,
                             err);
    if (r)
        return r;
    c->pipeline[component] = index != NULL;
    return checkpoint_open_component(c, component, err);
}

int checkpoint_open_part(struct checkpoint *c, enum component component, struct dr_error *err)
{
    int r = model_files_is_folder(c->own[component]) ? open_folder(c, component, err)
                                                     : open_file(c, component, err);
    if (!r)
        c->has[component] = true;
    return r;
}
