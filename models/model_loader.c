/* model_loader.c - see model_loader.h. */
#include "models/model_loader.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "base/json.h"
#include "models/checkpoint_impl.h"

enum { NAMED_IN_ERROR = 4 };

/* ---- opening ---- */

/* DR_ECANCELED when the opening is to end. */
static int stopped(const struct checkpoint *c, struct dr_error *err)
{
    return c->stop && atomic_load(c->stop)
               ? dr_fail(err, DR_ECANCELED, "%s: opening it was stopped", c->path)
               : 0;
}

struct model_files *checkpoint_files(const struct checkpoint *c, enum component component)
{
    return component < COMPONENT_COUNT && c->own[component] ? c->own[component] : c->model;
}

static int open_weights(struct checkpoint *c, const struct model_file *f, struct safetensors *st,
                        struct dr_error *err)
{
    int r = st_open_fd(f->fd, f->path, st, err);
    if (r)
        return r;
    c->header_bytes += st->header.data_at;
    if (c->header_bytes > CHECKPOINT_HEADERS) {
        st_close(st);
        return dr_fail(err, DR_ELIMIT, "%s: headers of more than %d bytes in all its weights",
                       c->path, CHECKPOINT_HEADERS);
    }
    return 0;
}

/* What people are shown. */
static const char *shown_name(struct checkpoint *c, enum component component,
                              const struct model_file *f)
{
    if (checkpoint_files(c, component) != c->model)
        return arena_strdup(&c->texts, f->path);
    return arena_strdup(&c->texts, *f->name ? f->name : dr_path_base(f->path));
}

int checkpoint_add_file(struct checkpoint *c, enum component component, const char *name,
                        struct safetensors **ret, struct dr_error *err)
{
    const struct model_file *f;
    int r = stopped(c, err);
    if (!r)
        r = model_files_need(checkpoint_files(c, component), name, 0, &f, err);
    if (r)
        return r;
    if (c->n_files == CHECKPOINT_FILES)
        return dr_fail(err, DR_ELIMIT, "%s: more than %d files of weights", c->path,
                       CHECKPOINT_FILES);
    const char *kept = shown_name(c, component, f);
    struct safetensors *st = dr_calloc(DR_TAG_FILE, 1, sizeof *st);
    r = kept && st ? open_weights(c, f, st, err)
                   : dr_fail(err, DR_ENOMEM, "%s: out of memory to open %s", c->path, name);
    if (r) {
        dr_free(st);
        return r;
    }
    c->files[c->n_files] = st;
    c->file_of[c->n_files] = component;
    c->file_names[c->n_files++] = kept;
    *ret = st;
    return 0;
}

int checkpoint_warn(struct checkpoint *c, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c->n_warnings == c->warnings_cap) {
        size_t cap = c->warnings_cap ? c->warnings_cap * 2 : 16;
        void *p = dr_realloc(DR_TAG_FILE, c->warnings, cap * sizeof *c->warnings);
        if (!p)
            return DR_ENOMEM;
        c->warnings = p;
        c->warnings_cap = cap;
    }
    const char *kept = arena_strdup(&c->texts, text);
    if (!kept)
        return DR_ENOMEM;
    c->warnings[c->n_warnings++] = kept;
    return 0;
}

struct weight_source checkpoint_source(const struct safetensors *st, const struct st_tensor *t,
                                       int part, int parts)
{
    struct weight_source src = {
        .data = st_data(st, t), .dtype = t->dtype, .shape = t->shape, .mapped = true
    };
    if (parts > 1) {
        src.shape.d[0] /= parts;
        src.data = (const char *)src.data + (t->end - t->begin) / (uint64_t)parts * (uint64_t)part;
    }
    return src;
}

/* Of the text encoders, one that was given for this model is at fault, else the UNet. */
static int bad_context(const struct checkpoint *c, int64_t width, struct dr_error *err)
{
    for (int i = 0; !c->own[COMPONENT_UNET] && i < c->family->n_encoders; i++) {
        enum component k = c->family->encoders[i].component;
        int64_t own = c->clip[k == COMPONENT_TEXT_ENCODER_2].width;
        if (c->own[k])
            return dr_fail(err, DR_EFORMAT,
                           "%s: this text encoder gives %" PRId64 " channels, expected %" PRId64
                           " for the %s of %s",
                           checkpoint_part_path(c, k), own, c->unet.context - width + own,
                           component_name(k), c->path);
    }
    return dr_fail(err, DR_EFORMAT,
                   "%s: the UNet takes text of %" PRId64
                   " channels, the text encoders give %" PRId64,
                   checkpoint_source_path(c, COMPONENT_UNET), c->unet.context, width);
}

/* What the parts must have in common. */
static int check_fit(const struct checkpoint *c, struct dr_error *err)
{
    int64_t width = 0;
    for (int i = 0; i < c->family->n_encoders; i++) {
        const struct family_encoder *e = &c->family->encoders[i];
        const struct clip_arch *arch = &c->clip[e->component == COMPONENT_TEXT_ENCODER_2];
        width += arch->width;
        if (e->pooled && !arch->projection)
            return dr_fail(err, DR_EUNSUPPORTED, "%s: %s has no text projection, which %s needs",
                           checkpoint_source_path(c, e->component), component_name(e->component),
                           c->family->text);
    }
    if (c->unet.context != width)
        return bad_context(c, width, err);
    if (c->unet.out_channels == c->vae.latent_channels)
        return 0;
    if (c->own[COMPONENT_VAE] && !c->own[COMPONENT_UNET])
        return dr_fail(err, DR_EFORMAT,
                       "%s: this VAE takes %" PRId64 " latent channels, expected %" PRId64
                       ", which the UNet of %s gives",
                       checkpoint_part_path(c, COMPONENT_VAE), c->vae.latent_channels,
                       c->unet.out_channels, c->path);
    return dr_fail(
        err, DR_EFORMAT, "%s: the UNet gives %" PRId64 " latent channels, the VAE takes %" PRId64,
        checkpoint_source_path(c, COMPONENT_UNET), c->unet.out_channels, c->vae.latent_channels);
}

static bool files_current(const struct checkpoint *c)
{
    bool current = model_files_current(c->model);
    for (int i = 0; current && i < COMPONENT_COUNT; i++)
        current = !c->own[i] || model_files_current(c->own[i]);
    return current;
}

static int open_places(struct checkpoint *c, const struct model_spec *spec, struct dr_error *err)
{
    int r = model_files_open(spec->model.root, spec->model.path, &c->model, err);
    for (int i = 0; !r && i < COMPONENT_COUNT; i++)
        if (spec->part[i].path)
            r = model_files_open(spec->part[i].root, spec->part[i].path, &c->own[i], err);
    if (r)
        return r;
    c->path = model_files_path(c->model);
    c->folder = model_files_is_folder(c->model);
    return 0;
}

int checkpoint_open_spec(const struct model_spec *spec, const atomic_int *stop,
                         struct checkpoint **ret, struct dr_error *err)
{
    jx_init();
    struct checkpoint *c = dr_calloc(DR_TAG_FILE, 1, sizeof *c);
    if (!c)
        return dr_fail(err, DR_ENOMEM, "out of memory to open a model");
    arena_init(&c->texts, DR_TAG_FILE, 64 << 10, 0);
    for (int i = 0; i < COMPONENT_COUNT; i++)
        tensor_table_init(&c->tables[i], (enum component)i);
    c->stop = stop;
    c->asked_prediction = spec->prediction ? model_prediction(spec->prediction) : NULL;
    c->asked_zero_snr = spec->zero_snr;
    int r = open_places(c, spec, err);
    if (!r)
        r = c->folder ? checkpoint_open_folder(c, err) : checkpoint_open_single(c, err);
    if (!r)
        r = check_fit(c, err);
    if (!r && !files_current(c)) /* else they might be of two models */
        r = dr_fail(err, DR_EIO, "%s: was changed while it was opened", c->path);
    c->stop = NULL;
    if (r)
        checkpoint_close(c);
    else
        *ret = c;
    return r;
}

int checkpoint_open_in(const struct model_root *root, const char *path, const atomic_int *stop,
                       struct checkpoint **ret, struct dr_error *err)
{
    return checkpoint_open_spec(&(struct model_spec){ .model = { path, root } }, stop, ret, err);
}

void checkpoint_close(struct checkpoint *c)
{
    if (!c)
        return;
    for (int i = 0; i < COMPONENT_COUNT; i++)
        tensor_table_free(&c->tables[i]);
    for (size_t i = 0; i < c->n_files; i++) {
        st_close(c->files[i]);
        dr_free(c->files[i]);
    }
    json_decref(c->scheduler);
    json_decref(c->trained);
    arena_free(&c->texts);
    dr_free(c->warnings);
    for (int i = 0; i < COMPONENT_COUNT; i++)
        model_files_close(c->own[i]);
    model_files_close(c->model);
    dr_free(c);
}

/* ---- questions ---- */

const char *checkpoint_path(const struct checkpoint *c)
{
    return c->path;
}

const char *checkpoint_part_path(const struct checkpoint *c, enum component component)
{
    return c->own[component] ? model_files_path(c->own[component]) : NULL;
}

bool checkpoint_part_is_folder(const struct checkpoint *c, enum component component)
{
    return c->own[component] && model_files_is_folder(c->own[component]);
}

const char *checkpoint_source_path(const struct checkpoint *c, enum component component)
{
    return model_files_path(checkpoint_files(c, component));
}

const struct checkpoint_formulation *checkpoint_formulation(const struct checkpoint *c)
{
    return &c->formulation;
}

/* What a spec asks for that follows from the files anyway makes no other model. */
static bool is_formulation(const struct checkpoint *c, const struct model_spec *spec)
{
    const struct checkpoint_formulation *f = &c->formulation;
    bool zero = !strcmp(f->zero_snr, "true");
    if (!spec->prediction && spec->zero_snr == MODEL_SAYS)
        return !c->overridden;
    return (!spec->prediction || !strcmp(f->prediction, spec->prediction)) &&
           (spec->zero_snr == MODEL_SAYS || zero == (spec->zero_snr == MODEL_HAS)) &&
           (!c->overridden || ((spec->prediction || !c->asked_prediction) &&
                               (spec->zero_snr != MODEL_SAYS || c->asked_zero_snr == MODEL_SAYS)));
}

bool checkpoint_is_at(const struct checkpoint *c, const struct model_spec *spec)
{
    bool same = !strcmp(c->path, spec->model.path) && is_formulation(c, spec);
    for (int i = 0; same && i < COMPONENT_COUNT; i++) {
        const char *own = checkpoint_part_path(c, (enum component)i), *other = spec->part[i].path;
        same = own && other ? !strcmp(own, other) : own == other;
    }
    return same;
}

bool checkpoint_is_folder(const struct checkpoint *c)
{
    return c->folder;
}

bool checkpoint_has(const struct checkpoint *c, enum component component)
{
    return component < COMPONENT_COUNT && c->has[component];
}

bool checkpoint_has_encoder(const struct checkpoint *c)
{
    static const char prefix[] = "encoder.";
    const struct tensor_table *t = &c->tables[COMPONENT_VAE];
    for (size_t i = 0; checkpoint_has(c, COMPONENT_VAE) && i < t->n; i++)
        if (!strncmp(t->entries[i].name, prefix, sizeof prefix - 1))
            return true;
    return false;
}

/* Known members of the families by what tells them apart. down and up: transformer blocks of all
 * layers going down and up. */
static const struct {
    const char *kind;
    int64_t in_channels;
    int levels;
    int64_t coarsest, context;
    int down, mid, up;
} kinds[] = {
    { "sdxl-base", 4, 3, 1280, 2048, 24, 10, 36 },
    { "sdxl-inpaint", 9, 3, 1280, 2048, 24, 10, 36 },
    { "sdxl-instruct-pix2pix", 8, 3, 1280, 2048, 24, 10, 36 },
    { "sdxl-refiner", 4, 4, 1536, 1280, 16, 4, 24 },
    { "ssd-1b", 4, 3, 1280, 2048, 12, 0, 22 },
    { "segmind-vega", 4, 3, 1280, 2048, 6, 0, 9 },
    { "koala-700m", 4, 3, 1280, 2048, 7, 0, 14 },
    { "koala-1b", 4, 3, 1280, 2048, 8, 6, 16 },
    { "sd1", 4, 4, 1280, 768, 6, 1, 9 },
    { "sd1-inpaint", 9, 4, 1280, 768, 6, 1, 9 },
    { "sd1-instruct-pix2pix", 8, 4, 1280, 768, 6, 1, 9 },
    { "sd2", 4, 4, 1280, 1024, 6, 1, 9 },
    { "sd2-inpaint", 9, 4, 1280, 1024, 6, 1, 9 },
    { "sd2-depth", 5, 4, 1280, 1024, 6, 1, 9 },
};

const char *checkpoint_kind(const struct checkpoint *c)
{
    const struct unet_arch *a = &c->unet;
    int down = 0, up = 0;
    for (int i = 0; i < a->levels; i++)
        for (int j = 0; j < ARCH_LAYERS; j++) {
            down += a->depth[i][j];
            up += a->up_depth[i][j];
        }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (a->in_channels == kinds[i].in_channels && a->levels == kinds[i].levels &&
            a->channels[a->levels - 1] == kinds[i].coarsest && down == kinds[i].down &&
            a->context == kinds[i].context && a->mid_depth == kinds[i].mid && up == kinds[i].up)
            return kinds[i].kind;
    return c->family->kind;
}

const struct unet_arch *checkpoint_unet_arch(const struct checkpoint *c)
{
    return c->has[COMPONENT_UNET] ? &c->unet : NULL;
}

const struct clip_arch *checkpoint_clip_arch(const struct checkpoint *c, int which)
{
    return c->has[which ? COMPONENT_TEXT_ENCODER_2 : COMPONENT_TEXT_ENCODER] ? &c->clip[which != 0]
                                                                             : NULL;
}

struct clip_arch *checkpoint_clip(struct checkpoint *c, enum component component)
{
    return &c->clip[component == COMPONENT_TEXT_ENCODER_2];
}

const struct family *checkpoint_family(const struct checkpoint *c)
{
    return c->family;
}

const struct vae_arch *checkpoint_vae_arch(const struct checkpoint *c)
{
    return c->has[COMPONENT_VAE] ? &c->vae : NULL;
}

const json_t *checkpoint_scheduler_config(const struct checkpoint *c)
{
    return c->scheduler;
}

const json_t *checkpoint_trained(const struct checkpoint *c)
{
    return c->trained;
}

int checkpoint_tokenizer(const struct checkpoint *c, int which, const atomic_int *stop,
                         struct tok **ret, struct dr_error *err)
{
    const struct family_encoder *e = family_encoder(c->family, which ? COMPONENT_TEXT_ENCODER_2
                                                                     : COMPONENT_TEXT_ENCODER);
    return c->tokenizer[which != 0]
               ? tok_open_files(c->model, which ? "tokenizer_2" : "tokenizer", stop, ret, err)
               : tok_open_builtin(e && e->pads_zero ? TOK_CLIP_BIGG : TOK_CLIP_L, ret, err);
}

void checkpoint_forget_texts(struct checkpoint *c)
{
    model_files_forget_texts(c->model);
    for (int i = 0; i < COMPONENT_COUNT; i++)
        if (c->own[i])
            model_files_forget_texts(c->own[i]);
}

enum checkpoint_weights checkpoint_weights(const struct checkpoint *c)
{
    const struct tensor_table *t = &c->tables[COMPONENT_UNET];
    enum checkpoint_weights kind = CHECKPOINT_FLOAT;
    for (size_t i = 0; i < t->n; i++) {
        if (t->entries[i].src.dtype == DTYPE_I8)
            return CHECKPOINT_INT8;
        if (dtype_block(t->entries[i].src.dtype) > 1 || tensor_is_scale(t->entries[i].name))
            kind = CHECKPOINT_QUANTISED;
    }
    return kind;
}

bool checkpoint_force_zeros(const struct checkpoint *c)
{
    return c->force_zeros;
}

int64_t checkpoint_default_size(const struct checkpoint *c)
{
    int64_t size = c->unet.sample_size;
    for (int i = 1; i < c->vae.levels; i++)
        size *= 2;
    return size;
}

const char *checkpoint_warning(const struct checkpoint *c, size_t i)
{
    return i < c->n_warnings ? c->warnings[i] : NULL;
}

bool checkpoint_current(const struct checkpoint *c)
{
    return files_current(c) && !checkpoint_check(c, NULL);
}

int checkpoint_digest(const struct checkpoint *c, const struct digest_options *opt,
                      char ret_hex[SHA256_HEX], struct dr_error *err)
{
    struct digest_part parts[1 + COMPONENT_COUNT] = { { "model", c->model } };
    int n = 1;
    for (int i = 0; i < COMPONENT_COUNT; i++)
        if (c->own[i])
            parts[n++] = (struct digest_part){ component_name((enum component)i), c->own[i] };
    return digest_parts(parts, n, opt, ret_hex, err);
}

int checkpoint_check(const struct checkpoint *c, struct dr_error *err)
{
    int r = 0;
    for (size_t i = 0; !r && i < c->n_files; i++)
        r = st_check(c->files[i], err);
    return r;
}

/* ---- loading ---- */

struct binding {
    struct checkpoint *c;
    struct tensor_table *table;
    struct dr_error *err;
    size_t bad, asked;
    char names[320];       /* of the first bad ones */
    bool encoder, decoder; /* VAE: which halves were asked for */
};

static void note_bad(struct binding *l, const char *name, const char *what)
{
    size_t used = strlen(l->names);
    if (l->bad++ < NAMED_IN_ERROR)
        snprintf(l->names + used, sizeof l->names - used, "%s'%.90s'%s", used ? ", " : "", name,
                 what);
}

/* Dimensions of 1 at the end do not count: a linear layer may lie as a 1x1 convolution and vice
 * versa. */
static bool fits(const struct shape *file, const struct shape *wanted)
{
    struct shape a = *file, b = *wanted;
    while (a.n > 1 && a.d[a.n - 1] == 1)
        a.n--;
    while (b.n > 1 && b.d[b.n - 1] == 1)
        b.n--;
    return shape_equal(&a, &b);
}

/* Private memory, not the mapping: the transposed order is nowhere in the file. Types that store
 * runs of elements become float32. */
static int transpose(struct tensor_entry *e, struct dr_error *err)
{
    int64_t out = e->src.shape.d[0], in = e->src.shape.d[1];
    bool blocks = dtype_block(e->src.dtype) > 1;
    size_t size = blocks ? sizeof(float) : dtype_size(e->src.dtype), count, bytes;
    if (!dr_mul_size((size_t)out, (size_t)in, &count) || !dr_mul_size(count, size, &bytes))
        return dr_fail(err, DR_EFORMAT, "'%s' is too large", e->src.name);
    char *copy = dr_malloc(DR_TAG_WEIGHTS, bytes);
    if (!copy)
        return dr_fail(err, DR_ENOMEM, "out of memory to transpose '%s'", e->src.name);
    const char *src = e->src.data;
    for (int64_t i = 0; i < in; i++)
        for (int64_t o = 0; o < out; o++) {
            char *to = copy + (size_t)(o * in + i) * size;
            if (blocks)
                dtype_read((float *)(void *)to, src, e->src.dtype, i * out + o, 1);
            else
                memcpy(to, src + (size_t)(i * out + o) * size, size);
        }
    if (blocks)
        e->src.dtype = DTYPE_F32;
    e->copy = copy;
    e->src.data = copy;
    e->src.mapped = false;
    return 0;
}

/* One scale of a tensor, or one for each of its rows, perhaps as [rows, 1]. */
static bool scale_shape_fits(const struct shape *scale, int64_t rows)
{
    int64_t count;
    return shape_count(scale, &count) && (count == 1 || (count == rows && scale->d[0] == rows));
}

/* The first scale that is none; false when there is none of these. */
static bool find_bad_scale(const struct weight_source *s, int64_t count, double *ret,
                           int64_t *ret_i)
{
    for (int64_t i = 0; i < count; i++) {
        float value;
        dtype_read(&value, s->data, s->dtype, i, 1);
        if (value >= 0 && isfinite(value))
            continue;
        *ret = (double)value;
        *ret_i = i;
        return true;
    }
    return false;
}

/* As float32 by row: where the file has them so, they are read there. */
static int take_scales(struct tensor_entry *e, const struct weight_source *scale, int64_t rows,
                       struct dr_error *err)
{
    int64_t count = 0;
    shape_count(&scale->shape, &count);
    e->src.scales = scale->data;
    if (scale->dtype == DTYPE_F32 && count == rows)
        return 0;
    float *own = e->scales ? e->scales : dr_malloc(DR_TAG_WEIGHTS, (size_t)rows * sizeof *own);
    if (!own)
        return dr_fail(err, DR_ENOMEM, "out of memory for the scales of '%s'", e->src.name);
    e->src.scales = e->scales = own;
    for (int64_t i = 0; i < rows; i++)
        dtype_read(&own[i], scale->data, scale->dtype, count == 1 ? 0 : i, 1);
    return 0;
}

/* Finds the scales of a weight, which I8 must have. What is wrong with them goes to what, "" if
 * nothing is. */
static int load_scales(const struct binding *l, struct tensor_entry *e, char *what, size_t n)
{
    char name[PARAM_NAME + 8], got[120];
    double bad;
    int64_t at, count = 0, rows = e->src.shape.n > 0 ? e->src.shape.d[0] : 0;
    snprintf(name, sizeof name, "%s_scale", e->name);
    struct tensor_entry *scale = tensor_is_scale(name) ? tensor_table_find(l->table, name) : NULL;
    *what = '\0';
    if (!scale) {
        if (e->src.dtype == DTYPE_I8)
            snprintf(what, n, " is of dtype I8 without a scale");
        return 0;
    }
    scale->used = true;
    shape_count(&scale->src.shape, &count);
    shape_text(&scale->src.shape, got, sizeof got);
    if (e->src.shape.n < 2 || e->transpose)
        snprintf(what, n, " has a scale, expected one of matrices and filters only");
    else if (!dtype_is_real(scale->src.dtype) || !scale_shape_fits(&scale->src.shape, rows))
        snprintf(what, n, " has a scale of %s %s, expected F32 [] or [%" PRId64 "]",
                 dtype_name(scale->src.dtype), got, rows);
    else if (find_bad_scale(&scale->src, count, &bad, &at))
        snprintf(what, n, " has a scale of %g for row %" PRId64 ", expected a finite one from 0",
                 bad, at);
    else
        return take_scales(e, &scale->src, rows, l->err);
    return 0;
}

static int load_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct binding *l = ctx;
    char got[120], wanted[120], what[280];
    struct tensor_entry *e = tensor_table_find(l->table, name);
    l->encoder |= !strncmp(name, "encoder.", 8);
    l->decoder |= !strncmp(name, "decoder.", 8);
    l->asked++;
    if (!e) {
        note_bad(l, name, " is missing");
        return 0;
    }
    if (e->used)
        return dr_fail(l->err, DR_EINTERNAL, "'%s' is requested twice", e->src.name);
    e->used = true;
    if (!fits(&e->src.shape, shape)) {
        snprintf(what, sizeof what, " is %s, expected %s",
                 shape_text(&e->src.shape, got, sizeof got),
                 shape_text(shape, wanted, sizeof wanted));
        note_bad(l, name, what);
        return 0;
    }
    int r = load_scales(l, e, what, sizeof what);
    if (!r && !*what && e->src.dtype != DTYPE_I8 && !dtype_is_real(e->src.dtype))
        snprintf(what, sizeof what, " is of dtype %s", dtype_name(e->src.dtype));
    if (!r && *what) {
        note_bad(l, name, what);
        return 0;
    }
    if (!r && e->transpose && !e->copy)
        r = transpose(e, l->err);
    if (!r)
        p->src = e->src;
    return r;
}

static int mark_layer(void *ctx, struct layer *l, const char *name)
{
    (void)ctx;
    (void)name;
    struct weight_source sources[LAYER_PARTS];
    for (int i = 0; i < LAYER_PARTS; i++)
        sources[i] = l->weight[i].src;
    l->desc.int8 = weight_is_int8(&l->desc, sources);
    return 0;
}

/* A VAE made without one of its halves leaves that half's tensors alone, which is no news. */
static bool expected_unused(const struct binding *l, const char *name)
{
    if (l->table->component != COMPONENT_VAE)
        return false;
    bool of_encoder = !strncmp(name, "encoder.", 8) || !strncmp(name, "quant_conv.", 11);
    bool of_decoder = !strncmp(name, "decoder.", 8) || !strncmp(name, "post_quant_conv.", 16);
    return (of_encoder && !l->encoder) || (of_decoder && !l->decoder);
}

static int warn_unused(struct binding *l)
{
    struct name_group unused = { 0 };
    for (size_t i = 0; i < l->table->n; i++) {
        const struct tensor_entry *e = &l->table->entries[i];
        if (!e->used && !e->spare && !expected_unused(l, e->name))
            name_group_add(&unused, e->src.name);
    }
    return checkpoint_warn_unused(l->c, &unused, l->err);
}

int checkpoint_load(struct checkpoint *c, enum component component, void *network, visit_fn visit,
                    struct dr_error *err)
{
    if (!checkpoint_has(c, component))
        return dr_fail(err, DR_EINVAL, "%s: has no %s", c->path, component_name(component));
    const char *path = checkpoint_source_path(c, component);
    struct binding l = { .c = c, .table = &c->tables[component], .err = err };
    for (size_t i = 0; i < l.table->n; i++)
        l.table->entries[i].used = false;
    struct visitor v = { .param = load_param, .layer = mark_layer, .ctx = &l };
    if (err)
        err->code =
            0; /* so that an error of the walk itself can be distinguished from one of load_param */
    int r = visit(network, &v);
    if (r) {
        if (err && !err->code)
            dr_fail(err, r, "%s", dr_code_meaning(r));
        return dr_while(err, r, "loading %s of %s", component_name(component), path);
    }
    if (l.bad)
        return dr_fail(err, DR_EFORMAT, "%s: %zu of %zu tensors of the %s do not fit: %s%s", path,
                       l.bad, l.asked, component_name(component), l.names,
                       l.bad > NAMED_IN_ERROR ? ", ..." : "");
    bool again = c->loaded[component];
    c->loaded[component] = true;
    return again ? 0 : warn_unused(&l);
}
