/* clip_internal.h - the inside of struct tok, shared by the files that build one. */
#ifndef DR_MODELS_TOKENIZERS_CLIP_INTERNAL_H
#define DR_MODELS_TOKENIZERS_CLIP_INTERNAL_H

#include "models/tokenizers/added.h"
#include "models/tokenizers/bpe.h"
#include "models/tokenizers/clip_tokenizer.h"
#include "models/tokenizers/unicode.h"

enum { TOK_MAX_TEXT = 16 << 20 };

struct tok {
    const struct tok *base; /* uni and bpe are its own; NULL: this one's */
    struct uni *uni;
    struct bpe bpe;
    struct added added;
    struct tok_info info;
};

/* An empty tokenizer with its Unicode table; tok_free it. */
int tok_new(struct tok **ret_tok, struct dr_error *err);

/* The last step of building, when the vocabulary is filled: names the special tokens and takes the
 * added ones. */
int tok_complete(struct tok *tok, const char *bos, const char *eos, const char *unk,
                 const char *pad, const struct added_spec *specs, size_t n, struct dr_error *err);

/* The lines "LEFT RIGHT" of a merges.txt; lines that start with "#version" are passed over. `what`
 * names the text in errors, which give the line. */
int tok_parse_merges(struct tok *tok, const char *text, size_t n, const char *what,
                     struct dr_error *err);

#endif
