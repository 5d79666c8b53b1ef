/* prompt_processor.h - from the words of a request to what the UNet is conditioned on.
 *
 * Two CLIP encoders read the prompt (the second one its own, if there is one); their hidden states
 * side by side are the text context, the second one's projection is the pooled embedding. Row 0 is
 * the negative prompt when there is guidance, the last row the positive one. Reference: diffusers
 * StableDiffusionXLPipeline.encode_prompt and _get_add_time_ids.
 */
#ifndef DR_CONDITIONING_PROMPT_PROCESSOR_H
#define DR_CONDITIONING_PROMPT_PROCESSOR_H

#include <stdint.h>

#include "backend/backend.h"

struct clip_text;
struct tok;

enum { PROMPT_ENCODERS = 2, PROMPT_ROWS = 2, PROMPT_TIME_IDS = 6 };
enum { PROMPT_WARNINGS = 6, PROMPT_WARNING = 700 };

/* What the encoders and tokenizers are; text[0] and tokens[0] are NULL where a model has the second
 * only. */
struct prompt_encoders {
    struct clip_text *text[PROMPT_ENCODERS];
    const struct tok *tokens[PROMPT_ENCODERS];
    int64_t length; /* tokens of a row, 77 */
};

struct prompt_request {
    const char *prompt, *prompt_2; /* prompt_2 NULL or "": the prompt */
    const char *negative,
        *negative_2;    /* negative NULL: none given; negative_2 NULL or "": the negative */
    bool guidance;      /* there is a negative row */
    bool zero_negative; /* no negative given means zero embeddings (force_zeros_for_empty_prompt) */
    int clip_skip;      /* of the positive row: hidden_states[-clip_skip] */
    int64_t original_height, original_width, crop_top, crop_left, target_height, target_width;
};

/* All arrays are rows x something, owned. ids of an absent encoder are NULL. */
struct prompt_embeds {
    int rows;
    int64_t length, width, pooled_width;
    int n_time_ids;
    bool zero_negative;            /* row 0 is zeros */
    bool known[PROMPT_ROWS];       /* text and pooled need no encoder: zeros, or found */
    int skip[PROMPT_ROWS];         /* the row's text is hidden_states[-skip] */
    int32_t *ids[PROMPT_ENCODERS]; /* [rows, length] */
    float *text;                   /* [rows, length, width] */
    float *pooled;                 /* [rows, pooled_width] */
    float *time_ids;               /* [rows, n_time_ids] */
    int n_warnings;
    char warning[PROMPT_WARNINGS][PROMPT_WARNING];
};

/* Allocates everything and fills ids and time_ids (an empty text where the negative is zeroed).
 * Warns of prompts that were cut and of syntax of other programs. DR_EINVAL for text that is not
 * UTF-8. prompt_release takes partially initialised ones. */
int prompt_tokenize(const struct prompt_encoders *e, const struct prompt_request *request,
                    struct prompt_embeds *ret, struct dr_error *err);

/* Computes text and pooled of the rows that are not known, from ids. */
int prompt_encode(const struct prompt_encoders *e, struct exec *x, struct prompt_embeds *embeds,
                  struct dr_error *err);

void prompt_release(struct prompt_embeds *embeds);

#endif
