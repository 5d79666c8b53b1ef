/* model_spec.h - where a model is: its own path, and parts that replace its own.
 *
 * People have UNets, text encoders and VAEs as files of their own. A model with such parts is
 * another model: whatever finds, keeps or names a model by its path does it by all of these paths,
 * and its digest is made of the digests of all that was opened.
 */
#ifndef DR_MODELS_MODEL_SPEC_H
#define DR_MODELS_MODEL_SPEC_H

#include "models/component.h"
#include "models/model_files.h"

/* A file or folder, and the folder that none of its files may leave (NULL: anywhere). */
struct model_place {
    const char *path;
    const struct model_root *root;
};

/* Borrowed texts; a part's path is NULL where the model's own is used. */
struct model_spec {
    struct model_place model, part[COMPONENT_COUNT];
    const char
        *prediction; /* what its UNet predicts, whatever the files say; NULL: what they say */
    enum model_said { MODEL_SAYS, MODEL_HAS_NOT, MODEL_HAS } zero_snr; /* the same of that */
};

/* The prediction type of any spelling that programs use ("v", "eps"), as in scheduler_config.json;
 * NULL: unknown. */
const char *model_prediction(const char *text);

#endif
