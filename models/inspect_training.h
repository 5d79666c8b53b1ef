/* inspect_training.h - what a file's metadata say about its training; for inspect_model alone. */
#ifndef DR_MODELS_INSPECT_TRAINING_H
#define DR_MODELS_INSPECT_TRAINING_H

#include <jansson.h>

#include "models/formats/safetensors.h"

/* Adds "training" to `o` where there is something to say: what trainers write (ss_*, modelspec.*,
 * ot_*), by one name each:
 *     {"trainer", "title", "author", "base_model", "architecture", "resolution", "rank", "alpha",
 *      "steps", "epochs", "images", "clip_skip", "trigger_phrase", "usage_hint", "license",
 *      "trigger_words": [{"word", "count"}], "notes": ["..."]}
 * All of them are texts but the counts. Metadata are untrusted: texts are cut, a JSON that is too
 * long or something else is a note and never a failure. 0 or DR_ENOMEM. */
int inspect_training(const struct st_header *h, json_t *o);

#endif
