/* layout.c - see layout.h. */
#include "quantize/layout.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"
#include "quantize/layout_impl.h"

static const char *const names[LAYOUT_COUNT] = {
    [LAYOUT_SINGLE] = "single",
    [LAYOUT_DIFFUSERS] = "diffusers",
    [LAYOUT_UNET] = "unet",
    [LAYOUT_TEXT_ENCODER] = "text_encoder",
    [LAYOUT_TEXT_ENCODER_2] = "text_encoder_2",
    [LAYOUT_VAE] = "vae",
};

int layout_find(const char *name, enum model_layout *ret, struct dr_error *err)
{
    for (int i = 0; i < LAYOUT_COUNT; i++)
        if (!strcmp(names[i], name)) {
            *ret = (enum model_layout)i;
            return 0;
        }
    return dr_fail_field(err, DR_EINVAL, "layout", name,
                         "single, diffusers, unet, text_encoder, text_encoder_2 or vae", NULL);
}

int layout_no_memory(const struct layout_job *j)
{
    return dr_fail(j->err, DR_ENOMEM, "out of memory for a conversion");
}

int layout_warn(struct layout_job *j, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return jx_add(j->warnings, json_string(text)) ? layout_no_memory(j) : 0;
}

/* ---- one file ---- */

/* Which component a layout of one is; COMPONENT_COUNT: all of them. */
static enum component only(enum model_layout layout)
{
    static const enum component parts[LAYOUT_COUNT] = {
        [LAYOUT_SINGLE] = COMPONENT_COUNT,
        [LAYOUT_DIFFUSERS] = COMPONENT_COUNT,
        [LAYOUT_UNET] = COMPONENT_UNET,
        [LAYOUT_TEXT_ENCODER] = COMPONENT_TEXT_ENCODER,
        [LAYOUT_TEXT_ENCODER_2] = COMPONENT_TEXT_ENCODER_2,
        [LAYOUT_VAE] = COMPONENT_VAE,
    };
    return parts[layout];
}

static bool wanted(const struct layout_job *j, int component)
{
    enum component one = only(j->layout);
    return j->c->has[component] && (one == COMPONENT_COUNT || (int)one == component);
}

/* Adds the counts of a file to the answer. */
static int count(struct layout_job *j, const json_t *file)
{
    json_t *types = json_object_get(j->answer, "dtypes"), *n;
    const char *type;
    json_int_t sum = json_integer_value(json_object_get(j->answer, "tensors"));
    sum += json_integer_value(json_object_get(file, "tensors"));
    int r = jx_set(j->answer, "tensors", json_integer(sum));
    json_object_foreach(json_object_get(file, "dtypes"), type, n)
    {
        json_int_t before = json_integer_value(json_object_get(types, type));
        if (!r)
            r = jx_set(types, type, json_integer(before + json_integer_value(n)));
    }
    if (!r)
        r = jx_set(j->answer, "format", json_incref(json_object_get(file, "format")));
    return r ? layout_no_memory(j) : 0;
}

/* The origins into a new file, which is taken over. */
static int write_file(struct layout_job *j, int fd, const char *path)
{
    json_t *file = NULL;
    struct st_metadata *metadata = NULL;
    struct tensor_write w = {
        .origins = j->origins, .n = j->n, .type = j->type, .source = j->c->path, .stop = j->stop
    };
    int r = layout_metadata(j, &metadata, &w.n_metadata);
    w.metadata = metadata;
    if (r)
        close(fd);
    else
        r = tensor_write(&w, fd, path, &file, j->err);
    if (!r)
        r = count(j, file);
    json_decref(file);
    dr_free(metadata);
    return r;
}

/* All that is wanted into origins; of a folder one component alone. */
static int list(struct layout_job *j, enum component component)
{
    int r = 0;
    j->n = j->n_below = 0;
    for (int i = 0; !r && i < COMPONENT_COUNT; i++)
        if (wanted(j, i) && (component == COMPONENT_COUNT || (int)component == i))
            r = layout_list(j, (enum component)i);
    if (!r && component == COMPONENT_COUNT &&
        (j->layout == LAYOUT_SINGLE || (j->layout == LAYOUT_UNET && !layout_is_edm(j->c))))
        layout_add_marks(j);
    return r;
}

static int write_component(struct layout_job *j, enum component component)
{
    char name[80];
    int fd = -1, r = list(j, component);
    bool diffusers = component == COMPONENT_UNET || component == COMPONENT_VAE;
    snprintf(name, sizeof name, "%s/%s.safetensors", component_name(component),
             diffusers ? "diffusion_pytorch_model" : "model");
    if (!r)
        r = quantize_new(j->k, name, &fd, j->err);
    return r ? r : write_file(j, fd, name);
}

/* ---- before and after ---- */

/* Every parameter of the networks is there and fits: a copy of half a model helps nobody. */
int layout_check_networks(struct layout_job *j, struct checkpoint *c)
{
    struct unet *unet = NULL;
    struct vae *vae = NULL;
    int r = unet_new(&c->unet, &unet, j->err);
    if (!r)
        r = checkpoint_load(c, COMPONENT_UNET, unet, unet_visit, j->err);
    unet_free(unet);
    for (int i = 0; !r && i < c->family->n_encoders; i++) {
        enum component k = c->family->encoders[i].component;
        struct clip_text *clip = NULL;
        r = clip_text_new(checkpoint_clip(c, k), &clip, j->err);
        if (!r)
            r = checkpoint_load(c, k, clip, clip_text_visit, j->err);
        clip_text_free(clip);
    }
    if (!r)
        r = vae_new(&c->vae, false, true, &vae, j->err);
    if (!r)
        r = checkpoint_load(c, COMPONENT_VAE, vae, vae_visit, j->err);
    vae_free(vae);
    return r;
}

/* The room of all files together, before any is begun. */
static int check_room(struct layout_job *j)
{
    struct statvfs disk;
    uint64_t size = 0;
    int r = list(j, COMPONENT_COUNT);
    if (r)
        return r;
    size = tensor_write_size(j->origins, j->n, j->type);
    if (fstatvfs(j->k->folder, &disk))
        return dr_fail_errno(j->err, j->k->path, "examine the disk of");
    if (size / disk.f_frsize < disk.f_bavail)
        return 0;
    return dr_fail(j->err, DR_EIO, "%s: %llu bytes do not fit on its disk, which has %llu free",
                   j->k->path, (unsigned long long)size,
                   (unsigned long long)disk.f_bavail * disk.f_frsize);
}

static int begin(struct layout_job *j)
{
    size_t most = 0;
    arena_init(&j->texts, DR_TAG_FILE, 64 << 10, 0);
    for (int i = 0; i < COMPONENT_COUNT; i++)
        most += j->c->tables[i].n;
    j->below = dr_malloc(DR_TAG_FILE, (2 * most + 1) * sizeof *j->below);
    j->warnings = json_array();
    j->answer = json_pack("{s:s,s:s,s:{}}", "family", checkpoint_kind(j->c), "layout",
                          names[j->layout], "dtypes");
    return j->below && j->warnings && j->answer ? 0 : layout_no_memory(j);
}

static void end(struct layout_job *j)
{
    arena_free(&j->texts);
    dr_free(j->origins);
    dr_free(j->below);
    json_decref(j->warnings);
    json_decref(j->answer);
}

static int write_all(struct layout_job *j)
{
    int fd = -1, r = quantize_start(j->k, j->layout == LAYOUT_DIFFUSERS, &fd, j->err);
    if (r || j->layout != LAYOUT_DIFFUSERS) {
        if (!r)
            r = list(j, COMPONENT_COUNT);
        if (r && fd >= 0)
            close(fd);
        return r ? r : write_file(j, fd, j->k->path);
    }
    for (int i = 0; !r && i < COMPONENT_COUNT; i++)
        if (wanted(j, i))
            r = write_component(j, (enum component)i);
    return r ? r : layout_put_texts(j);
}

int layout_write(struct quantize_copy *k, struct checkpoint *c, enum model_layout layout,
                 enum dtype type, const atomic_int *stop, json_t **ret, struct dr_error *err)
{
    struct layout_job j = {
        .k = k, .c = c, .layout = layout, .type = type, .stop = stop, .err = err
    };
    int r = begin(&j);
    if (!r && only(layout) != COMPONENT_COUNT && !c->has[only(layout)])
        r = dr_fail_field(err, DR_EINVAL, "layout", names[layout], "a part that the model has",
                          NULL);
    if (!r)
        r = layout_check_source(&j);
    if (!r)
        r = layout_check_networks(&j, c);
    if (!r)
        r = check_room(&j);
    if (!r)
        r = write_all(&j);
    if (!r)
        r = layout_check_copy(&j);
    if (!r)
        r = checkpoint_check(c, err);
    if (!r && jx_set(j.answer, "warnings", json_incref(j.warnings)))
        r = layout_no_memory(&j);
    if (!r)
        *ret = json_incref(j.answer);
    end(&j);
    return r;
}
