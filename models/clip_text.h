/* clip_text.h - CLIP text encoders (CLIP-L and OpenCLIP bigG are values of clip_arch).
 * Reference: transformers CLIPTextModel, CLIPTextModelWithProjection. */
#ifndef DR_MODELS_CLIP_TEXT_H
#define DR_MODELS_CLIP_TEXT_H

#include "models/arch.h"
#include "models/params.h"

struct clip_text;

int clip_text_new(const struct clip_arch *arch, struct clip_text **ret, struct dr_error *err);
void clip_text_free(struct clip_text *t);
int clip_text_visit(void *clip_text, const struct visitor *v);
const struct clip_arch *clip_text_arch(const struct clip_text *t);

/* Which hidden state is wanted: the output of the layer `skip` from the end as transformers counts
 * hidden_states[-skip] (1 = last layer, before the final norm; 2 = penultimate ...), through the
 * final norm or not. */
struct clip_state {
    int skip;
    bool final_norm;
};

/* Vectors for ids from the vocabulary's end on, in the place of the table's rows: words that a
 * model learned later (textual inversion, Gal et al. 2022). */
struct clip_words {
    const float *vectors; /* [n, width] */
    int64_t n;
};

/* ids [n, tokens] -> hidden [n, tokens, width]; and, where the encoder has a projection and
 * ret_pooled is not NULL, pooled [n, projection] of the final-normed last state at the end token.
 * DR_EINVAL for an id outside the vocabulary or skip outside 1 .. layers. Under the plan backend
 * ids may be NULL. */
int clip_text_encode(struct clip_text *t, struct exec *x, const int32_t *ids, int64_t n,
                     int64_t tokens, struct clip_state wanted, float *ret_hidden, float *ret_pooled,
                     struct dr_error *err);

/* The same with more words; NULL: none. */
int clip_text_encode_words(struct clip_text *t, struct exec *x, const int32_t *ids, int64_t n,
                           int64_t tokens, const struct clip_words *words, struct clip_state wanted,
                           float *ret_hidden, float *ret_pooled, struct dr_error *err);

#endif
