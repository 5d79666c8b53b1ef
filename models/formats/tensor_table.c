/* tensor_table.c - see tensor_table.h. */
#include "models/formats/tensor_table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "models/params.h"

const char *component_name(enum component component)
{
    static const char *const names[COMPONENT_COUNT] = {
        [COMPONENT_UNET] = "unet",
        [COMPONENT_TEXT_ENCODER] = "text_encoder",
        [COMPONENT_TEXT_ENCODER_2] = "text_encoder_2",
        [COMPONENT_VAE] = "vae",
    };
    return component < COMPONENT_COUNT ? names[component] : "none";
}

void tensor_table_init(struct tensor_table *t, enum component component)
{
    *t = (struct tensor_table){ .component = component };
}

void tensor_table_free(struct tensor_table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++)
        dr_free(t->entries[i].copy), dr_free(t->entries[i].scales);
    dr_free(t->entries);
    tensor_table_init(t, t->component);
}

int tensor_table_add(struct tensor_table *t, struct arena *names, const char *name,
                     const struct weight_source *src, bool transpose, struct dr_error *err)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 256;
        void *p = dr_realloc(DR_TAG_FILE, t->entries, cap * sizeof *t->entries);
        if (!p)
            return dr_fail(err, DR_ENOMEM, "out of memory for the table of tensors");
        t->entries = p;
        t->cap = cap;
    }
    const char *component = component_name(t->component);
    char *full = arena_printf(names, "%s.%s", component, name);
    if (!full)
        return dr_fail(err, DR_ENOMEM, "out of memory for the names of tensors");
    struct tensor_entry *e = &t->entries[t->n++];
    *e = (struct tensor_entry){ .name = full + strlen(component) + 1,
                                .src = *src,
                                .stored = src->data,
                                .transpose = transpose };
    e->src.name = full;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor_entry *)a)->name, ((const struct tensor_entry *)b)->name);
}

int tensor_table_sort(struct tensor_table *t, const char *what, struct dr_error *err)
{
    if (t->n)
        qsort(t->entries, t->n, sizeof *t->entries, by_name);
    for (size_t i = 1; i < t->n; i++)
        if (!strcmp(t->entries[i].name, t->entries[i - 1].name))
            return dr_fail(err, DR_EFORMAT, "%s: two tensors mean '%s'", what,
                           t->entries[i].src.name);
    return 0;
}

static int by_key(const void *key, const void *entry)
{
    return strcmp(key, ((const struct tensor_entry *)entry)->name);
}

struct tensor_entry *tensor_table_find(const struct tensor_table *t, const char *name)
{
    return t->n ? bsearch(name, t->entries, t->n, sizeof *t->entries, by_key) : NULL;
}

void tensor_table_spare(struct tensor_table *t, const char *prefix)
{
    for (size_t i = 0; i < t->n; i++)
        t->entries[i].spare |= !strncmp(t->entries[i].name, prefix, strlen(prefix));
}

int64_t tensor_table_dim(const struct tensor_table *t, int i, const char *fmt, ...)
{
    char name[PARAM_NAME];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof name)
        return 0;
    const struct tensor_entry *e = tensor_table_find(t, name);
    return e && i < e->src.shape.n ? e->src.shape.d[i] : 0;
}

bool tensor_is_scale(const char *name)
{
    static const char suffix[] = ".weight_scale";
    size_t n = strlen(name), tail = sizeof suffix - 1;
    return n > tail && !strcmp(name + n - tail, suffix);
}

int64_t tensor_table_elements(const struct tensor_table *t)
{
    int64_t total = 0, count;
    for (size_t i = 0; i < t->n; i++)
        if (!tensor_is_scale(t->entries[i].name) && shape_count(&t->entries[i].src.shape, &count))
            total += count;
    return total;
}
