/* lora_survey.h - which models an adapter's file was made for, when no model is there.
 *
 * The file is read for each family of models that adapters are made for, as lora_file.h reads it
 * for a model, and its changes are compared with the shapes of that family's networks. What fits
 * best is the answer; where no shape fits, the names alone still say which layers are meant.
 */
#ifndef DR_MODELS_ADAPTERS_LORA_SURVEY_H
#define DR_MODELS_ADAPTERS_LORA_SURVEY_H

#include "models/adapters/lora_file.h"

enum { SURVEY_FAMILIES = 4 };

struct lora_survey {
    struct lora_file *file; /* as the best family reads it; NULL: none can read it */
    size_t changes;         /* of the file, for that family */
    struct {
        const char *name; /* "SDXL" */
        size_t fits;      /* changes of the right shape */
    } family[SURVEY_FAMILIES];
    int best;          /* -1: no shape fits a family */
    char problem[400]; /* why a picture with it would be refused; "": nothing is known */
};

/* `values`: all numbers are looked at, too. A file that is broken as an adapter is a problem and no
 * failure; DR_ENOMEM, DR_ECANCELED and what keeps the file from being opened are. */
int lora_survey_open(const struct model_root *root, const char *path, bool values,
                     const atomic_int *stop, struct lora_survey *ret, struct dr_error *err);
void lora_survey_close(struct lora_survey *s);

/* The UNet of the best family; NULL: there is none. Whether it has one text encoder alone. */
const struct unet_arch *lora_survey_unet(const struct lora_survey *s, bool *ret_one_encoder);

/* Of a change: the rank of its product, 0 where it has none. */
int64_t lora_survey_rank(const struct weight_delta *d);
/* "LoRA", "LoCon (Tucker)", "DoRA": what people call the kind of change. */
const char *lora_survey_kind(const struct weight_delta *d);

#endif
