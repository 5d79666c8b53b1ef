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

/* Takes it out of the list and gives back its variant. */
static struct weight_variant *detach(struct variant_entry **at)
{
    struct variant_entry *e = unlink_entry(at);
    struct weight_variant *v = e->variant;
    dr_free(e);
    return v;
}

static void drop(struct variant_entry **at)
{
    weight_variant_close(detach(at));
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

/* The least recently used that is not in use, if one must go so that `more` bytes fit too. */
static struct variant_entry **superfluous(struct variant_cache *c, size_t more)
{
    struct variant_entry **idle = NULL;
    size_t sum = more;
    for (struct variant_entry **at = &c->first; *at; at = &(*at)->next) {
        sum += weight_variant_facts((*at)->variant)->bytes;
        if (!(*at)->users)
            idle = at;
    }
    return sum > c->budget ? idle : NULL;
}

/* Drops what must go, but for the largest, which is returned; NULL: nothing. */
static struct weight_variant *make_room(struct variant_cache *c, size_t more)
{
    struct weight_variant *largest = NULL;
    for (struct variant_entry **at; (at = superfluous(c, more));) {
        struct weight_variant *v = detach(at);
        bool larger = !largest ||
                      weight_variant_facts(v)->bytes > weight_variant_facts(largest)->bytes;
        weight_variant_close(larger ? largest : v);
        largest = larger ? v : largest;
    }
    return largest;
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
    int r = weight_variant_open_over(spec, make_room(c, bytes), &e->variant, err);
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
    weight_variant_close(make_room(c, 0));
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
