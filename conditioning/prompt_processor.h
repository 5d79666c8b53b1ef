/* prompt_processor.h - from the words of a request to what the UNet is conditioned on.
 *
 * A model's CLIP encoders read the prompt (the second one its own, if there is one); their hidden
 * states side by side are the text context, the projection of one of them, if the model takes one,
 * is the pooled embedding.
 * Row 0 is the negative prompt when there is guidance, the last row the positive one; a language
 * with schedules may make more of both (prompt_script.h). Reference:
 * diffusers StableDiffusionXLPipeline.encode_prompt and _get_add_time_ids,
 * StableDiffusionPipeline.encode_prompt.
 */
#ifndef DR_CONDITIONING_PROMPT_PROCESSOR_H
#define DR_CONDITIONING_PROMPT_PROCESSOR_H

#include <stdint.h>

#include "backend/backend.h"
#include "base/sha256.h"

struct clip_text;
struct tok;
struct weight_variant;

/* Rows are the texts of a job, and the empty one that weights may be measured from. */
enum {
    PROMPT_ENCODERS = 2,
    PROMPT_TEXTS = 64,
    PROMPT_ROWS = PROMPT_TEXTS + 1,
    PROMPT_TIME_IDS = 6
};
enum { PROMPT_WARNINGS = 12, PROMPT_WARNING = 700 };

/* One of a model's text encoders. Its hidden states are columns of the text context. */
struct prompt_encoder {
    struct clip_text *text; /* NULL: the model has none in this place */
    const struct tok *tokens;
    bool pooled;     /* its projection is the pooled embedding */
    int layer;       /* hidden_states[-layer] are wanted, */
    bool final_norm; /* through the final norm */
};

/* In the order of their columns; the second one reads prompt_2. */
struct prompt_encoders {
    struct prompt_encoder encoder[PROMPT_ENCODERS];
    int64_t chunk;  /* tokens that an encoder reads at a time, begin and end included */
    int n_time_ids; /* PROMPT_TIME_IDS, or 0: the model takes none */
};

struct textual_inversions;
struct prompt_language;
struct prompt_script;

/* What weights that scale a hidden state do to the mean of a chunk. */
enum prompt_emphasis {
    PROMPT_EMPHASIS_ORIGINAL, /* it is restored */
    PROMPT_EMPHASIS_NO_NORM,  /* it changes */
    PROMPT_EMPHASIS_IGNORE    /* nothing: weights are read and not used */
};

struct prompt_request {
    const struct prompt_language *language; /* of all texts; NULL: plain words */
    const struct prompt_script *script;     /* theirs, of the whole run; NULL: one phase */
    enum prompt_emphasis emphasis;
    const struct textual_inversions *embeddings; /* words of the texts; NULL: none */
    const char *prompt, *prompt_2;               /* prompt_2 NULL or "": the prompt */
    const char *negative,
        *negative_2;    /* negative NULL: none given; negative_2 NULL or "": the negative */
    bool guidance;      /* there is a negative row */
    bool composed;      /* the prompt has parts, which are measured from the negative row */
    bool zero_negative; /* no negative given means zero embeddings (force_zeros_for_empty_prompt) */
    int clip_skip;  /* of the positive row: hidden_states[-clip_skip]; 0: the encoders' own layer */
    bool skip_both; /* and of the negative row */
    int64_t original_height, original_width, crop_top, crop_left, target_height, target_width;
};

/* All arrays are rows x something, owned. ids of an absent encoder are NULL. */
struct prompt_embeds {
    int rows;
    int negatives;               /* rows of the negative prompt, which come first */
    int chunks[PROMPT_ROWS];     /* encoded one by one, their hidden states follow each other */
    int64_t chunk;               /* tokens of one */
    int64_t tokens[PROMPT_ROWS]; /* of the context: more than the chunks' repeat the last state */
    int64_t length;              /* tokens of the longest row; shorter ones end with zeros */
    int64_t width, pooled_width;
    int n_time_ids;
    bool zero_negative;      /* row 0 is zeros */
    bool known[PROMPT_ROWS]; /* text and pooled need no encoder: zeros, or found */
    int skip[PROMPT_ROWS];   /* hidden_states[-skip] are the row's */
    /* Of the encoders' weights, NULL: the base; needed while they run. The keys tell embeddings
     * of other weights apart, zeros: the base. */
    const struct weight_variant *variant[PROMPT_ENCODERS];
    uint8_t variant_key[PROMPT_ENCODERS][SHA256_BYTES];
    const struct textual_inversions *embeddings; /* the request's */
    int64_t vocab[PROMPT_ENCODERS];              /* ids from there on are words of theirs */
    int32_t *ids[PROMPT_ENCODERS];               /* [rows, length] */
    float *weight[PROMPT_ENCODERS];              /* [rows, length] of the tokens; NULL: all are 1 */
    const struct prompt_language *language;      /* the request's */
    enum prompt_emphasis emphasis;
    bool weighted; /* a weight is not 1 */
    int empty;     /* row of the empty text, which the weights are measured from; -1: none */
    int64_t columns[PROMPT_ENCODERS]; /* of the encoder's states in the context */
    float *text;                      /* [rows, length, width] */
    float *pooled;                    /* [rows, pooled_width] */
    float *time_ids;                  /* [rows, n_time_ids] */
    int n_warnings;
    char warning[PROMPT_WARNINGS][PROMPT_WARNING];
};

/* Allocates everything and fills ids and time_ids (an empty text where the negative is zeroed).
 * Warns of prompts that were cut, of embeddings that no text has, and of syntax of other programs.
 * DR_EINVAL for text that is not UTF-8. prompt_release takes partially initialised ones. */
int prompt_tokenize(const struct prompt_encoders *e, const struct prompt_request *request,
                    struct prompt_embeds *ret, struct dr_error *err);

/* Computes text and pooled of the rows that are not known, from ids. The pooled embedding is that
 * of the first chunk. */
int prompt_encode(const struct prompt_encoders *e, struct exec *x, struct prompt_embeds *embeds,
                  struct dr_error *err);

/* After all rows are known: weights act on the text, and rows are filled to their tokens. */
void prompt_weigh(struct prompt_embeds *embeds);

/* Tokens of a row that encoders read. */
static inline int64_t prompt_read(const struct prompt_embeds *m, int row)
{
    return m->chunks[row] * m->chunk;
}

void prompt_release(struct prompt_embeds *embeds);

#endif
