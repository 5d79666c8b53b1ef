/* added.h - tokens that are cut out of a text before it is split into words.
 *
 * Rules of tokenizers' AddedVocabulary: tokens that are not "normalized" are matched in the raw
 * text, the others, themselves normalised, in the normalised pieces that remain. Of the matches
 * the leftmost is taken, of those the longest; a token that must be a single word is passed over
 * beside \w; lstrip and rstrip take the white space around a match with it. A token that the
 * vocabulary lacks gets the next free id.
 */
#ifndef DR_MODELS_TOKENIZERS_ADDED_H
#define DR_MODELS_TOKENIZERS_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "models/tokenizers/bpe.h"
#include "models/tokenizers/unicode.h"

enum { ADDED_MAX = 4096 };

/* A token as a file describes it. `plain`: given as a bare string, which the reference never treats
 * as equal to one given with flags. */
struct added_spec {
    const char *content; /* borrowed */
    bool plain;
    bool single_word, lstrip, rstrip, normalized, special;
    bool unsaid; /* `normalized` is absent: true unless special */
};

struct added_token {
    char *content;     /* owned */
    int32_t id, count; /* it stands for ids id, id + 1 ... */
    bool single_word, lstrip, rstrip, normalized;
};

/* Patterns as a tree of bytes: children of a node are a list of siblings. */
struct added_node {
    int32_t child, sibling; /* -1: none */
    int32_t token;          /* index in tokens of the pattern that ends here, -1: none */
    uint8_t byte;
};

struct added_trie {
    struct added_node *nodes; /* [n], node 0 is the root */
    int32_t n, cap;
};

enum added_stage { ADDED_RAW, ADDED_NORMALIZED, ADDED_STAGES };

struct added {
    struct added_token *tokens; /* [n], contents differ */
    int32_t n, cap;
    int32_t max_id; /* -1: none */
    struct added_trie tries[ADDED_STAGES];
};

void added_init(struct added *a);
void added_free(struct added *a); /* leaves it as added_init does */

/* Takes over a whole list, once, in the order of the list. Needs the finished vocabulary. */
int added_fill(struct added *a, const struct bpe *bpe, const struct uni *uni,
               const struct added_spec *specs, size_t n, struct dr_error *err);

/* Words of a text that are tokens too, as of textual inversions. */
struct added_word {
    const char *text; /* borrowed */
    int32_t id, count;
};

/* Those of `base` and the words after them, in *ret, which is as added_init leaves it. A word is
 * matched in normalised text; one that begins or ends with a letter, digit or _ only as a whole
 * word. */
int added_extend(struct added *ret, const struct added *base, const struct uni *uni,
                 const struct added_word *words, size_t n, struct dr_error *err);

/* The id of a token among the added ones, else in the vocabulary; -1 if there is none. */
int32_t added_find(const struct added *a, const struct bpe *bpe, const char *content);

/* A piece of text between tokens, or a token. Non-zero ends the cutting with that value. */
typedef int added_piece_fn(void *ctx, const char *piece, size_t len, struct dr_error *err);
typedef int added_token_fn(void *ctx, int32_t id, struct dr_error *err);

/* Calls back for the pieces and tokens of a text (valid UTF-8) from left to right. */
int added_cut(const struct added *a, enum added_stage stage, const struct uni *uni,
              const char *text, size_t len, added_piece_fn *piece, added_token_fn *token, void *ctx,
              struct dr_error *err);

#endif
