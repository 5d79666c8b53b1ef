/* key_names.h - from canonical names to those of a single file: key_map.h the other way, by the
 * same tables. */
#ifndef DR_MODELS_FORMATS_KEY_NAMES_H
#define DR_MODELS_FORMATS_KEY_NAMES_H

#include <stdbool.h>

#include "models/arch.h"
#include "models/params.h"

/* How a component's tensors are called there, behind its prefix. */
enum key_form { KEY_FORM_UNET, KEY_FORM_OPEN_CLIP, KEY_FORM_VAE };

struct key_source {
    char name[PARAM_NAME];
    int part;       /* of a matrix that stacks q, k and v: which; -1: no such matrix */
    bool transpose; /* it lies as [in, out] */
};

/* What numbers depend on. */
struct key_numbering {
    const struct unet_arch *unet; /* for KEY_FORM_UNET */
    int vae_levels;               /* for KEY_FORM_VAE */
};

/* false: there is no such tensor in single files. */
bool key_name(enum key_form form, const struct key_numbering *n, const char *canonical,
              struct key_source *ret);

#endif
