/* prompt_cache.h - embeddings of texts that were encoded before.
 *
 * What the encoders give is fixed, to the bit, by their weights, the ids that they read and the
 * layer that is taken; so a prompt that comes again needs no encoder. A cache belongs to the
 * encoders of one model on one backend. It holds what fits in PROMPT_CACHE_BYTES, 64 texts at most,
 * of any number of chunks; those not asked for longest go first.
 */
#ifndef DR_CONDITIONING_PROMPT_CACHE_H
#define DR_CONDITIONING_PROMPT_CACHE_H

#include "base/sha256.h"
#include "conditioning/prompt_processor.h"

enum { PROMPT_CACHE_ENTRIES = 64, PROMPT_CACHE_BYTES = 48 << 20 };

struct prompt_entry {
    uint64_t used; /* by which call, counted */
    float *pooled; /* and all else, in one block: [pooled_width], text [length, width], ids */
    float *text;
    int32_t *ids;   /* [PROMPT_ENCODERS, length], zeros for an encoder that is absent */
    int64_t length; /* tokens */
    size_t bytes;
    int skip;
    uint8_t variant_key[PROMPT_ENCODERS][SHA256_BYTES]; /* of the encoders' weights */
    uint8_t embeddings[SHA256_BYTES]; /* identity of those that the text uses; zeros: none */
};

/* Zero-initialise. */
struct prompt_cache {
    struct prompt_entry entry[PROMPT_CACHE_ENTRIES];
    int n;
    size_t bytes; /* of all entries */
    uint64_t calls;
};

void prompt_cache_release(struct prompt_cache *c);

/* Rows that are there become known. */
void prompt_cache_find(struct prompt_cache *c, struct prompt_embeds *m);
/* Keeps all rows whose embeddings were computed; those for which there is no memory are not kept,
 * and that is no error. */
void prompt_cache_keep(struct prompt_cache *c, const struct prompt_embeds *m);
/* By how much prompt_cache_keep will raise the cache's bytes at most, on the way or in the end, for
 * m as it is before it is encoded. */
size_t prompt_cache_growth(const struct prompt_cache *c, const struct prompt_embeds *m);

#endif
