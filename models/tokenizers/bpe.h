/* bpe.h - byte-level byte-pair encoding: a vocabulary, ranked merges, and the encoding of one
 * word.
 *
 * Bytes are spelled in vocabularies as the 256 printable characters of GPT-2's table (Radford et
 * al. 2019); the last symbol of a word carries "</w>" (Sennrich et al. 2016). A word's symbols
 * are merged lowest rank first, leftmost first among equals, by a heap of candidate pairs over a
 * linked list: n bytes take O(n log n). The order and the test for stale candidates are those of
 * tokenizers' BPE.
 */
#ifndef DR_MODELS_TOKENIZERS_BPE_H
#define DR_MODELS_TOKENIZERS_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

enum {
    BPE_MAX_IDS = 1 << 20, /* ids are below this */
    BPE_MAX_TOKEN = 1024,  /* bytes of a token's spelling */
    BPE_MAX_TEXT = 64 << 20
};

struct bpe_merge {
    uint64_t pair; /* left id in the high half, right id in the low; BPE_NO_PAIR: slot unused */
    uint32_t rank;
    int32_t id; /* of the joined token */
};

#define BPE_NO_PAIR UINT64_MAX

/* Zeroed by bpe_init; read-only after bpe_finish. */
struct bpe {
    struct buf text;          /* all spellings, each with its NUL */
    uint32_t *spelled_at;     /* [id_limit] place in text, BPE_UNUSED for an id without token */
    int32_t *slots;           /* [n_slots] id or -1, hashed by spelling */
    struct bpe_merge *merges; /* [n_merge_slots], hashed by pair */
    size_t n_slots, n_merge_slots, ids_cap;
    uint64_t seed;
    int32_t n_tokens, id_limit;
    uint32_t n_merges;
    int32_t unk;             /* -1: none */
    int32_t byte_id[2][256]; /* [1]: as the last of a word; -1: not in the vocabulary */
};

#define BPE_UNUSED UINT32_MAX

/* A growing list of ids; zero is empty. dr_free(v). */
struct bpe_ids {
    int32_t *v;
    size_t n, cap;
};

struct bpe_symbol {
    int32_t id; /* -1: joined to the one before it */
    int32_t prev, next;
};

struct bpe_candidate {
    uint64_t order; /* rank in the high half, position of the left symbol in the low */
    int32_t id;
};

/* What encoding a word needs besides the vocabulary; zero to start, kept from word to word. */
struct bpe_scratch {
    struct bpe_symbol *symbols; /* [cap] */
    struct bpe_candidate *heap; /* [2 * cap]: a merge takes one candidate out and puts two in */
    size_t cap, n_heap;
};

void bpe_init(struct bpe *b);
void bpe_free(struct bpe *b); /* leaves it as bpe_init does */

/* DR_EFORMAT for an id out of range or taken, a token given twice, a spelling empty or too long.
 * The text says what was wrong but not where: callers add the file. */
int bpe_add_token(struct bpe *b, const char *spelling, size_t n, int64_t id, struct dr_error *err);

/* The next merge in rank. Both parts and their joined spelling must be tokens; no pair twice. */
int bpe_add_merge(struct bpe *b, const char *left, size_t n_left, const char *right, size_t n_right,
                  struct dr_error *err);

/* Looks up the 256 bytes and `unk` (NULL: none). */
void bpe_finish(struct bpe *b, const char *unk);

/* The id of a token, -1 if there is none; the token of an id, NULL if there is none. */
int32_t bpe_find(const struct bpe *b, const char *spelling, size_t n);
const char *bpe_spelling(const struct bpe *b, int32_t id);

/* GPT-2's character for a byte, as UTF-8 with its NUL; returns its length, 1 or 2. */
size_t bpe_byte_char(uint8_t byte, char dst[3]);

/* Appends the ids of one word of n > 0 bytes. DR_EFORMAT when a byte has no token and there is no
 * unknown token either. */
int bpe_word(const struct bpe *b, const char *word, size_t n, struct bpe_scratch *scratch,
             struct bpe_ids *ids, struct dr_error *err);

int bpe_ids_add(struct bpe_ids *ids, int32_t id) DR_MUST_USE;
void bpe_scratch_free(struct bpe_scratch *scratch);

#endif
