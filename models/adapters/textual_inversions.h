/* textual_inversions.h - the textual inversions of a job: words for a model's prompts.
 *
 * A word is matched in a text as an added token (models/tokenizers/added.h) and becomes as many
 * tokens as it has vectors. Their ids follow the encoder's vocabulary, one range for each word, so
 * that nothing of the model changes: tokens and vectors are the set's own. This is what diffusers'
 * load_textual_inversion does with its tokens NAME, NAME_1, NAME_2 ..., except that a name which
 * begins or ends with a letter or digit is found as a whole word only: "cat" not in "concatenate".
 *
 *     r = textual_inversions_add(&set, fd, path, NULL, err);          NULL: named by the file
 *     r = textual_inversions_fit(&set, encoders, warning, ctx, err);  once, after the last one
 *     set.tokens[0], set.words[0]: of the first text encoder
 */
#ifndef DR_MODELS_ADAPTERS_TEXTUAL_INVERSIONS_H
#define DR_MODELS_ADAPTERS_TEXTUAL_INVERSIONS_H

#include "models/adapters/inversion_file.h"
#include "models/clip_text.h"

enum { INVERSIONS_MAX = 64, INVERSION_ENCODERS = 2, INVERSION_NAMES = 2 };

struct tok;

struct textual_inversion {
    struct inversion_file file;
    bool named; /* by the request */
    int n_names;
    char *name[INVERSION_NAMES];       /* as given, or the file's stem and its "<token>" */
    int64_t first[INVERSION_ENCODERS]; /* its vectors in the encoder's words: the first, and */
    int64_t count[INVERSION_ENCODERS]; /* how many; 0: it is not for this encoder */
};

struct textual_inversions {
    struct textual_inversion item[INVERSIONS_MAX];
    int n;
    struct tok *tokens[INVERSION_ENCODERS]; /* the model's with the words; NULL: no encoder */
    struct clip_words words[INVERSION_ENCODERS];
    uint8_t identity[SHA256_BYTES]; /* of all files in their order */
};

/* A text encoder of the model; tokens NULL: the model has none in this place. */
struct inversion_encoder {
    const struct tok *tokens; /* outlives the set */
    int64_t vocab, width;
};

/* Zero-initialise. */
void textual_inversions_release(struct textual_inversions *s);

/* Reads a file of at most `most` vectors. `path` names it; `name` is its word in prompts, NULL: the
 * path's last part without extension. `fd` stays the caller's. */
int textual_inversions_add(struct textual_inversions *s, int fd, const char *path, const char *name,
                           int64_t most, struct dr_error *err);

/* Decides which encoder each is for and gives out ids. DR_EINVAL, naming the file: vectors of
 * another width, a name that two have or that is a special token. Warns of a name that is an
 * ordinary word and of an encoder that does not get the word. */
int textual_inversions_fit(struct textual_inversions *s,
                           const struct inversion_encoder encoders[INVERSION_ENCODERS],
                           void (*warning)(void *ctx, const char *text), void *ctx,
                           struct dr_error *err);

/* Whether one of n ids of an encoder's text is of item i. */
bool textual_inversions_used(const struct textual_inversions *s, int i, int encoder, int64_t vocab,
                             const int32_t *ids, int64_t n);

#endif
