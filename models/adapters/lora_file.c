/* lora_file.c - see lora_file.h. */
#include "models/adapters/lora_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "models/digest.h"
#include "models/formats/safetensors.h"

enum { NAMES_SHOWN = 3, NAMES_BYTES = 32 << 20, METADATA_BYTES = 1 << 20 };

/* A tensor that a module of the model claims. */
struct claim {
    const struct adapter_module *module;
    const struct adapter_ending *ending;
    const struct st_tensor *tensor;
    bool used, read; /* read: all its values are looked at */
};

struct lora_file {
    struct model_files *files;
    struct safetensors st;
    bool opened, survey;
    char digest[SHA256_HEX];
    char warning[600];
    struct arena texts;
    struct adapter_modules modules;
    struct claim *claims; /* sorted by module, then ending */
    size_t n_claims;
    size_t unused; /* tensors */
    const char *unused_name[NAMES_SHOWN];
    struct {
        struct weight_delta *list;
        size_t n;
    } part[COMPONENT_COUNT];
    json_t *peft; /* configurations in the metadata; NULL: none */
};

static const char *path_of(const struct lora_file *f)
{
    return model_files_path(f->files);
}

static int fail_tensor(const struct lora_file *f, const char *name, int code, const char *got,
                       const char *expected, struct dr_error *err)
{
    char where[DR_PATH_MAX + 200];
    snprintf(where, sizeof where, "%s: %.160s", path_of(f), name);
    return dr_fail_field(err, code, where, got, expected, NULL);
}

static void leave(struct lora_file *f, const char *name)
{
    if (f->unused < NAMES_SHOWN)
        f->unused_name[f->unused] = name;
    f->unused++;
}

/* ---- opening ---- */

static int open_tensors(struct lora_file *f, const struct model_root *root, const char *path,
                        const atomic_int *stop, struct dr_error *err)
{
    const struct model_file *file;
    struct digest_options how = { .stop = stop };
    int r = model_files_open(root, path, &f->files, err);
    if (!r && model_files_is_folder(f->files))
        r = dr_fail_field(err, DR_EINVAL, path, "a folder", "a safetensors file", NULL);
    if (!r)
        r = model_files_need(f->files, "", 0, &file, err);
    if (!r)
        r = st_open_fd(file->fd, path, &f->st, err);
    if (r)
        return r;
    f->opened = true;
    return f->survey ? 0 : digest_files(f->files, &how, f->digest, err);
}

static int by_module(const void *a, const void *b)
{
    const struct claim *x = a, *y = b;
    int order = (int)x->module->component - (int)y->module->component;
    if (!order)
        order = strcmp(x->module->name, y->module->name);
    if (!order)
        order = (x->ending > y->ending) - (x->ending < y->ending);
    return order ? order : strcmp(x->tensor->name, y->tensor->name);
}

static int claim_all(struct lora_file *f, struct dr_error *err)
{
    const struct st_header *h = &f->st.header;
    f->claims = dr_calloc(DR_TAG_MODEL, h->n_tensors + 1, sizeof *f->claims);
    if (!f->claims)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory for its tensors", path_of(f));
    for (size_t i = 0; i < h->n_tensors; i++) {
        const struct st_tensor *t = &h->tensors[i];
        size_t n;
        const struct adapter_ending *ending = adapter_ending(t->name, &n);
        const struct adapter_module *m = ending ? adapter_module_find(&f->modules, t->name, n)
                                                : NULL;
        if (m)
            f->claims[f->n_claims++] = (struct claim){ m, ending, t, false, false };
        else
            leave(f, t->name);
    }
    qsort(f->claims, f->n_claims, sizeof *f->claims, by_module);
    return 0;
}

/* ---- values ---- */

static int check_finite(const struct lora_file *f, const struct st_tensor *t,
                        const atomic_int *stop, struct dr_error *err)
{
    enum { CHUNK = 4096 };
    float values[CHUNK];
    int64_t count;
    if (!dtype_is_real(t->dtype))
        return fail_tensor(f, t->name, DR_EFORMAT, dtype_name(t->dtype), "a floating-point tensor",
                           err);
    if (!shape_count(&t->shape, &count) || !count)
        return fail_tensor(f, t->name, DR_EFORMAT, "no values", "a tensor", err);
    const char *data = st_data(&f->st, t);
    for (int64_t at = 0; at < count; at += CHUNK) {
        int64_t n = count - at < CHUNK ? count - at : CHUNK;
        float sum = 0;
        dtype_read(values, data, t->dtype, at, n);
        for (int64_t i = 0; i < n; i++)
            sum += values[i] * 0; /* NaN unless all are finite */
        if (sum != 0)
            return fail_tensor(f, t->name, DR_EFORMAT, "a value that is not finite", "numbers",
                               err);
        if (stop && !(at & 0xfffff) && atomic_load(stop))
            return dr_fail(err, DR_ECANCELED, "stopped while a LoRA was read");
    }
    return 0;
}

/* A tensor of one value, of whatever type. */
static int read_scalar(const struct lora_file *f, const struct st_tensor *t, double *ret,
                       struct dr_error *err)
{
    int64_t count, whole = 0;
    float real;
    if (!shape_count(&t->shape, &count) || count != 1)
        return fail_tensor(f, t->name, DR_EFORMAT, "several values", "one number", err);
    if (dtype_is_real(t->dtype))
        dtype_to_f32(&real, st_data(&f->st, t), t->dtype, 1);
    else if (t->dtype != DTYPE_U64 && t->dtype != DTYPE_C64)
        memcpy(&whole, st_data(&f->st, t), dtype_size(t->dtype)); /* small and not negative */
    *ret = dtype_is_real(t->dtype) ? (double)real : (double)whole;
    return isfinite(*ret)
               ? 0
               : fail_tensor(f, t->name, DR_EFORMAT, "a value that is not finite", "a number", err);
}

static struct weight_source source_of(const struct lora_file *f, const struct st_tensor *t)
{
    return (struct weight_source){
        .name = t->name, .data = st_data(&f->st, t), .dtype = t->dtype, .shape = t->shape
    };
}

/* ---- alpha in metadata ---- */

/* "lora_adapter_metadata" is peft's configuration of each network, written by diffusers. */
static int read_metadata(struct lora_file *f, struct dr_error *err)
{
    static const struct jx_limits limits = { .bytes = METADATA_BYTES };
    const struct st_header *h = &f->st.header;
    for (size_t i = 0; i < h->n_metadata; i++) {
        const char *text = h->metadata[i].value;
        if (strcmp(h->metadata[i].key, "lora_adapter_metadata"))
            continue;
        int r = jx_parse(text, strlen(text), &limits, "lora_adapter_metadata", &f->peft, err);
        if (r == DR_ENOMEM || r == DR_ECANCELED)
            return r;
        if (r || !json_is_object(f->peft))
            return fail_tensor(f, "lora_adapter_metadata", DR_EFORMAT, "something else",
                               "a JSON object", err);
    }
    return 0;
}

static const json_t *peft_value(const struct lora_file *f, enum component component,
                                const char *key)
{
    char name[80];
    snprintf(name, sizeof name, "%s.%s", component_name(component), key);
    return json_object_get(f->peft, name);
}

/* A pattern of peft names a module, or the end of its name. */
static bool ends_with(const char *module, const char *pattern)
{
    size_t n = strlen(module), m = strlen(pattern);
    return m <= n && !strcmp(module + n - m, pattern) && (m == n || module[n - m - 1] == '.');
}

/* The factor alpha/rank of peft's configuration, as the alpha for this rank; 0: none is given. */
static double peft_alpha(const struct lora_file *f, const struct adapter_module *m, int64_t rank)
{
    const json_t *patterns = peft_value(f, m->component, "alpha_pattern");
    double alpha = json_number_value(peft_value(f, m->component, "lora_alpha"));
    const char *pattern;
    json_t *value;
    json_object_foreach((json_t *)patterns, pattern, value)
    {
        if (ends_with(m->name, pattern))
            alpha = json_number_value(value);
    }
    bool root = json_is_true(peft_value(f, m->component, "use_rslora"));
    return root ? alpha * sqrt((double)rank) : alpha;
}

/* ---- deltas ---- */

/* What is said of a module beside its changes. */
struct notes {
    const struct claim *alpha, *on_input, *magnitude;
    bool by_rows;
};

static int read_note(const struct lora_file *f, const struct claim *c, struct notes *n,
                     struct dr_error *err)
{
    const struct claim **at = c->ending->note == NOTE_ALPHA      ? &n->alpha
                              : c->ending->note == NOTE_ON_INPUT ? &n->on_input
                                                                 : &n->magnitude;
    if (c->ending->note == NOTE_REFUSED)
        return fail_tensor(f, c->tensor->name, DR_EUNSUPPORTED, c->ending->text,
                           "an adapter without it: Darkroom cannot apply it", err);
    if (*at)
        return fail_tensor(f, c->tensor->name, DR_EFORMAT, "a second tensor for one place",
                           (*at)->tensor->name, err);
    *at = c;
    n->by_rows |= c->ending->note == NOTE_MAGNITUDE_ROWS;
    return 0;
}

/* oft_blocks of four dimensions are boft; the vector of ia3 is of inputs where it says so. */
static void settle_kind(struct weight_delta *d, bool on_input)
{
    if (d->kind == &delta_kind_oft && d->tensor[OFT_BLOCKS].shape.n == 4)
        d->kind = &delta_kind_boft;
    if (d->kind == &delta_kind_ia3 && on_input) {
        d->tensor[IA3_IN] = d->tensor[IA3_OUT];
        d->tensor[IA3_OUT] = (struct weight_source){ 0 };
    }
}

/* All tensors of the kind that must be there are. */
static int check_complete(const struct lora_file *f, const struct weight_delta *d,
                          struct dr_error *err)
{
    unsigned have = 0;
    const char *one = d->param;
    char expected[64];
    for (int i = 0; i < DELTA_TENSORS; i++)
        if (delta_has(d, i)) {
            have |= 1u << i;
            one = d->tensor[i].name;
        }
    for (int k = 0; k < 2; k++) {
        unsigned these = d->kind->needs[k].these, those = d->kind->needs[k].those;
        if ((have & these) == these || (those && (have & those) == those))
            continue;
        unsigned lacks = those && (have & those) ? those & ~have : these & ~have;
        int missing = 0;
        while (!(lacks >> missing & 1))
            missing++;
        snprintf(expected, sizeof expected, "a tensor %s beside it",
                 adapter_ending_of(d->kind, missing) + 1);
        return fail_tensor(f, one, DR_EFORMAT, "half of a change", expected, err);
    }
    return 0;
}

/* The rank as peft counts it; 1 where there is none. */
static int64_t rank_of(const struct weight_delta *d)
{
    return d->kind == &delta_kind_low_rank ? delta_dim(&d->tensor[LOW_RANK_DOWN], 0) : 1;
}

static int take_alpha(const struct lora_file *f, const struct adapter_module *m,
                      const struct notes *n, struct weight_delta *d, struct dr_error *err)
{
    if (n->alpha)
        return read_scalar(f, n->alpha->tensor, &d->alpha, err);
    if (d->kind == &delta_kind_low_rank && f->peft)
        d->alpha = peft_alpha(f, m, rank_of(d));
    return 0;
}

/* Lengths make it a dora of what it is. */
static int take_magnitude(const struct lora_file *f, const struct notes *n, struct weight_delta *d,
                          struct dr_error *err)
{
    int64_t count;
    if (!n->magnitude)
        return 0;
    const struct st_tensor *t = n->magnitude->tensor;
    if (!d->kind->adds)
        return fail_tensor(f, t->name, DR_EUNSUPPORTED, "lengths of a change that does not add",
                           "those of a change that adds", err);
    d->inner = d->kind;
    d->kind = &delta_kind_dora;
    d->tensor[DORA_MAGNITUDE] = source_of(f, t);
    if (n->by_rows && shape_count(&t->shape, &count))
        d->tensor[DORA_MAGNITUDE].shape = SHAPE1(count);
    return 0;
}

/* Of the file, the parameter and what is done to it. */
static int identify(const struct lora_file *f, struct weight_delta *d, struct dr_error *err)
{
    char text[SHA256_HEX + PARAM_NAME + 64];
    int n = snprintf(text, sizeof text, "%s %s %s", f->digest, d->kind->name, d->param);
    int r = sha256_bytes(text, (size_t)n, d->identity);
    return r ? dr_fail(err, r, "%s: out of memory", path_of(f)) : 0;
}

/* Adds the change of one kind to one parameter of a module, from its claims [first, end). */
static int add_delta(struct lora_file *f, struct claim *first, struct claim *end,
                     const struct claim *seed, const struct notes *n, struct dr_error *err)
{
    const struct adapter_module *m = seed->module;
    bool bias = seed->ending->bias, on_input = false;
    struct weight_delta d = { .kind = seed->ending->kind, .strength = 1 };
    double input = 0;
    d.param = arena_printf(&f->texts, "%s.%s", m->name, bias ? "bias" : "weight");
    int r = d.param ? 0 : dr_fail(err, DR_ENOMEM, "%s: out of memory", path_of(f));
    for (struct claim *c = first; !r && c < end; c++) {
        if (c->ending->kind != d.kind || c->ending->bias != bias)
            continue;
        if (delta_has(&d, c->ending->tensor))
            r = fail_tensor(f, c->tensor->name, DR_EFORMAT, "a second tensor for one place",
                            d.tensor[c->ending->tensor].name, err);
        d.tensor[c->ending->tensor] = source_of(f, c->tensor);
        c->used = true;
    }
    if (!r && n->on_input && d.kind == &delta_kind_ia3) {
        r = read_scalar(f, n->on_input->tensor, &input, err);
        on_input = input != 0;
    }
    settle_kind(&d, on_input);
    if (!r)
        r = check_complete(f, &d, err);
    if (!r && !bias)
        r = take_alpha(f, m, n, &d, err);
    if (!r && !bias)
        r = take_magnitude(f, n, &d, err);
    if (!r)
        r = identify(f, &d, err);
    if (!r)
        f->part[m->component].list[f->part[m->component].n++] = d;
    return r;
}

/* Whether the model has the parameter that the claim changes. A bare ".weight" is a vector of ia3
 * only beside its mark. */
static bool applies(const struct claim *c, const struct notes *n)
{
    bool has = c->ending->bias ? c->module->bias : c->module->weight;
    return has && (c->ending->kind != &delta_kind_ia3 || n->on_input);
}

/* All changes of one module. */
static int add_module(struct lora_file *f, struct claim *first, struct claim *end,
                      const atomic_int *stop, struct dr_error *err)
{
    struct notes n = { .alpha = NULL };
    bool any = false;
    int r = 0;
    for (struct claim *c = first; !r && c < end; c++)
        if (!c->ending->kind)
            r = read_note(f, c, &n, err);
    for (struct claim *c = first; !r && c < end; c++) {
        if (!c->ending->kind || c->used || !applies(c, &n))
            continue;
        r = add_delta(f, first, end, c, &n, err);
        any = true;
    }
    for (struct claim *c = first; !r && c < end; c++) {
        bool used = c->used || (any && !c->ending->kind);
        c->read = c->used || (used && (c->ending->note == NOTE_MAGNITUDE ||
                                       c->ending->note == NOTE_MAGNITUDE_ROWS));
        if (!used)
            leave(f, c->tensor->name);
        else if (c->read && !f->survey)
            r = check_finite(f, c->tensor, stop, err);
    }
    return r;
}

static int add_modules(struct lora_file *f, const atomic_int *stop, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; i < COMPONENT_COUNT; i++) {
        size_t n = 0;
        for (size_t k = 0; k < f->n_claims; k++)
            n += f->claims[k].module->component == (enum component)i;
        f->part[i].list = dr_calloc(DR_TAG_MODEL, n + 1, sizeof *f->part[i].list);
        if (!f->part[i].list)
            return dr_fail(err, DR_ENOMEM, "%s: out of memory", path_of(f));
    }
    for (size_t first = 0, end; !r && first < f->n_claims; first = end) {
        const struct adapter_module *m = f->claims[first].module;
        end = first + 1;
        while (end < f->n_claims && f->claims[end].module->component == m->component &&
               !strcmp(f->claims[end].module->name, m->name))
            end++;
        r = add_module(f, f->claims + first, f->claims + end, stop, err);
    }
    return r;
}

/* ---- what it is made for ---- */

/* The width of the text that the file's model reads: columns of a product for keys of the cross
 * attention. 0: it has none. */
static int64_t text_width(const struct lora_file *f)
{
    for (size_t i = 0; i < f->st.header.n_tensors; i++) {
        const struct st_tensor *t = &f->st.header.tensors[i];
        size_t n;
        const struct adapter_ending *e = adapter_ending(t->name, &n);
        if (e && e->kind == &delta_kind_low_rank && e->tensor == LOW_RANK_DOWN && n > 10 &&
            (!strncmp(t->name + n - 10, "attn2.to_k", 10) ||
             !strncmp(t->name + n - 10, "attn2_to_k", 10)) &&
            t->shape.n >= 2)
            return t->shape.d[1];
    }
    return 0;
}

static const char *width_name(int64_t width)
{
    return width == 768    ? " (Stable Diffusion 1.x)"
           : width == 1024 ? " (Stable Diffusion 2.x)"
           : width == 1280 ? " (the SDXL refiner)"
           : width == 2048 ? " (SDXL)"
                           : "";
}

static int check_family(const struct lora_file *f, const struct unet_arch *unet,
                        struct dr_error *err)
{
    char got[96], expected[96];
    int64_t width = text_width(f);
    if (!width || width == unet->context || (f->survey && !*width_name(width)))
        return 0;
    snprintf(got, sizeof got, "a LoRA for models whose text is %lld wide%s", (long long)width,
             width_name(width));
    snprintf(expected, sizeof expected, "one for this model, whose text is %lld wide%s",
             (long long)unet->context, width_name(unet->context));
    return dr_fail_field(err, DR_EINVAL, path_of(f), got, expected, NULL);
}

static int check_used(struct lora_file *f, struct dr_error *err)
{
    size_t deltas = 0, at = 0;
    for (int i = 0; i < COMPONENT_COUNT; i++)
        deltas += f->part[i].n;
    const char *first = f->unused ? f->unused_name[0] : "no tensors";
    if (!deltas)
        return dr_fail_field(err, DR_EINVAL, path_of(f), first,
                             "tensors of a LoRA or a relative of it for layers of this model",
                             "nothing in the file fits");
    if (!f->unused)
        return 0;
    at = (size_t)snprintf(f->warning, sizeof f->warning,
                          "%.200s: %zu of %zu tensors are not used, as this model has no layer for "
                          "them: ",
                          dr_path_base(path_of(f)), f->unused, f->st.header.n_tensors);
    for (size_t i = 0; i < f->unused && i < NAMES_SHOWN; i++)
        at += (size_t)snprintf(f->warning + at, sizeof f->warning - at, "%s'%.80s'", i ? ", " : "",
                               f->unused_name[i]);
    if (f->unused > NAMES_SHOWN)
        snprintf(f->warning + at, sizeof f->warning - at, ", ...");
    return 0;
}

/* ---- the whole ---- */

static int read_file(struct lora_file *f, const struct model_root *root, const char *path,
                     const struct lora_model *model, const atomic_int *stop, struct dr_error *err)
{
    int r = open_tensors(f, root, path, stop, err);
    if (!r)
        r = check_family(f, model->unet, err);
    if (!r)
        r = adapter_modules_init(&f->modules, model->networks, model->n, model->unet, &f->texts,
                                 err);
    if (!r)
        r = read_metadata(f, err);
    if (!r)
        r = claim_all(f, err);
    if (!r)
        r = add_modules(f, stop, err);
    if (!r)
        r = check_used(f, err);
    return r;
}

int lora_file_open(const struct model_root *root, const char *path, const struct lora_model *model,
                   const atomic_int *stop, struct lora_file **ret, struct dr_error *err)
{
    struct lora_file *f = dr_calloc(DR_TAG_MODEL, 1, sizeof *f);
    if (!f)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
    f->survey = model->survey;
    arena_init(&f->texts, DR_TAG_MODEL, 0, NAMES_BYTES);
    int r = read_file(f, root, path, model, stop, err);
    if (f->opened && r != DR_ECANCELED && st_check(&f->st, NULL))
        r = st_check(&f->st, err); /* what was read of it says nothing */
    if (r)
        lora_file_close(f);
    else
        *ret = f;
    return r;
}

void lora_file_close(struct lora_file *f)
{
    if (!f)
        return;
    for (int i = 0; i < COMPONENT_COUNT; i++)
        dr_free(f->part[i].list);
    dr_free(f->claims);
    json_decref(f->peft);
    adapter_modules_release(&f->modules);
    arena_free(&f->texts);
    if (f->opened)
        st_close(&f->st);
    model_files_close(f->files);
    dr_free(f);
}

const char *lora_file_digest(const struct lora_file *f)
{
    return f->digest;
}

const char *lora_file_warning(const struct lora_file *f)
{
    return f->warning;
}

size_t lora_file_deltas(const struct lora_file *f, enum component component,
                        const struct weight_delta **ret)
{
    *ret = f->part[component].list;
    return f->part[component].n;
}

const struct st_header *lora_file_header(const struct lora_file *f)
{
    return &f->st.header;
}

size_t lora_file_used(const struct lora_file *f, size_t *ret_unused)
{
    *ret_unused = f->unused;
    return f->st.header.n_tensors - f->unused;
}

const char *lora_file_unused(const struct lora_file *f, size_t i)
{
    return i < NAMES_SHOWN && i < f->unused ? f->unused_name[i] : NULL;
}

int lora_file_values(const struct lora_file *f, const atomic_int *stop, struct dr_error *err)
{
    int r = 0;
    for (size_t i = 0; !r && i < f->n_claims; i++)
        if (f->claims[i].read)
            r = check_finite(f, f->claims[i].tensor, stop, err);
    if (r != DR_ECANCELED && st_check(&f->st, NULL))
        r = st_check(&f->st, err); /* what was read of it says nothing */
    return r;
}

int lora_file_check(const struct lora_file *f, struct dr_error *err)
{
    return st_check(&f->st, err);
}
