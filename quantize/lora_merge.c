/* lora_merge.c - see lora_merge.h. */
#include "quantize/lora_merge.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/path_text.h"
#include "models/adapters/lora_file.h"
#include "models/adapters/unet_blocks.h"
#include "models/adapters/weight_variant.h"
#include "models/checkpoint_impl.h"
#include "models/unet.h"

enum { NOTE_BYTES = 4096, RUN = 4096 };

struct lora_merging {
    struct pipeline *base;
    const struct merge_item *items;
    int n;
    const atomic_int *stop;
    struct lora_file *file[MERGE_LORAS];
    struct {
        struct weight_delta *list; /* of all files, with strengths */
        const struct weight_delta **order;
        size_t n;
    } part[COMPONENT_COUNT];
    size_t changed;
    /* of the file that is being written */
    enum component component;
    const struct safetensors *st;
    struct st_out *out;
};

static int no_memory(struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "out of memory for merging");
}

/* ---- the changes ---- */

static int open_files(struct lora_merging *m, struct dr_error *err)
{
    struct adapter_network networks[PIPELINE_NETWORKS];
    struct lora_model model = { .networks = networks, .unet = unet_arch(m->base->unet) };
    int r = 0;
    for (int i = 0; i < m->base->n_networks; i++)
        if (m->base->networks[i].component != COMPONENT_VAE)
            networks[model.n++] = (struct adapter_network){ m->base->networks[i].component,
                                                            m->base->networks[i].network,
                                                            m->base->networks[i].visit };
    for (int i = 0; !r && i < m->n; i++)
        r = lora_file_open(m->items[i].root, m->items[i].path, &model, m->stop, &m->file[i], err);
    return r;
}

static int strengths_of(const struct lora_merging *m, int i, double blocks[UNET_BLOCKS_MOST],
                        struct dr_error *err)
{
    char field[40];
    snprintf(field, sizeof field, "loras[%d].blocks", i);
    for (int k = 0; k < UNET_BLOCKS_MOST; k++)
        blocks[k] = 1;
    return *m->items[i].blocks ? unet_block_strengths(unet_arch(m->base->unet), field,
                                                      m->items[i].blocks, blocks, err)
                               : 0;
}

static int scale_part(struct lora_merging *m, enum component c, struct dr_error *err)
{
    const struct unet_arch *unet = unet_arch(m->base->unet);
    const struct weight_delta *deltas;
    size_t n = 0;
    int r = 0;
    for (int i = 0; i < m->n; i++)
        n += lora_file_deltas(m->file[i], c, &deltas);
    m->part[c].list = dr_calloc(DR_TAG_MODEL, n + 1, sizeof *m->part[c].list);
    m->part[c].order = dr_calloc(DR_TAG_MODEL, n + 1, sizeof *m->part[c].order);
    if (!m->part[c].list || !m->part[c].order)
        return no_memory(err);
    for (int i = 0; !r && i < m->n; i++) {
        double blocks[UNET_BLOCKS_MOST];
        size_t of = lora_file_deltas(m->file[i], c, &deltas);
        r = strengths_of(m, i, blocks, err);
        for (size_t k = 0; !r && k < of; k++) {
            struct weight_delta *d = &m->part[c].list[m->part[c].n];
            int block = c == COMPONENT_UNET ? unet_block_of(unet, deltas[k].param) : 0;
            double factor = c != COMPONENT_UNET || block ? blocks[block] : 1; /* in no block */
            *d = deltas[k];
            d->strength = (c == COMPONENT_UNET ? m->items[i].strength : m->items[i].text_strength) *
                          factor;
            m->part[c].order[m->part[c].n++] = d;
        }
    }
    return r;
}

/* ---- where they go ---- */

/* The tensor of the file that the parameter lies in; false: in another file. */
static bool find_place(const struct lora_merging *m, const char *name, size_t *ret_item,
                       uint64_t *ret_offset)
{
    const struct tensor_entry *e = tensor_table_find(&m->base->checkpoint->tables[m->component],
                                                     name);
    for (size_t i = 0; e && i < m->st->header.n_tensors; i++) {
        const struct st_tensor *t = &m->st->header.tensors[i];
        const char *first = st_data(m->st, t), *at = e->stored;
        if (at < first || at >= first + (t->end - t->begin))
            continue;
        *ret_item = i;
        *ret_offset = (uint64_t)(at - first);
        return true;
    }
    return false;
}

static bool is_wanted(void *ctx, const char *name)
{
    size_t item;
    uint64_t offset;
    return find_place(ctx, name, &item, &offset);
}

/* The type that the changed values are stored in. */
static int check_type(const struct tensor_entry *e, const char *name, struct dr_error *err)
{
    enum dtype t = e->src.dtype;
    if (!e->src.scales && (t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16))
        return 0;
    return dr_fail(err, DR_EUNSUPPORTED,
                   "%s is stored as %s%s: changes can be merged into F32, F16 and BF16 only "
                   "(darkroom convert --type f16 makes a copy)",
                   name, dtype_name(t), e->src.scales ? " with scales" : "");
}

/* Values [first, first + n) of the stored order. */
static void take_run(const struct tensor_entry *e, const struct shape *shape, const float *value,
                     int64_t first, int64_t n, float *ret)
{
    int64_t rows = shape->d[0], cols = shape->n > 1 ? shape->d[1] : 1;
    for (int64_t i = 0; i < n; i++)
        ret[i] = e->transpose ? value[(first + i) % rows * cols + (first + i) / rows]
                              : value[first + i];
}

static int put_value(void *ctx, const char *name, const struct shape *shape, const float *value,
                     struct dr_error *err)
{
    struct lora_merging *m = ctx;
    const struct tensor_entry *e = tensor_table_find(&m->base->checkpoint->tables[m->component],
                                                     name);
    float run[RUN], back[RUN];
    char bytes[RUN * sizeof(float)];
    int64_t count = 0;
    uint64_t offset = 0;
    size_t item = 0;
    int r = check_type(e, name, err);
    (void)find_place(m, name, &item, &offset);
    (void)shape_count(shape, &count);
    size_t size = dtype_size(e->src.dtype);
    for (int64_t at = 0, n; !r && at < count; at += n) {
        n = count - at < RUN ? count - at : RUN;
        take_run(e, shape, value, at, n, run);
        dtype_from_f32(bytes, e->src.dtype, run, n);
        dtype_to_f32(back, bytes, e->src.dtype, n);
        for (int64_t i = 0; !r && i < n; i++)
            if (!isfinite(back[i]))
                r = dr_fail(err, DR_EUNSUPPORTED,
                            "%s would have the value %g, which %s cannot hold", name,
                            (double)run[i], dtype_name(e->src.dtype));
        if (!r)
            r = st_out_put(m->out, item, offset + (uint64_t)at * size, bytes, (size_t)n * size,
                           err);
    }
    m->changed += !r;
    return r;
}

static int amend(void *ctx, const struct safetensors *st, struct st_out *out, struct dr_error *err)
{
    struct lora_merging *m = ctx;
    const struct variant_values how = { is_wanted, put_value, m };
    int r = 0;
    m->st = st;
    m->out = out;
    for (int i = 0; !r && i < m->base->n_networks; i++) {
        const struct pipeline_network *net = &m->base->networks[i];
        struct variant_spec spec = { .network = net->network,
                                     .visit = net->visit,
                                     .be = m->base->backend,
                                     .deltas = m->part[net->component].order,
                                     .n = m->part[net->component].n,
                                     .stop = m->stop };
        m->component = net->component;
        if (spec.n)
            r = weight_variant_values(&spec, &how, err);
    }
    return r;
}

/* ---- the whole ---- */

/* "style.safetensors 0.8; lamp.safetensors 1", for people. */
static void note_of(const struct lora_merging *m, char dst[NOTE_BYTES])
{
    size_t at = (size_t)snprintf(dst, NOTE_BYTES, "by darkroom %s:", DR_VERSION);
    for (int i = 0; i < m->n && at < NOTE_BYTES; i++)
        at += (size_t)snprintf(dst + at, NOTE_BYTES - at, "%s sha256 %s, strength %g, text %g",
                               i ? ";" : "", lora_file_digest(m->file[i]), m->items[i].strength,
                               m->items[i].text_strength);
}

static json_t *answer_of(const struct lora_merging *m)
{
    json_t *o = json_object(), *loras = json_array(), *warnings = json_array();
    int r = jx_set(o, "changed", json_integer((json_int_t)m->changed));
    int r2 = jx_set(o, "loras", loras), r3 = jx_set(o, "warnings", warnings);
    r = r ? r : r2 ? r2 : r3;
    for (int i = 0; !r && i < m->n; i++) {
        r = jx_add(loras,
                   json_pack("{s:o,s:f,s:f,s:s}", "path", path_text_json(m->items[i].path),
                             "strength", m->items[i].strength, "text_strength",
                             m->items[i].text_strength, "sha256", lora_file_digest(m->file[i])));
        if (!r && *lora_file_warning(m->file[i]))
            r = jx_add(warnings, json_string(lora_file_warning(m->file[i])));
    }
    if (!r)
        return o;
    json_decref(o);
    return NULL;
}

static int write_copy(struct lora_merging *m, struct quantize_copy *copy, struct dr_error *err)
{
    char note[NOTE_BYTES];
    note_of(m, note);
    const struct quantize_choice how = { .amend = amend, .amend_ctx = m, .amend_note = note };
    int r = quantize_write(copy, m->base->checkpoint, &how, m->stop, err);
    for (int i = 0; !r && i < m->n; i++)
        r = lora_file_check(m->file[i], err);
    if (!r)
        r = checkpoint_check(m->base->checkpoint, err);
    if (!r && !m->changed)
        r = dr_fail(err, DR_EINVAL, "loras: nothing would change (every strength is 0)");
    return r;
}

int lora_merge(struct quantize_copy *copy, struct pipeline *base, const struct merge_item *items,
               int n, const atomic_int *stop, json_t **ret, struct dr_error *err)
{
    struct lora_merging m = { .base = base, .items = items, .n = n, .stop = stop };
    int r = open_files(&m, err);
    for (int c = 0; !r && c < COMPONENT_COUNT; c++)
        r = scale_part(&m, (enum component)c, err);
    if (!r)
        r = write_copy(&m, copy, err);
    if (!r && !(*ret = answer_of(&m)))
        r = no_memory(err);
    for (int c = 0; c < COMPONENT_COUNT; c++) {
        dr_free(m.part[c].list);
        dr_free((void *)m.part[c].order);
    }
    for (int i = 0; i < n; i++)
        lora_file_close(m.file[i]);
    return r;
}
