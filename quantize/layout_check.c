/* layout_check.c - whether a layout can say what a model is, and whether the copy says it, see
 * layout.h. The copy is opened as any model is and compared with its source, so that nothing which
 * a reader would take otherwise goes unnoticed. */
#include "quantize/layout_impl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "models/formats/config_write.h"

/* ---- the source ---- */

static int check_type(const struct layout_job *j)
{
    static const char expected[] = "f32, f16 or bf16 for a diffusers folder";
    bool plain = j->type == DTYPE_COUNT || j->type == DTYPE_F32 || j->type == DTYPE_F16 ||
                 j->type == DTYPE_BF16;
    if (j->layout == LAYOUT_DIFFUSERS && !plain)
        return dr_fail_field(j->err, DR_EINVAL, "type", dtype_name(j->type), expected, NULL);
    for (int i = 0; j->type == DTYPE_COUNT && i < COMPONENT_COUNT; i++)
        for (size_t k = 0; k < j->c->tables[i].n; k++) {
            const struct tensor_entry *e = &j->c->tables[i].entries[k];
            if (dtype_block(e->src.dtype) > 1 || e->src.dtype == DTYPE_I8 ||
                tensor_is_scale(e->name))
                return dr_fail_field(j->err, DR_EINVAL, "type", "nothing",
                                     "a type for the copy of quantised weights", NULL);
        }
    return 0;
}

/* A single file has no tokenizer: readers take CLIP's. */
static int check_tokenizer(const struct layout_job *j, const struct family_encoder *e)
{
    bool second = e->component == COMPONENT_TEXT_ENCODER_2;
    struct tok *own = NULL, *usual = NULL;
    if (!j->c->tokenizer[second])
        return 0;
    int r = checkpoint_tokenizer(j->c, second, j->stop, &own, j->err);
    if (!r)
        r = tok_open_builtin(e->pads_zero ? TOK_CLIP_BIGG : TOK_CLIP_L, &usual, j->err);
    if (!r && !tok_same(own, usual))
        r = dr_fail(j->err, DR_EUNSUPPORTED,
                    "%s: its %s is not CLIP's, which a single file cannot say: expected layout "
                    "diffusers",
                    j->c->path, second ? "tokenizer_2" : "tokenizer");
    tok_free(own);
    tok_free(usual);
    return r;
}

/* How it was trained, which a single file cannot say. */
static int check_trained(const struct layout_job *j)
{
    static const char *const keys[] = { "beta_schedule", "beta_start", "beta_end",
                                        "num_train_timesteps", NULL };
    for (const char *const *k = keys; *k && !layout_is_edm(j->c); k++) {
        const json_t *own = json_object_get(j->c->scheduler, *k);
        const json_t *usual = json_object_get(j->c->trained, *k);
        bool same = !own || json_equal(own, usual) ||
                    (json_is_number(own) && json_number_value(own) == json_number_value(usual));
        if (!same)
            return dr_fail(j->err, DR_EUNSUPPORTED,
                           "%s: scheduler_config.json: %s is not what its family was trained "
                           "with, which a single file cannot say: expected layout diffusers",
                           j->c->path, *k);
    }
    return 0;
}

/* What a folder says of how to draw and a single file does not. */
static int warn_scheduler(struct layout_job *j)
{
    const char *class = json_string_value(json_object_get(j->c->scheduler, "_class_name"));
    const char *spacing = json_string_value(json_object_get(j->c->scheduler, "timestep_spacing"));
    bool usual = !class || layout_is_edm(j->c) ||
                 (!strcmp(class, "EulerDiscreteScheduler") && spacing &&
                  !strcmp(spacing, "leading"));
    if (usual)
        return 0;
    return layout_warn(j,
                       "a single file does not say how it is sampled: %s%s%s of the folder is not "
                       "kept; without options it is drawn with euler, spacing leading",
                       class, spacing ? ", spacing " : "", spacing ? spacing : "");
}

int layout_check_source(struct layout_job *j)
{
    const struct checkpoint *c = j->c;
    int r = check_type(j);
    if (!r && c->vae.tiny)
        r = dr_fail_field(j->err, DR_EINVAL, "vae", checkpoint_source_path(c, COMPONENT_VAE),
                          "a full VAE: a tiny one decodes only beside another", NULL);
    for (int i = 0; !r && j->layout == LAYOUT_SINGLE && i < c->family->n_encoders; i++)
        r = check_tokenizer(j, layout_single_encoder(j, c->family->encoders[i].component));
    if (!r && j->layout == LAYOUT_SINGLE && c->folder)
        r = check_trained(j);
    if (!r && j->layout == LAYOUT_SINGLE && c->folder)
        r = warn_scheduler(j);
    return r;
}

/* ---- the copy ---- */

static json_t *config_of(struct checkpoint *c, enum component component)
{
    if (component == COMPONENT_UNET)
        return config_write_unet(&c->unet);
    if (component == COMPONENT_VAE)
        return config_write_vae(&c->vae);
    return config_write_clip(checkpoint_clip(c, component));
}

/* Numbers that pass through float32 in a file's marks. */
static bool close_to(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) {
        double x = json_number_value(a), y = json_number_value(b);
        return fabs(x - y) <= 1e-6 * fabs(x);
    }
    for (size_t i = 0; i < json_array_size(a); i++)
        if (json_array_size(a) != json_array_size(b) ||
            !close_to(json_array_get(a, i), json_array_get(b, i)))
            return false;
    return json_is_array(a) ? json_is_array(b) : json_equal(a, b);
}

/* The first key that differs and matters; NULL: none. Which token ends a text is the tokenizer's,
 * and the size is warned of. */
static const char *difference(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key, value)
    {
        bool passed = !strcmp(key, "sample_size") || !strcmp(key, "eos_token_id") ||
                      !strcmp(key, "bos_token_id");
        if (!passed && !close_to(value, json_object_get(b, key)))
            return key;
    }
    return json_object_size(a) == json_object_size(b) ? NULL : "a key";
}

static int compare(struct layout_job *j, struct checkpoint *copy, enum component component)
{
    json_t *a = config_of(j->c, component), *b = config_of(copy, component);
    const char *key = a && b ? difference(a, b) : NULL;
    int r = a && b ? 0 : layout_no_memory(j);
    if (!r && key)
        r = dr_fail(j->err, DR_EUNSUPPORTED,
                    "%s: %s: the layout cannot say %s of this model: expected layout diffusers",
                    j->c->path, component_name(component), key);
    json_decref(a);
    json_decref(b);
    return r;
}

/* What it predicts; of an EDM model its scheduler says it. */
static const char *prediction(const struct checkpoint *c)
{
    const char *own = json_string_value(json_object_get(c->scheduler, "prediction_type"));
    if (!layout_is_edm(c))
        return c->formulation.prediction;
    return own && !strcmp(own, "v_prediction") ? "edm_v" : "edm";
}

static int compare_rest(struct layout_job *j, const struct checkpoint *copy)
{
    const struct checkpoint_formulation *a = &j->c->formulation, *b = &copy->formulation;
    bool zero = !strcmp(a->zero_snr, "true");
    int64_t size = checkpoint_default_size(j->c), other = checkpoint_default_size(copy);
    int r = 0;
    if (strcmp(prediction(j->c), prediction(copy)) || zero != !strcmp(b->zero_snr, "true"))
        r = dr_fail(j->err, DR_EUNSUPPORTED,
                    "%s: the layout cannot say that it predicts %s%s: expected layout diffusers",
                    j->c->path, prediction(j->c), zero ? " with zero terminal SNR" : "");
    if (!r && size != other)
        r = layout_warn(j,
                        "the copy's usual size is %" PRId64 "x%" PRId64 ", not %" PRId64 "x%" PRId64
                        ": a single file does not say it",
                        other, other, size, size);
    if (!r && j->c->force_zeros != copy->force_zeros)
        r = layout_warn(j,
                        "without a negative prompt the copy takes %s: a single file does not "
                        "say otherwise",
                        copy->force_zeros ? "zeros" : "an empty text");
    return r;
}

/* Where the copy lies before it has its name. */
static void path_of_copy(const struct layout_job *j, char *dst, size_t n)
{
    snprintf(dst, n, "/proc/self/fd/%d/%s", j->k->folder, j->k->temporary);
}

static int check_whole(struct layout_job *j, const char *path)
{
    struct checkpoint *copy = NULL;
    int r = checkpoint_open_in(NULL, path, j->stop, &copy, j->err);
    for (int i = 0; !r && i < COMPONENT_COUNT; i++)
        if (j->c->has[i])
            r = compare(j, copy, (enum component)i);
    if (!r)
        r = compare_rest(j, copy);
    if (!r && (r = layout_check_networks(j, copy)))
        r = dr_while(j->err, r, "reading the copy, whose layout cannot say this architecture");
    checkpoint_close(copy);
    return r;
}

/* A part is read as one beside the rest of the model. */
static int check_part(struct layout_job *j, const char *path, enum component component)
{
    struct checkpoint *copy = NULL;
    struct model_spec spec = { .model = { j->c->path, NULL } };
    for (int i = 0; i < COMPONENT_COUNT; i++)
        spec.part[i].path = checkpoint_part_path(j->c, (enum component)i);
    spec.part[component].path = path;
    int r = checkpoint_open_spec(&spec, j->stop, &copy, j->err);
    if (!r)
        r = compare(j, copy, component);
    checkpoint_close(copy);
    return r;
}

int layout_check_copy(struct layout_job *j)
{
    static const enum component parts[LAYOUT_COUNT] = {
        [LAYOUT_UNET] = COMPONENT_UNET,
        [LAYOUT_TEXT_ENCODER] = COMPONENT_TEXT_ENCODER,
        [LAYOUT_TEXT_ENCODER_2] = COMPONENT_TEXT_ENCODER_2,
        [LAYOUT_VAE] = COMPONENT_VAE,
    };
    char path[40 + sizeof j->k->temporary];
    path_of_copy(j, path, sizeof path);
    return j->layout == LAYOUT_SINGLE || j->layout == LAYOUT_DIFFUSERS
               ? check_whole(j, path)
               : check_part(j, path, parts[j->layout]);
}
