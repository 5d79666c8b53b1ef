/* family.h - what all models of a family have in common and their files do not say.
 *
 * A family is a value: which parts a checkpoint must have, what each text encoder is for and which
 * of its states is taken, how heads are counted, what is added to the time embedding, constants of
 * single files. Code asks for these, never for a family's name.
 */
#ifndef DR_MODELS_FAMILY_H
#define DR_MODELS_FAMILY_H

#include "models/arch.h"
#include "models/component.h"

enum { FAMILY_ENCODERS = 2 };

struct family_encoder {
    enum component component;
    const char *meaning; /* in errors about single files */
    enum arch_act act;   /* of single files */
    bool pooled;         /* its projection is the pooled embedding */
    int layer;           /* hidden_states[-layer] are columns of the context, */
    bool final_norm;     /* through the final norm */
    int read;            /* of single files: layers that are read where there is one more; 0: all */
    bool pads_zero;      /* of single files: its tokenizer pads with id 0, "!" */
    const char *prefix;  /* of its tensors in single files */
    bool open_clip;      /* where these have OpenCLIP's names, else transformers' */
};

struct family {
    const char *text;     /* "an SDXL checkpoint" */
    const char *ids;      /* names in recipes.def, separated by '|' */
    const char *kind;     /* of a member of no known shape: "sdxl-family" */
    const char *pipeline; /* how the class in model_index.json begins; NULL: of no folder */
    const char *classes;  /* how it ends, separated by '|'; NULL: in any way */
    bool opens;           /* its checkpoints are opened; else they are recognised and refused */
    /* What a checkpoint is that lacks the first encoder; NULL: broken. */
    const struct family *without_first;
    /* What a single file is that says its model predicts noise; NULL: the same. */
    const struct family *epsilon;
    /* Of folders: the families among which the width of the text decides; NULL: none. */
    const struct family *const *by_context;
    int64_t context;    /* that width */
    bool epsilon_mark;  /* a single file of it says that it predicts noise by its training steps */
    const char *unsaid; /* warning where a single file does not say what its model predicts; NULL */
    struct family_encoder encoders[FAMILY_ENCODERS]; /* in the order of their columns */
    int n_encoders;
    bool added; /* pooled text and time ids are added to the time embedding */
    /* Of single files: channels of an attention head; 0: there are `heads` at all levels. */
    int64_t head_width, heads;
    int64_t sample_size;   /* of single files */
    double vae_scale;      /* of single files: the latents' scaling factor */
    bool zero_negative;    /* no negative prompt means zeros, unless a folder says otherwise */
    const char *scheduler; /* how its models were trained, as a scheduler_config.json: for single
                            * files, folders without one, and keys that a file leaves open */
};

/* The last: of diffusers folders, which say in their parts what tells 1.x from 2.x. */
extern const struct family family_sdxl, family_sdxl_refiner, family_sd1, family_sd2,
    family_sd_folder;

/* The family of a folder whose model_index.json names that class; NULL: none. */
const struct family *family_of_pipeline(const char *class_name);

/* Of a folder's family, the one whose text is so wide; itself where none is. */
const struct family *family_of_context(const struct family *f, int64_t context);

/* The member of the family that has, or lacks, the first encoder. */
static inline const struct family *family_member(const struct family *f, bool has_first)
{
    return has_first || !f->without_first ? f : f->without_first;
}

/* The encoder whose projection is the pooled embedding; NULL: none is. */
const struct family_encoder *family_pooled(const struct family *f);
/* The family's encoder in that place; NULL: it has none there. */
const struct family_encoder *family_encoder(const struct family *f, enum component component);

#endif
