/* job_variants.c - see job_variants.h. */
#include "inference/job_variants.h"

#include <string.h>

#include "inference/job_loras.h"
#include "models/adapters/variant_cache.h"

static const struct pipeline_network *find_network(const struct pipeline *p, const void *network)
{
    for (int i = 0; i < p->n_networks; i++)
        if (p->networks[i].network == network)
            return &p->networks[i];
    return NULL;
}

/* Counts a set and what the cache lacks, once for all phases and rounds of planning. */
static int count(struct job_walk *k, const struct variant_spec *planned, struct dr_error *err)
{
    struct variant_spec spec = *planned;
    struct variant_facts facts;
    spec.be = k->p->backend;
    int r = weight_variant_check(planned, &facts, err);
    if (r || !facts.layers)
        return r;
    for (int i = 0; i < k->n_variants; i++)
        if (k->variants[i].network == spec.network &&
            !memcmp(k->variants[i].key, facts.key, sizeof facts.key))
            return 0;
    k->variants[k->n_variants].network = spec.network;
    memcpy(k->variants[k->n_variants++].key, facts.key, sizeof facts.key);
    k->variant_use.layers += facts.layers;
    k->variant_use.bytes += facts.bytes;
    if (!variant_cache_has(k->p->variants, &spec, facts.key))
        k->variant_use.missing += facts.bytes;
    return 0;
}

static int open_planned(struct job_walk *k, const struct variant_spec *spec,
                        const struct weight_variant **ret, struct dr_error *err)
{
    struct weight_variant *v = NULL;
    int r = count(k, spec, err);
    if (!r)
        r = weight_variant_open(spec, &v, err);
    *ret = v;
    return r;
}

static int open_real(struct job_walk *k, const struct variant_spec *spec,
                     const struct weight_variant **ret, struct dr_error *err)
{
    struct dr_tally *before = dr_tally_use(&k->p->tally); /* they outlive the job */
    int r = variant_cache_acquire(k->p->variants, spec, ret, err);
    dr_tally_use(before);
    struct dr_error changed;
    if (job_loras_check(k->job, &changed) < 0) {
        /* what was made of a file that changed is wrong, and must not be found again */
        variant_close(k, r ? NULL : *ret);
        variant_cache_trim(k->p->variants);
        *ret = NULL;
        r = changed.code;
        if (err)
            *err = changed;
    }
    return r;
}

int variant_open(struct job_walk *k, const void *network, int evaluation,
                 const struct weight_variant **ret, struct dr_error *err)
{
    const struct pipeline_network *net = find_network(k->p, network);
    struct variant_spec spec;
    *ret = NULL;
    if (!job_loras_count(k->job))
        return 0;
    int r = job_loras_spec(k->job, net, evaluation, k->x.be, k->x.stop, &spec, err);
    if (r)
        return r;
    if (spec.n)
        r = k->planning ? open_planned(k, &spec, ret, err) : open_real(k, &spec, ret, err);
    dr_free((void *)spec.deltas);
    return r;
}

void variant_close(struct job_walk *k, const struct weight_variant *v)
{
    if (k->planning)
        weight_variant_close((struct weight_variant *)v);
    else if (v)
        variant_cache_release(k->p->variants, v);
}

int variant_text_keys(const struct job_walk *k, struct prompt_embeds *m, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < PROMPT_ENCODERS; i++) {
        const struct pipeline_network *net = find_network(k->p, k->p->encoders.encoder[i].text);
        struct variant_spec spec;
        struct variant_facts facts;
        memset(m->variant_key[i], 0, sizeof m->variant_key[i]);
        if (!net || !job_loras_count(k->job))
            continue;
        r = job_loras_spec(k->job, net, 0, k->x.be, k->x.stop, &spec, err);
        if (r)
            break;
        r = weight_variant_check(&spec, &facts, err);
        if (!r && facts.layers)
            memcpy(m->variant_key[i], facts.key, sizeof facts.key);
        dr_free((void *)spec.deltas);
    }
    return r;
}
