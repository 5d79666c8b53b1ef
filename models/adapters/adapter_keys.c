/* adapter_keys.c - see adapter_keys.h. */
#include "models/adapters/adapter_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "models/adapters/unet_blocks.h"

enum { KEY_BYTES = 512 };

static const struct adapter_ending endings[] = {
#define WEIGHT false
#define BIAS true
#define TENSOR(text, kind, tensor, part) { text, NOTE_NONE, &delta_kind_##kind, tensor, part },
#define NOTE(text, note) { text, NOTE_##note, NULL, 0, false },
#include "models/adapters/adapters.def"
#undef WEIGHT
#undef BIAS
};

const struct adapter_ending *adapter_ending(const char *name, size_t *ret_module)
{
    const struct adapter_ending *best = NULL;
    size_t n = strlen(name), longest = 0;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t m = strlen(endings[i].text);
        if (m < n && m > longest && !strcmp(name + n - m, endings[i].text)) {
            best = &endings[i];
            longest = m;
        }
    }
    *ret_module = n - longest;
    return best;
}

const char *adapter_ending_of(const struct delta_kind *kind, int tensor)
{
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (endings[i].kind == kind && endings[i].tensor == tensor)
            return endings[i].text;
    return "";
}

/* ---- the table ---- */

static void underscored(char *text)
{
    for (; *text; text++)
        if (*text == '.')
            *text = '_';
}

static int by_key(const void *a, const void *b)
{
    const struct adapter_module *x = a, *y = b;
    return x->component != y->component ? (x->component > y->component ? 1 : -1)
                                        : strcmp(x->key, y->key);
}

static int grow(struct adapter_modules *m)
{
    if (m->n < m->cap)
        return 0;
    size_t cap = m->cap ? 2 * m->cap : 256;
    void *list = dr_realloc(DR_TAG_MODEL, m->list, cap * sizeof *m->list);
    if (!list)
        return DR_ENOMEM;
    m->list = list;
    m->cap = cap;
    return 0;
}

struct collecting {
    struct adapter_modules *m;
    enum component component;
    const struct unet_arch *unet; /* NULL: of another network */
};

static int add(struct collecting *c, const char *spelled, const char *name, bool bias)
{
    char *key = arena_strdup(c->m->texts, spelled);
    if (!key || grow(c->m))
        return DR_ENOMEM;
    underscored(key);
    c->m->list[c->m->n++] = (struct adapter_module){
        .key = key, .name = name, .component = c->component, .weight = !bias, .bias = bias
    };
    return 0;
}

/* A parameter's module, once for its weight and once for its bias. */
static int collect(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct collecting *c = ctx;
    char single[KEY_BYTES];
    const char *dot = strrchr(name, '.');
    bool bias = dot && !strcmp(dot, ".bias");
    (void)p;
    (void)shape;
    if (!dot)
        return 0;
    char *module = arena_strndup(c->m->texts, name, (size_t)(dot - name));
    int r = module ? add(c, module, module, bias) : DR_ENOMEM;
    if (!r && c->unet && unet_single_name(c->unet, module, single, sizeof single) &&
        strcmp(single, module))
        r = add(c, single, module, bias);
    return r;
}

/* One entry for each key. */
static void merge(struct adapter_modules *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (n && !by_key(&m->list[n - 1], &m->list[i])) {
            m->list[n - 1].weight |= m->list[i].weight;
            m->list[n - 1].bias |= m->list[i].bias;
        } else {
            m->list[n++] = m->list[i];
        }
    }
    m->n = n;
}

int adapter_modules_init(struct adapter_modules *m, const struct adapter_network *networks, int n,
                         const struct unet_arch *unet, struct arena *texts, struct dr_error *err)
{
    int r = 0;
    *m = (struct adapter_modules){ .texts = texts };
    for (int i = 0; !r && i < n; i++) {
        struct collecting c = { .m = m,
                                .component = networks[i].component,
                                .unet = networks[i].component == COMPONENT_UNET ? unet : NULL };
        struct visitor v = { .param = collect, .ctx = &c };
        r = networks[i].network ? networks[i].visit(networks[i].network, &v) : 0;
    }
    if (r)
        return dr_fail(err, r, "out of memory for the names of a model's layers");
    if (m->n)
        qsort(m->list, m->n, sizeof *m->list, by_key);
    merge(m);
    return 0;
}

void adapter_modules_release(struct adapter_modules *m)
{
    dr_free(m->list);
    *m = (struct adapter_modules){ .n = 0 };
}

/* ---- looking up ---- */

/* With underscores for dots. "lora_te" is the encoder of models that have one. */
static const struct {
    const char *text;
    enum component component;
} prefixes[] = {
    { "lora_unet_", COMPONENT_UNET },
    { "lycoris_", COMPONENT_UNET },
    { "unet_", COMPONENT_UNET },
    { "base_model_model_", COMPONENT_UNET },
    { "model_diffusion_model_", COMPONENT_UNET },
    { "diffusion_model_", COMPONENT_UNET },
    { "lora_te1_", COMPONENT_TEXT_ENCODER },
    { "lora_te_", COMPONENT_TEXT_ENCODER },
    { "text_encoder_", COMPONENT_TEXT_ENCODER },
    { "clip_l_", COMPONENT_TEXT_ENCODER },
    { "clip_l_transformer_", COMPONENT_TEXT_ENCODER },
    { "lora_te2_", COMPONENT_TEXT_ENCODER_2 },
    { "text_encoder_2_", COMPONENT_TEXT_ENCODER_2 },
    { "clip_g_", COMPONENT_TEXT_ENCODER_2 },
    { "clip_g_transformer_", COMPONENT_TEXT_ENCODER_2 },
    { "", COMPONENT_UNET },
};

/* diffusers before peft had the four products of an attention as parts of its processor. */
static const char *const old_endings[][2] = {
    { "", "" },
    { "_to_out", "_to_out_0" },
    { "_to_q", "_q_proj" },
    { "_to_k", "_k_proj" },
    { "_to_v", "_v_proj" },
    { "_to_out", "_out_proj" },
};

static const struct adapter_module *find_key(const struct adapter_modules *m,
                                             enum component component, const char *key)
{
    const struct adapter_module wanted = { .key = key, .component = component };
    return m->n ? bsearch(&wanted, m->list, m->n, sizeof wanted, by_key) : NULL;
}

static const struct adapter_module *find_spelled(const struct adapter_modules *m,
                                                 enum component component, const char *key)
{
    char other[KEY_BYTES];
    const struct adapter_module *found = NULL;
    size_t n = strlen(key);
    for (size_t i = 0; !found && i < sizeof old_endings / sizeof *old_endings; i++) {
        size_t tail = strlen(old_endings[i][0]);
        if (n < tail || strcmp(key + n - tail, old_endings[i][0]))
            continue;
        if (snprintf(other, sizeof other, "%.*s%s", (int)(n - tail), key, old_endings[i][1]) <
            (int)sizeof other)
            found = find_key(m, component, other);
    }
    return found;
}

const struct adapter_module *adapter_module_find(const struct adapter_modules *m, const char *name,
                                                 size_t n)
{
    static const char processor[] = "_processor_";
    char key[KEY_BYTES];
    const struct adapter_module *found = NULL;
    if (n >= sizeof key)
        return NULL;
    memcpy(key, name, n);
    key[n] = '\0';
    underscored(key);
    char *at = strstr(key, processor);
    if (at)
        memmove(at, at + sizeof processor - 2, strlen(at + sizeof processor - 2) + 1);
    for (size_t i = 0; !found && i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t skip = strlen(prefixes[i].text);
        if (!strncmp(key, prefixes[i].text, skip))
            found = find_spelled(m, prefixes[i].component, key + skip);
    }
    return found;
}
