/* inspect_model.c - see inspect_model.h. */
#include "models/inspect_model.h"

#include <string.h>

#include "base/path_text.h"
#include "base/json.h"
#include "base/utf8.h"
#include "models/adapters/inversion_file.h"
#include "models/checkpoint_impl.h"
#include "models/formats/classify.h"
#include "models/inspect_adapter.h"
#include "models/inspect_part.h"
#include "models/inspect_training.h"

enum { LONGEST_TEXT = 16 << 10, METADATA_MOST = 512, METADATA_BYTES = 4 << 20 };

static const char *const act_names[] = {
    [ARCH_GELU] = "gelu", [ARCH_QUICK_GELU] = "quick_gelu", [ARCH_SILU] = "silu"
};

static int no_memory(struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "out of memory to describe a model");
}

/* Sets KEY of OBJECT and leaves the function's r. */
#define SET(object, key, value) (r = r ? r : jx_set(object, key, value))

/* An array of n integers; NULL when memory is short. */
static json_t *integers(const int64_t *values, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        if (jx_add(list, json_integer(values[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *reals(const double *values, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        if (jx_add(list, json_real(values[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* Transformer blocks by level, each an array by layer. */
static json_t *depths(const int (*depth)[ARCH_LAYERS], const int *layers, int more, int levels)
{
    json_t *list = json_array();
    for (int i = 0; i < levels; i++) {
        int64_t row[ARCH_LAYERS];
        int n = layers[i] + more;
        for (int j = 0; j < n; j++)
            row[j] = depth[i][j];
        if (jx_add(list, integers(row, n))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static int unet_object(const struct unet_arch *a, json_t *o)
{
    int r = 0;
    int64_t layers[ARCH_LEVELS];
    for (int i = 0; i < a->levels; i++)
        layers[i] = a->layers[i];
    SET(o, "in_channels", json_integer(a->in_channels));
    SET(o, "out_channels", json_integer(a->out_channels));
    SET(o, "channels", integers(a->channels, a->levels));
    SET(o, "layers", integers(layers, a->levels));
    SET(o, "transformer_depth_down", depths(a->depth, a->layers, 0, a->levels));
    SET(o, "transformer_depth_mid", a->mid ? json_integer(a->mid_depth) : json_null());
    SET(o, "transformer_depth_up", depths(a->up_depth, a->layers, 1, a->levels));
    SET(o, "heads", integers(a->heads, a->levels));
    SET(o, "context", json_integer(a->context));
    SET(o, "pooled", json_integer(a->pooled));
    SET(o, "time_ids", json_integer(a->n_time_ids));
    SET(o, "sample_size", json_integer(a->sample_size));
    return r;
}

static int clip_object(const struct clip_arch *a, json_t *o)
{
    int r = 0;
    SET(o, "vocab", json_integer(a->vocab));
    SET(o, "width", json_integer(a->width));
    SET(o, "layers", json_integer(a->layers));
    SET(o, "heads", json_integer(a->heads));
    SET(o, "mlp", json_integer(a->mlp));
    SET(o, "positions", json_integer(a->positions));
    SET(o, "projection", json_integer(a->projection));
    SET(o, "activation", json_string(act_names[a->act]));
    return r;
}

static int vae_object(const struct vae_arch *a, json_t *o)
{
    int r = 0;
    SET(o, "latent_channels", json_integer(a->latent_channels));
    SET(o, "channels", integers(a->channels, a->levels));
    SET(o, "tiny", json_boolean(a->tiny));
    if (!a->tiny)
        SET(o, "layers", json_integer(a->layers));
    SET(o, "scaling_factor", json_real(a->scaling_factor));
    if (a->normalised) {
        SET(o, "latents_mean", reals(a->mean, (int)a->latent_channels));
        SET(o, "latents_std", reals(a->deviation, (int)a->latent_channels));
    }
    return r;
}

/* {"F16": 1680, ...}: tensors by dtype. */
static int dtypes_object(const size_t counts[DTYPE_COUNT], json_t *o)
{
    int r = 0;
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (counts[t])
            SET(o, dtype_name((enum dtype)t), json_integer((json_int_t)counts[t]));
    return r;
}

/* A new object put under `key`; NULL when memory is short. The parent's. */
static json_t *child(json_t *parent, const char *key)
{
    json_t *o = json_object();
    return jx_set(parent, key, o) ? NULL : o;
}

static json_t *child_array(json_t *parent, const char *key)
{
    json_t *a = json_array();
    return jx_set(parent, key, a) ? NULL : a;
}

/* Texts are cut where they get long: some tools store whole workflows. What is too much for an
 * answer is left out and counted. */
static int metadata_object(const struct st_header *h, json_t *o)
{
    size_t left = METADATA_BYTES, left_out = 0;
    int r = 0;
    for (size_t i = 0; i < h->n_metadata; i++) {
        const char *text = h->metadata[i].value;
        size_t n = strlen(text), key = strlen(h->metadata[i].key);
        n = n > LONGEST_TEXT ? utf8_valid_prefix(text, LONGEST_TEXT) : n;
        if (i >= METADATA_MOST || n + key > left) {
            left_out++;
            continue;
        }
        left -= n + key;
        SET(o, h->metadata[i].key, json_stringn(text, n));
    }
    if (left_out)
        SET(o, "(left out)", json_integer((json_int_t)left_out));
    return r;
}

/* ---- checkpoints ---- */

static int part_object(const struct checkpoint *c, enum component component, json_t *o)
{
    const struct tensor_table *t = &c->tables[component];
    const char *from = checkpoint_part_path(c, component);
    size_t counts[DTYPE_COUNT] = { 0 };
    for (size_t i = 0; i < t->n; i++)
        counts[t->entries[i].src.dtype]++;
    int r = 0;
    SET(o, "tensors", json_integer((json_int_t)t->n));
    SET(o, "parameters", json_integer(tensor_table_elements(t)));
    if (from)
        SET(o, "from", path_text_json(from));
    return r ? r : dtypes_object(counts, child(o, "dtypes"));
}

static int describe_parts(const struct checkpoint *c, json_t *parts, json_t *architecture)
{
    int r = 0;
    for (int i = 0; !r && i < COMPONENT_COUNT; i++) {
        if (!c->has[i])
            continue;
        const char *name = component_name((enum component)i);
        json_t *arch = child(architecture, name);
        r = part_object(c, (enum component)i, child(parts, name));
        if (r)
            continue;
        if (i == COMPONENT_UNET)
            r = unet_object(&c->unet, arch);
        else if (i == COMPONENT_VAE)
            r = vae_object(&c->vae, arch);
        else
            r = clip_object(&c->clip[i == COMPONENT_TEXT_ENCODER_2], arch);
    }
    return r;
}

static int describe_files(const struct checkpoint *c, json_t *list)
{
    int r = 0;
    for (size_t i = 0; !r && i < c->n_files; i++) {
        json_t *file = json_object();
        r = jx_add(list, file);
        SET(file, "path", path_text_json(c->file_names[i]));
        SET(file, "size", json_integer((json_int_t)c->files[i]->map.size));
    }
    return r;
}

static int describe_checkpoint(const struct checkpoint *c, json_t *o)
{
    const struct checkpoint_formulation *f = &c->formulation;
    int64_t total = 0, size = 0;
    for (int i = 0; i < COMPONENT_COUNT; i++)
        total += tensor_table_elements(&c->tables[i]);
    for (size_t i = 0; i < c->n_files; i++)
        size += (int64_t)c->files[i]->map.size;
    int r = 0;
    SET(o, "path", path_text_json(c->path));
    SET(o, "kind", json_string(checkpoint_kind(c)));
    SET(o, "description", json_string(c->family->text));
    SET(o, "layout", json_string(c->folder ? "diffusers" : "single"));
    SET(o, "size", json_integer(size));
    SET(o, "default_size", json_integer(checkpoint_default_size(c)));
    SET(o, "parameters", json_integer(total));
    if (r)
        return r;
    json_t *parts = child(o, "parts"), *architecture = child(o, "architecture");
    r = describe_parts(c, parts, architecture);
    SET(o, "scheduler", c->scheduler ? json_deep_copy(c->scheduler) : json_null());
    SET(o, "prediction", json_string(f->prediction));
    SET(o, "prediction_from", json_string(*f->prediction_by ? f->prediction_by : "no mark"));
    if (*f->zero_snr)
        SET(o, "zero_snr", json_boolean(!strcmp(f->zero_snr, "true")));
    if (*f->zero_snr)
        SET(o, "zero_snr_from", json_string(*f->zero_snr_by ? f->zero_snr_by : "no mark"));
    if (r)
        return r;
    json_t *metadata = child(o, "metadata"), *files = child_array(o, "files");
    json_t *warnings = child_array(o, "warnings");
    for (size_t i = 0; !r && i < c->n_files; i++)
        r = metadata_object(&c->files[i]->header, metadata);
    if (!r)
        r = describe_files(c, files);
    for (size_t i = 0; !r && i < c->n_warnings; i++)
        r = jx_add(warnings, json_string(c->warnings[i]));
    return r;
}

/* ---- other files ---- */

static const struct file_kind textual_inversion = {
    .id = "textual-inversion", .text = "a textual inversion (embedding), for --embedding"
};

/* {"fits", "parts": [{"tensor", "vectors", "width", "encoder"}]} */
static int inversion_object(const struct inversion_part *parts, int n, json_t *o)
{
    int r = 0;
    SET(o, "fits", json_string(inversion_fits(parts, n)));
    json_t *list = r ? NULL : child_array(o, "parts");
    for (int i = 0; !r && i < n; i++)
        r = jx_add(list, json_pack("{s:s,s:I,s:I,s:s}", "tensor", parts[i].tensor->name, "vectors",
                                   (json_int_t)parts[i].n, "width", (json_int_t)parts[i].width,
                                   "encoder", inversion_encoder(&parts[i])));
    return r;
}

static int describe_file(const struct safetensors *st, json_t *o)
{
    size_t counts[DTYPE_COUNT] = { 0 };
    int64_t total = 0, count;
    for (size_t i = 0; i < st->header.n_tensors; i++) {
        counts[st->header.tensors[i].dtype]++;
        if (shape_count(&st->header.tensors[i].shape, &count))
            total += count;
    }
    const struct file_kind *kind = classify(&st->header);
    struct inversion_part parts[INVERSION_PARTS];
    int n_parts = 0, r = 0;
    if (inversion_likely(&st->header)) {
        (void)inversion_parts(&st->header, st->path, parts, &n_parts, NULL);
        kind = &textual_inversion;
    }
    SET(o, "path", path_text_json(st->path));
    SET(o, "kind", json_string(kind->id));
    SET(o, "description", json_string(kind->text));
    SET(o, "layout", json_string("single"));
    SET(o, "size", json_integer((json_int_t)st->map.size));
    SET(o, "tensors", json_integer((json_int_t)st->header.n_tensors));
    SET(o, "parameters", json_integer(total));
    if (!r)
        r = dtypes_object(counts, child(o, "dtypes"));
    if (!r && n_parts)
        r = inversion_object(parts, n_parts, child(o, "embedding"));
    if (!r && kind->option)
        r = inspect_part(&st->header, o);
    if (!r)
        r = inspect_training(&st->header, o);
    return r ? r : metadata_object(&st->header, child(o, "metadata"));
}

/* Whether it is a file that is sound but no checkpoint; *ret_r is the outcome for it. */
static bool try_other(const struct model_place *at, struct model_files *m,
                      const struct digest_options *digest, json_t *o, int *ret_r,
                      struct dr_error *err)
{
    struct safetensors st;
    const struct model_file *f;
    if (model_files_is_folder(m))
        return false;
    int r = model_files_need(m, "", 0, &f, err);
    if (!r)
        r = st_open_fd(f->fd, f->path, &st, err);
    if (r) {
        *ret_r = r;
        return true;
    }
    const struct family *family = classify(&st.header)->family;
    bool other = !family || !family->opens;
    if (other) {
        r = describe_file(&st, o);
        *ret_r = r ? no_memory(err) : 0;
    }
    if (other && !*ret_r && classify(&st.header)->adapter)
        *ret_r = inspect_adapter(at->root, at->path, &st.header, digest != NULL,
                                 digest ? digest->stop : NULL, child(o, "adapter"), err);
    st_close(&st);
    return other;
}

static int inspect_checkpoint(const struct model_spec *spec, const struct digest_options *digest,
                              json_t *o, struct dr_error *err)
{
    struct checkpoint *c;
    char hex[SHA256_HEX];
    int r = checkpoint_open_spec(spec, digest ? digest->stop : NULL, &c, err);
    if (r)
        return r;
    if (describe_checkpoint(c, o))
        r = no_memory(err);
    if (!r && digest)
        r = checkpoint_digest(c, digest, hex, err);
    if (!r && digest && jx_set(o, "sha256", json_string(hex)))
        r = no_memory(err);
    checkpoint_close(c);
    return r;
}

static bool has_parts(const struct model_spec *spec)
{
    for (int i = 0; i < COMPONENT_COUNT; i++)
        if (spec->part[i].path)
            return true;
    return false;
}

int inspect_model_spec(const struct model_spec *spec, const struct digest_options *digest,
                       json_t **ret, struct dr_error *err)
{
    struct model_files *m;
    char hex[SHA256_HEX];
    jx_init();
    int r = model_files_open(spec->model.root, spec->model.path, &m, err);
    if (r)
        return r;
    json_t *o = json_object();
    bool other = o && !has_parts(spec) && try_other(&spec->model, m, digest, o, &r, err);
    if (other && !r && digest)
        r = digest_files(m, digest, hex, err);
    if (!o || (other && !r && digest && jx_set(o, "sha256", json_string(hex))))
        r = no_memory(err);
    model_files_close(m);
    if (!r && !other)
        r = inspect_checkpoint(spec, digest, o, err);
    if (r)
        json_decref(o);
    else
        *ret = o;
    return r;
}
