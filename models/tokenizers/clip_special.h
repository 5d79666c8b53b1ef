/* clip_special.h - which tokens a tokenizer folder adds, and in what order.
 *
 * The files that are read follow transformers 5.23 (from_pretrained of CLIPTokenizer). Added tokens
 * are those of `added_tokens_decoder` in tokenizer_config.json; only without that key do
 * special_tokens_map.json (which then overrides tokenizer_config.json), added_tokens.json and
 * tokenizer.json speak. They are added in the order of their numbers; then the named special
 * tokens, then the extra ones.
 */
#ifndef DR_MODELS_TOKENIZERS_CLIP_SPECIAL_H
#define DR_MODELS_TOKENIZERS_CLIP_SPECIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "models/tokenizers/added.h"

enum special_name {
    SPECIAL_BOS,
    SPECIAL_EOS,
    SPECIAL_UNK,
    SPECIAL_SEP,
    SPECIAL_PAD,
    SPECIAL_CLS,
    SPECIAL_MASK,
    SPECIAL_NAMES
};

enum { SPECIAL_MAX_NAMED = 64 };

/* The folder's files; NULL if absent or not read. */
struct special_files {
    json_t *config;  /* tokenizer_config.json */
    json_t *special; /* special_tokens_map.json */
    json_t *legacy;  /* added_tokens.json */
    json_t *whole;   /* tokenizer.json */
};

/* An added token and the number that orders it. */
struct special_numbered {
    int64_t number;
    struct added_spec spec;
};

/* A special token with a name: "bos_token". */
struct special_named {
    const char *key;
    struct added_spec spec; /* content NULL: none */
    bool known;             /* makes entries of added_tokens.json with its content special */
};

/* Zero to start. Strings are borrowed from the files. */
struct special {
    struct special_numbered *numbered; /* [n_numbered] */
    size_t n_numbered, numbered_cap;
    struct special_named
        named[SPECIAL_MAX_NAMED]; /* the first SPECIAL_NAMES by enum special_name */
    size_t n_named;
    json_t *extra[2];         /* lists of extra special tokens, borrowed; NULL: none */
    json_t *late_extra;       /* one more, which added_tokens.json does not know of */
    struct added_spec *specs; /* [n_specs] all of them, in the order of adding */
    size_t n_specs, specs_cap;
};

/* Fills `s`; bos, eos, unk and pad have a content afterwards. special_free it, on failure too. */
int special_collect(struct special *s, const struct special_files *files, struct dr_error *err);
void special_free(struct special *s);

#endif
