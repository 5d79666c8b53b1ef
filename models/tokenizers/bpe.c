/* bpe.c - see bpe.h. */
#include "models/tokenizers/bpe.h"

#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

/* Finaliser of SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t hash_text(const struct bpe *b, const char *s, size_t n)
{
    uint64_t h = b->seed;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)s[i]) * 0x100000001b3u;
    return mix(h ^ n);
}

void bpe_init(struct bpe *b)
{
    memset(b, 0, sizeof *b);
    buf_init(&b->text, DR_TAG_TOKENIZER, BPE_MAX_TEXT);
    b->seed = mix((uintptr_t)b); /* differs from run to run: collisions cannot be prepared */
    b->unk = -1;
    memset(b->byte_id, 0xff, sizeof b->byte_id);
}

void bpe_free(struct bpe *b)
{
    buf_free(&b->text);
    dr_free(b->spelled_at);
    dr_free(b->slots);
    dr_free(b->merges);
    bpe_init(b);
}

const char *bpe_spelling(const struct bpe *b, int32_t id)
{
    if (id < 0 || id >= b->id_limit || b->spelled_at[id] == BPE_UNUSED)
        return NULL;
    return b->text.data + b->spelled_at[id];
}

/* The slot that holds the spelling, or the empty one where it belongs. */
static size_t slot_of(const struct bpe *b, const char *s, size_t n)
{
    size_t i = hash_text(b, s, n) & (b->n_slots - 1);
    for (; b->slots[i] >= 0; i = (i + 1) & (b->n_slots - 1)) {
        const char *have = b->text.data + b->spelled_at[b->slots[i]];
        if (!strncmp(have, s, n) && !have[n])
            break;
    }
    return i;
}

int32_t bpe_find(const struct bpe *b, const char *spelling, size_t n)
{
    if (!b->n_tokens || n > BPE_MAX_TOKEN || memchr(spelling, 0, n))
        return -1;
    return b->slots[slot_of(b, spelling, n)];
}

static int grow_slots(struct bpe *b)
{
    size_t n = b->n_slots ? b->n_slots * 2 : 1024;
    int32_t *slots = dr_malloc(DR_TAG_TOKENIZER, n * sizeof *slots);
    if (!slots)
        return DR_ENOMEM;
    memset(slots, 0xff, n * sizeof *slots);
    int32_t *old = b->slots;
    size_t n_old = b->n_slots;
    b->slots = slots;
    b->n_slots = n;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i] >= 0) {
            const char *s = b->text.data + b->spelled_at[old[i]];
            slots[slot_of(b, s, strlen(s))] = old[i];
        }
    }
    dr_free(old);
    return 0;
}

static int grow_ids(struct bpe *b, int64_t id)
{
    size_t cap = b->ids_cap ? b->ids_cap : 1024;
    while (cap <= (size_t)id)
        cap *= 2;
    if (cap == b->ids_cap)
        return 0;
    uint32_t *at = dr_realloc(DR_TAG_TOKENIZER, b->spelled_at, cap * sizeof *at);
    if (!at)
        return DR_ENOMEM;
    memset(at + b->ids_cap, 0xff, (cap - b->ids_cap) * sizeof *at);
    b->spelled_at = at;
    b->ids_cap = cap;
    return 0;
}

int bpe_add_token(struct bpe *b, const char *spelling, size_t n, int64_t id, struct dr_error *err)
{
    if (!n || n > BPE_MAX_TOKEN || memchr(spelling, 0, n))
        return dr_fail(err, DR_EFORMAT, "the token of id %lld has %zu bytes, expected 1 to %d",
                       (long long)id, n, BPE_MAX_TOKEN);
    if (id < 0 || id >= BPE_MAX_IDS)
        return dr_fail(err, DR_EFORMAT, "token '%.*s' has id %lld, expected 0 to %d", (int)n,
                       spelling, (long long)id, BPE_MAX_IDS - 1);
    if (bpe_spelling(b, (int32_t)id))
        return dr_fail(err, DR_EFORMAT, "tokens '%s' and '%.*s' have the same id %lld",
                       bpe_spelling(b, (int32_t)id), (int)n, spelling, (long long)id);
    if (bpe_find(b, spelling, n) >= 0)
        return dr_fail(err, DR_EFORMAT, "token '%.*s' appears twice", (int)n, spelling);
    if ((size_t)b->n_tokens * 2 >= b->n_slots && grow_slots(b))
        return dr_fail(err, DR_ENOMEM, "out of memory for the vocabulary");
    if (grow_ids(b, id))
        return dr_fail(err, DR_ENOMEM, "out of memory for the vocabulary");
    size_t at = b->text.len;
    int r = buf_append(&b->text, spelling, n);
    if (!r)
        r = buf_putc(&b->text, 0);
    if (r)
        return dr_fail(err, r, "out of memory for the vocabulary");
    b->spelled_at[id] = (uint32_t)at;
    b->slots[slot_of(b, spelling, n)] = (int32_t)id;
    b->n_tokens++;
    if (id >= b->id_limit)
        b->id_limit = (int32_t)id + 1;
    return 0;
}

static size_t merge_slot(const struct bpe *b, uint64_t pair)
{
    size_t i = mix(pair ^ b->seed) & (b->n_merge_slots - 1);
    while (b->merges[i].pair != BPE_NO_PAIR && b->merges[i].pair != pair)
        i = (i + 1) & (b->n_merge_slots - 1);
    return i;
}

static int grow_merges(struct bpe *b)
{
    size_t n = b->n_merge_slots ? b->n_merge_slots * 2 : 1024;
    struct bpe_merge *merges = dr_malloc(DR_TAG_TOKENIZER, n * sizeof *merges);
    if (!merges)
        return DR_ENOMEM;
    for (size_t i = 0; i < n; i++)
        merges[i].pair = BPE_NO_PAIR;
    struct bpe_merge *old = b->merges;
    size_t n_old = b->n_merge_slots;
    b->merges = merges;
    b->n_merge_slots = n;
    for (size_t i = 0; i < n_old; i++)
        if (old[i].pair != BPE_NO_PAIR)
            merges[merge_slot(b, old[i].pair)] = old[i];
    dr_free(old);
    return 0;
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

int bpe_add_merge(struct bpe *b, const char *left, size_t n_left, const char *right, size_t n_right,
                  struct dr_error *err)
{
    char joined[2 * BPE_MAX_TOKEN];
    int32_t l = bpe_find(b, left, n_left), r = bpe_find(b, right, n_right);
    if (l < 0 || r < 0) /* not quoted: the file may be anything */
        return dr_fail(err, DR_EFORMAT, "the %s token is not in the vocabulary",
                       l < 0 ? "first" : "second");
    memcpy(joined, left, n_left);
    memcpy(joined + n_left, right, n_right);
    int32_t id = bpe_find(b, joined, n_left + n_right);
    if (id < 0)
        return dr_fail(err, DR_EFORMAT, "merge into '%.*s', which is not in the vocabulary",
                       (int)(n_left + n_right), joined);
    if ((size_t)b->n_merges * 2 >= b->n_merge_slots && grow_merges(b))
        return dr_fail(err, DR_ENOMEM, "out of memory for the merges");
    struct bpe_merge *slot = &b->merges[merge_slot(b, pair_of(l, r))];
    if (slot->pair != BPE_NO_PAIR)
        return dr_fail(err, DR_EFORMAT,
                       "'%.*s' and '%.*s' are merged a second time (first as number %u)",
                       (int)n_left, left, (int)n_right, right, slot->rank + 1);
    *slot = (struct bpe_merge){ pair_of(l, r), b->n_merges++, id };
    return 0;
}

size_t bpe_byte_char(uint8_t byte, char dst[3])
{
    uint32_t scalar = byte;
    if (byte < 33)
        scalar = 256u + byte;
    else if (byte >= 127 && byte <= 160)
        scalar = 256u + 33 + (byte - 127u);
    else if (byte == 173)
        scalar = 256 + 33 + 34;
    char bytes[4];
    size_t n = utf8_encode(scalar, bytes);
    memcpy(dst, bytes, n);
    dst[n] = 0;
    return n;
}

void bpe_finish(struct bpe *b, const char *unk)
{
    for (int byte = 0; byte < 256; byte++) {
        char s[8];
        size_t n = bpe_byte_char((uint8_t)byte, s);
        b->byte_id[0][byte] = bpe_find(b, s, n);
        memcpy(s + n, "</w>", 5);
        b->byte_id[1][byte] = bpe_find(b, s, n + 4);
    }
    b->unk = unk ? bpe_find(b, unk, strlen(unk)) : -1;
}

int bpe_ids_add(struct bpe_ids *ids, int32_t id)
{
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 128;
        int32_t *v = dr_realloc(DR_TAG_TOKENIZER, ids->v, cap * sizeof *v);
        if (!v)
            return DR_ENOMEM;
        ids->v = v;
        ids->cap = cap;
    }
    ids->v[ids->n++] = id;
    return 0;
}

void bpe_scratch_free(struct bpe_scratch *scratch)
{
    dr_free(scratch->symbols);
    dr_free(scratch->heap);
    memset(scratch, 0, sizeof *scratch);
}

static int scratch_reserve(struct bpe_scratch *scratch, size_t n)
{
    if (n <= scratch->cap)
        return 0;
    size_t cap = n < 128 ? 128 : n + n / 2;
    bpe_scratch_free(scratch);
    scratch->symbols = dr_malloc(DR_TAG_TOKENIZER, cap * sizeof *scratch->symbols);
    scratch->heap = dr_malloc(DR_TAG_TOKENIZER, 2 * cap * sizeof *scratch->heap);
    if (!scratch->symbols || !scratch->heap) {
        bpe_scratch_free(scratch);
        return DR_ENOMEM;
    }
    scratch->cap = cap;
    return 0;
}

static void heap_push(struct bpe_scratch *s, struct bpe_candidate c)
{
    size_t i = s->n_heap++;
    for (; i && s->heap[(i - 1) / 2].order > c.order; i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = c;
}

static struct bpe_candidate heap_pop(struct bpe_scratch *s)
{
    struct bpe_candidate top = s->heap[0], last = s->heap[--s->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < s->n_heap; i = child) {
        if (child + 1 < s->n_heap && s->heap[child + 1].order < s->heap[child].order)
            child++;
        if (s->heap[child].order >= last.order)
            break;
        s->heap[i] = s->heap[child];
    }
    s->heap[i] = last;
    return top;
}

/* The merge of the symbol at `left` and the one after it, NULL if there is none. */
static const struct bpe_merge *merge_at(const struct bpe *b, const struct bpe_symbol *symbols,
                                        int32_t left)
{
    if (!b->n_merges || left < 0 || symbols[left].next < 0)
        return NULL;
    uint64_t pair = pair_of(symbols[left].id, symbols[symbols[left].next].id);
    const struct bpe_merge *m = &b->merges[merge_slot(b, pair)];
    return m->pair == pair ? m : NULL;
}

static void consider(const struct bpe *b, struct bpe_scratch *s, int32_t left)
{
    const struct bpe_merge *m = merge_at(b, s->symbols, left);
    if (m)
        heap_push(s, (struct bpe_candidate){ (uint64_t)m->rank << 32 | (uint32_t)left, m->id });
}

/* The heap never holds more than 2n candidates: n - 1 at first, and each of the at most n - 1
 * merges takes one out before it puts two in. */
static void merge_all(const struct bpe *b, struct bpe_scratch *s, size_t n)
{
    s->n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++)
        consider(b, s, (int32_t)i);
    while (s->n_heap) {
        struct bpe_candidate top = heap_pop(s);
        int32_t left = (int32_t)(uint32_t)top.order;
        struct bpe_symbol *symbol = &s->symbols[left];
        const struct bpe_merge *m = symbol->id < 0 ? NULL : merge_at(b, s->symbols, left);
        if (!m || m->id != top.id)
            continue; /* what it was found for has been merged otherwise */
        int32_t gone = symbol->next;
        symbol->id = top.id;
        symbol->next = s->symbols[gone].next;
        s->symbols[gone].id = -1;
        if (symbol->next >= 0)
            s->symbols[symbol->next].prev = left;
        consider(b, s, symbol->prev);
        consider(b, s, left);
    }
}

int bpe_word(const struct bpe *b, const char *word, size_t n, struct bpe_scratch *scratch,
             struct bpe_ids *ids, struct dr_error *err)
{
    if (n > INT32_MAX / 2)
        return dr_fail(err, DR_ELIMIT, "a word of %zu bytes", n);
    if (scratch_reserve(scratch, n))
        return dr_fail(err, DR_ENOMEM, "out of memory to encode a word of %zu bytes", n);
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)word[i];
        bool last = i + 1 == n;
        int32_t id = b->byte_id[last][byte] >= 0 ? b->byte_id[last][byte] : b->unk;
        if (id < 0)
            return dr_fail(err, DR_EFORMAT,
                           "the vocabulary has no token for byte 0x%02x%s and no "
                           "unknown token",
                           byte, last ? " at the end of a word" : "");
        scratch->symbols[i] = (struct bpe_symbol){ id, (int32_t)i - 1, last ? -1 : (int32_t)i + 1 };
    }
    merge_all(b, scratch, n);
    for (int32_t i = 0; i >= 0; i = scratch->symbols[i].next)
        if (bpe_ids_add(ids, scratch->symbols[i].id))
            return dr_fail(err, DR_ENOMEM, "out of memory for the ids");
    return 0;
}
