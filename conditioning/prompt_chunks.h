/* prompt_chunks.h - a text as the tokens that an encoder reads, in chunks of the encoder's length.
 *
 * A chunk is the begin token, the words' tokens, the end token and padding. How a longer text is
 * cut is its language's (prompt_language.h). */
#ifndef DR_CONDITIONING_PROMPT_CHUNKS_H
#define DR_CONDITIONING_PROMPT_CHUNKS_H

#include "conditioning/prompt_language.h"

struct textual_inversions;
struct tok;

struct prompt_reader {
    const struct prompt_language *language;
    bool weights;  /* they count */
    int64_t chunk; /* tokens, begin and end included */
    const struct tok *tokens;
    /* Words of several tokens that stay together; NULL: none. */
    const struct textual_inversions *embeddings;
    int encoder;   /* which of theirs */
    int64_t vocab; /* ids from there on are theirs */
};

struct prompt_chunks {
    int n;
    int32_t *ids;   /* [n, chunk]; owned, as is */
    float *weight;  /* [n, chunk] */
    bool weighted;  /* one of them is not 1 */
    int64_t tokens; /* of the text, before anything is cut */
    bool cut;
};

/* `field` names the text in errors. prompt_chunks_release takes zeros. */
int prompt_chunks_read(const struct prompt_reader *reader, const char *field, const char *text,
                       struct prompt_chunks *ret, struct dr_error *err);
void prompt_chunks_release(struct prompt_chunks *c);

/* The chunk of an empty text, [chunk]. */
void prompt_chunk_empty(const struct prompt_reader *reader, int32_t *ids);

#endif
