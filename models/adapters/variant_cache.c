/* variant_cache.c - see variant_cache.h. */
#include "models/adapters/variant_cache.h"

#include <string.h>

struct variant_entry {
    struct variant_entry *next; /* the most recently used first */
    struct weight_variant *variant;
    const void *network;
    const struct backend *be;
    uint64_t users;
};

struct variant_cache {
    size_t budget;
    struct variant_entry *first;
};

int variant_cache_new(size_t budget, struct variant_cache **ret, struct dr_error *err)
{
    struct variant_cache *c = dr_calloc(DR_TAG_MODEL, 1, sizeof *c);
    if (!c)
        return dr_fail(err, DR_ENOMEM, "out of memory for a list of variants");
    c->budget = budget;
    *ret = c;
    return 0;
}

/* Takes it out of the list. */
static struct variant_entry *unlink_entry(struct variant_entry **at)
{
    struct variant_entry *e = *at;
    *at = e->next;
    return e;
}

static void drop(struct variant_entry **at)
{
    struct variant_entry *e = unlink_entry(at);
    weight_variant_close(e->variant);
    dr_free(e);
}

void variant_cache_free(struct variant_cache *c)
{
    if (!c)
        return;
    while (c->first)
        drop(&c->first);
    dr_free(c);
}

static void put_first(struct variant_cache *c, struct variant_entry *e)
{
    e->next = c->first;
    c->first = e;
}

/* Drops the least recently used that are not in use until `more` bytes fit too, or none is left. */
static void make_room(struct variant_cache *c, size_t more)
{
    for (;;) {
        struct variant_entry **idle = NULL;
        size_t sum = more;
        for (struct variant_entry **at = &c->first; *at; at = &(*at)->next) {
            sum += weight_variant_facts((*at)->variant)->bytes;
            if (!(*at)->users)
                idle = at;
        }
        if (!idle || sum <= c->budget)
            return;
        drop(idle);
    }
}

static struct variant_entry **find(struct variant_cache *c, const struct variant_spec *spec,
                                   const uint8_t key[SHA256_BYTES])
{
    for (struct variant_entry **at = &c->first; *at; at = &(*at)->next)
        if ((*at)->network == spec->network && (*at)->be == spec->be &&
            !memcmp(weight_variant_facts((*at)->variant)->key, key, SHA256_BYTES))
            return at;
    return NULL;
}

static int open_entry(struct variant_cache *c, const struct variant_spec *spec, size_t bytes,
                      struct dr_error *err)
{
    struct variant_entry *e = dr_calloc(DR_TAG_MODEL, 1, sizeof *e);
    if (!e)
        return dr_fail(err, DR_ENOMEM, "out of memory for a variant of the weights");
    make_room(c, bytes);
    int r = weight_variant_open(spec, &e->variant, err);
    if (r) {
        dr_free(e);
        return r;
    }
    e->network = spec->network;
    e->be = spec->be;
    put_first(c, e);
    return 0;
}

int variant_cache_acquire(struct variant_cache *c, const struct variant_spec *spec,
                          const struct weight_variant **ret, struct dr_error *err)
{
    struct variant_facts facts;
    int r = weight_variant_check(spec, &facts, err);
    if (r)
        return r;
    *ret = NULL;
    if (!facts.layers)
        return 0;
    struct variant_entry **at = find(c, spec, facts.key);
    if (at)
        put_first(c, unlink_entry(at));
    else
        r = open_entry(c, spec, facts.bytes, err);
    if (r)
        return r;
    c->first->users++;
    *ret = c->first->variant;
    return 0;
}

void variant_cache_release(struct variant_cache *c, const struct weight_variant *v)
{
    for (struct variant_entry *e = c->first; e; e = e->next)
        if (v && e->variant == v)
            e->users--;
    make_room(c, 0);
}

bool variant_cache_has(struct variant_cache *c, const struct variant_spec *spec,
                       const uint8_t key[SHA256_BYTES])
{
    return find(c, spec, key) != NULL;
}

bool variant_cache_trim(struct variant_cache *c)
{
    bool any = false;
    for (struct variant_entry **at = &c->first; *at;) {
        if ((*at)->users) {
            at = &(*at)->next;
            continue;
        }
        drop(at);
        any = true;
    }
    return any;
}
