/* variant_cache.h - the variants of a model's networks that are in use, and those used last.
 *
 * Jobs that ask for the same set of adapters share a variant, and one that alternates between sets
 * finds them again. Variants in use stay; of the others, the most recently used are kept as far as
 * they fit into the budget together with those in use. For one thread at a time, as the networks
 * are.
 *
 *     r = variant_cache_acquire(c, &spec, &x.variant, err);
 *     ...
 *     variant_cache_release(c, x.variant);
 */
#ifndef DR_MODELS_ADAPTERS_VARIANT_CACHE_H
#define DR_MODELS_ADAPTERS_VARIANT_CACHE_H

#include "models/adapters/weight_variant.h"

struct variant_cache;

/* budget: bytes of private memory, 0: nothing is kept that is not in use. */
int variant_cache_new(size_t budget, struct variant_cache **ret, struct dr_error *err);
/* All that was acquired has been released. Before the networks and backends are closed. */
void variant_cache_free(struct variant_cache *c);

/* *ret is NULL when the set changes nothing. Room is made before a new variant is; errors are those
 * of weight_variant_open, and a failure keeps what is in use. */
int variant_cache_acquire(struct variant_cache *c, const struct variant_spec *spec,
                          const struct weight_variant **ret, struct dr_error *err);
void variant_cache_release(struct variant_cache *c, const struct weight_variant *v);

/* Whether the set of that key is there for the spec's network and backend. */
bool variant_cache_has(struct variant_cache *c, const struct variant_spec *spec,
                       const uint8_t key[SHA256_BYTES]);
/* Closes those that are not in use; whether there were any. */
bool variant_cache_trim(struct variant_cache *c);

#endif
