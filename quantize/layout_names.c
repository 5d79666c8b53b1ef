/* layout_names.c - the tensors of a component as another layout has them, see layout.h. */
#include "quantize/layout_impl.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "models/formats/key_names.h"

/* How a layout calls the tensors of a component: by canonical names, or by those of a form. */
struct naming {
    const char *prefix;
    bool canonical;
    enum key_form form;
    struct key_numbering numbers;
};

const struct family_encoder *layout_single_encoder(const struct layout_job *j,
                                                   enum component component)
{
    const struct checkpoint *c = j->c;
    const struct family_encoder *e = family_encoder(c->family, component);
    const struct family *const *f = c->family->by_context;
    for (; e && !e->prefix && f && *f; f++)
        if ((*f)->encoders[0].act == checkpoint_clip(j->c, component)->act)
            e = &(*f)->encoders[0];
    return e;
}

static struct naming naming_of(const struct layout_job *j, enum component component)
{
    const struct checkpoint *c = j->c;
    const struct family_encoder *e = layout_single_encoder(j, component);
    struct naming n = { .prefix = "", .canonical = true };
    if (component == COMPONENT_UNET) {
        n = (struct naming){ .prefix = "model.diffusion_model.",
                             .form = KEY_FORM_UNET,
                             .numbers = { .unet = &c->unet } };
    } else if (component == COMPONENT_VAE) {
        n = (struct naming){ .prefix = j->layout == LAYOUT_VAE ? "" : "first_stage_model.",
                             .form = KEY_FORM_VAE,
                             .numbers = { .vae_levels = c->vae.levels } };
    } else if (j->layout == LAYOUT_SINGLE && e && e->prefix) {
        n = (struct naming){ .prefix = e->prefix,
                             .canonical = !e->open_clip,
                             .form = KEY_FORM_OPEN_CLIP };
    }
    if (j->layout == LAYOUT_DIFFUSERS)
        n = (struct naming){ .prefix = "", .canonical = true };
    return n;
}

/* ---- one tensor ---- */

/* Single files have the VAE's attention as 1x1 convolutions, folders as matrices. */
static void shape_vae(bool folder, const char *canonical, struct shape *s)
{
    bool attention = strstr(canonical, "mid_block.attentions.") && !strstr(canonical, "group_norm");
    if (!attention || s->n < 2)
        return;
    *s = (struct shape){ folder ? 2 : 4, { s->d[0], s->d[1] } };
    for (int i = 2; i < s->n; i++)
        s->d[i] = 1;
}

static int set_scale(struct layout_job *j, const struct tensor_table *t,
                     const struct tensor_entry *e, struct tensor_origin *o)
{
    char name[PARAM_NAME + 8];
    int64_t count = 0;
    snprintf(name, sizeof name, "%s_scale", e->name);
    const struct tensor_entry *scale = tensor_table_find(t, name);
    if (!scale)
        return 0;
    bool good = dtype_is_real(scale->src.dtype) && shape_count(&scale->src.shape, &count) &&
                !o->turned && (count == 1 || count == o->shape.d[0]);
    if (!good)
        return dr_fail(j->err, DR_EFORMAT, "%s: the scale of '%s' does not fit it", j->c->path,
                       e->src.name);
    o->scale = scale->stored;
    o->scale_dtype = scale->src.dtype;
    o->scale_by_row = count != 1;
    return 0;
}

/* turn: the layout has the matrix as [in, out]. */
static int set_origin(struct layout_job *j, const struct tensor_table *t,
                      const struct tensor_entry *e, bool turn, struct tensor_origin *o)
{
    *o = (struct tensor_origin){ .dtype = e->src.dtype, .shape = e->src.shape, .data = e->stored };
    o->turned = turn != e->transpose;
    if (turn && o->shape.n == 2)
        o->shape = SHAPE2(e->src.shape.d[1], e->src.shape.d[0]);
    if (o->turned && (o->shape.n != 2 || dtype_block(o->dtype) > 1))
        return dr_fail(j->err, DR_EUNSUPPORTED, "%s: '%s' of type %s cannot be turned", j->c->path,
                       e->src.name, dtype_name(o->dtype));
    if (t->component == COMPONENT_VAE)
        shape_vae(j->layout == LAYOUT_DIFFUSERS, e->name, &o->shape);
    return set_scale(j, t, e, o);
}

/* The others of a stacked matrix, whose first is `e`: their rows follow. */
static int stack(struct layout_job *j, const struct tensor_table *t, const struct tensor_entry *e,
                 struct tensor_origin *first)
{
    char name[PARAM_NAME];
    struct tensor_origin *above = first;
    snprintf(name, sizeof name, "%s", e->name);
    char *letter = strstr(name, ".q_proj.");
    for (int i = 1; letter && i < 3; i++) {
        letter[1] = "qkv"[i];
        const struct tensor_entry *next = tensor_table_find(t, name);
        if (!next || next->src.dtype != e->src.dtype || next->src.shape.n != e->src.shape.n)
            return dr_fail(j->err, DR_EFORMAT, "%s: '%s' and %s cannot be one tensor", j->c->path,
                           e->src.name, next ? next->src.name : name);
        struct tensor_origin *o = &j->below[j->n_below++];
        int r = set_origin(j, t, next, false, o);
        if (r)
            return r;
        o->name = first->name;
        above->below = o;
        above = o;
    }
    return letter ? 0 : dr_fail(j->err, DR_EINTERNAL, "%s: no part of a stack", e->src.name);
}

static int add(struct layout_job *j, const struct naming *n, const struct tensor_table *t,
               const struct tensor_entry *e, bool *ret_known)
{
    struct key_source key = { .part = -1 };
    *ret_known = true;
    if (n->canonical)
        snprintf(key.name, sizeof key.name, "%s", e->name);
    else if (!(*ret_known = key_name(n->form, &n->numbers, e->name, &key)))
        return 0;
    if (key.part > 0)
        return 0;
    struct tensor_origin *o = &j->origins[j->n];
    int r = set_origin(j, t, e, key.transpose, o);
    o->name = arena_printf(&j->texts, "%s%s", n->prefix, key.name);
    if (!r && !o->name)
        r = layout_no_memory(j);
    if (!r && !key.part)
        r = stack(j, t, e, o);
    j->n++;
    return r;
}

/* ---- a component ---- */

static int make_room(struct layout_job *j, size_t more)
{
    size_t cap = j->n + more + LAYOUT_METADATA;
    if (cap <= j->cap)
        return 0;
    struct tensor_origin *origins = dr_realloc(DR_TAG_FILE, j->origins, cap * sizeof *origins);
    if (!origins)
        return layout_no_memory(j);
    j->origins = origins;
    j->cap = cap;
    return 0;
}

int layout_list(struct layout_job *j, enum component component)
{
    const struct tensor_table *t = &j->c->tables[component];
    struct naming naming = naming_of(j, component);
    struct name_group lost = { 0 };
    bool known;
    int r = make_room(j, t->n);
    for (size_t i = 0; !r && i < t->n; i++) {
        const struct tensor_entry *e = &t->entries[i];
        if (e->spare || tensor_is_scale(e->name))
            continue;
        r = add(j, &naming, t, e, &known);
        if (!r && !known)
            name_group_add(&lost, e->src.name);
    }
    if (!r && lost.n)
        r = layout_warn(j, "%zu tensors have no place in the other layout and are left out: %s%s",
                        lost.n, lost.first[0], lost.n > 1 ? ", ..." : "");
    return r;
}
