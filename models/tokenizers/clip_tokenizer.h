/* clip_tokenizer.h - text to token ids, exactly as transformers' CLIPTokenizer gives them.
 *
 * The reference is transformers 5.23 CLIPTokenizer (backed by tokenizers 0.23): added tokens are
 * cut out of the raw text, the rest is composed (NFC), white space collapsed, lower-cased, split
 * into words and encoded by byte-level BPE with "</w>" at word ends (Sennrich et al. 2016; Radford
 * et al. 2021). SDXL's second tokenizer pads with "!", which makes "!" an added token: every "!" of
 * a prompt is then id 0.
 *
 *     struct tok *tok;
 *     bool cut;
 *     int32_t ids[77];
 *     if ((r = tok_open_files(model, "tokenizer", NULL, &tok, err)))
 *         return r;
 *     r = tok_encode_padded(tok, text, strlen(text), 77, ids, &cut, NULL, err);
 *     tok_free(tok);
 *
 * A tokenizer is read-only once open: any number of threads may encode with it at once.
 */
#ifndef DR_MODELS_TOKENIZERS_CLIP_TOKENIZER_H
#define DR_MODELS_TOKENIZERS_CLIP_TOKENIZER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

enum { TOK_CLIP_LENGTH = 77 }; /* what CLIP's encoders read at a time, begin and end included */

struct tok;

/* Facts about an open tokenizer. */
struct tok_info {
    int32_t vocab_size; /* entries of the BPE vocabulary, without tokens added beyond it */
    int32_t id_limit;   /* one above the largest id that encoding can give */
    int32_t bos, eos;   /* around every padded text */
    int32_t pad;        /* after it; need not differ from eos */
    int32_t unk;        /* for bytes that the vocabulary lacks */
    int64_t max_length; /* model_max_length: 77, unless the folder says another value */
};

/* The built-in CLIP table; SDXL's two tokenizers are the same table with another pad token. */
enum tok_builtin {
    TOK_CLIP_L,    /* pad "<|endoftext|>" */
    TOK_CLIP_BIGG, /* pad "!" (id 0) */
    TOK_BUILTIN_COUNT
};

struct model_files;

/* A folder of the diffusers layout: tokenizer.json, or vocab.json and merges.txt; and when present
 * tokenizer_config.json, special_tokens_map.json, added_tokens.json. Errors name the file, and the
 * entry or line. Takes tens of milliseconds and some 5 MB for CLIP's table. `folder` is relative to
 * the model's; *stop (may be NULL) nonzero ends it with DR_ECANCELED. tok_free the result. */
int tok_open_files(struct model_files *model, const char *folder, const atomic_int *stop,
                   struct tok **ret_tok, struct dr_error *err);
/* Makes all files that a tokenizer may consist of part of the model's list, there or not. */
int tok_find_files(struct model_files *model, const char *folder, struct dr_error *err);

/* From share/tokenizers/clip/. */
int tok_open_builtin(enum tok_builtin which, struct tok **ret_tok, struct dr_error *err);
/* The built-in table as a folder has it: vocab.json and merges.txt. The caller frees them in any
 * case. */
int tok_builtin_texts(struct buf *ret_vocab, struct buf *ret_merges, struct dr_error *err);
/* Whether both give every text the same ids, padding included. */
bool tok_same(const struct tok *a, const struct tok *b);

void tok_free(struct tok *tok);

struct added_word;

/* `base`, which must outlive it, with words that are tokens of their own (added.h). */
int tok_extend(const struct tok *base, const struct added_word *words, size_t n,
               struct tok **ret_tok, struct dr_error *err);
/* A word as texts are compared: composed, lower-case, white space collapsed. DR_EINVAL for what is
 * not UTF-8. */
int tok_normal_form(const struct tok *tok, const char *word, struct buf *dst, struct dr_error *err);

struct tok_info tok_info(const struct tok *tok);

/* Ids of `text` (len bytes of UTF-8, NULs allowed) without bos and eos, uncut. *ret_ids (dr_free
 * it; never NULL) holds *ret_n ids. Time grows as len times its logarithm, memory as len, which the
 * caller bounds. DR_EINVAL with the byte offset for invalid UTF-8, DR_ELIMIT above 16 MiB. */
int tok_encode(const struct tok *tok, const char *text, size_t len, int32_t **ret_ids,
               int64_t *ret_n, struct dr_error *err);

/* bos, ids, eos, then pad up to `length` (at least 2) entries of `ids`. What does not fit is
 * dropped from the end, eos stays; *ret_cut (may be NULL) tells that it happened, and *ret_n (may
 * be NULL) how many ids the text has uncut. `ids` is not written on failure. */
int tok_encode_padded(const struct tok *tok, const char *text, size_t len, int64_t length,
                      int32_t *ids, bool *ret_cut, int64_t *ret_n, struct dr_error *err);

#endif
