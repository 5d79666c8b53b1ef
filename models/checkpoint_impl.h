/* checkpoint_impl.h - the inside of a checkpoint, for model_loader, its two openers and inspect. */
#ifndef DR_MODELS_CHECKPOINT_IMPL_H
#define DR_MODELS_CHECKPOINT_IMPL_H

#include "base/arena.h"
#include "models/family.h"
#include "models/formats/key_map.h"
#include "models/formats/safetensors.h"
#include "models/formats/tensor_table.h"
#include "models/model_files.h"
#include "models/model_loader.h"

/* Of weights: their number, and the bytes of their headers together. */
enum { CHECKPOINT_FILES = 256, CHECKPOINT_HEADERS = 2 * ST_HEADER_MAX, NAMES_SHOWN = 3 };

/* Names to warn of in one line: the first few, and how many there are. */
struct name_group {
    size_t n;
    const char *first[NAMES_SHOWN]; /* borrowed */
    const char *prefix;             /* shown as PREFIX.NAME; NULL: none */
};

struct checkpoint {
    struct model_files *model;
    const struct family *family;
    const char *path; /* the model's own */
    bool folder;
    struct model_files *own[COMPONENT_COUNT]; /* parts that replace the model's; NULL: none */
    bool
        pipeline[COMPONENT_COUNT]; /* such a part is a folder with model_index.json, which has it */
    const atomic_int *stop;        /* while it is opened; may be NULL */
    struct arena texts;            /* names of tensors, warnings, paths */
    struct safetensors *files[CHECKPOINT_FILES];
    const char *file_names[CHECKPOINT_FILES]; /* relative to path; a single file's own name; of a
                                                 part that replaces another, the whole path */
    enum component file_of[CHECKPOINT_FILES]; /* COMPONENT_COUNT: of all that a file has */
    size_t n_files, header_bytes;
    bool has[COMPONENT_COUNT], loaded[COMPONENT_COUNT];
    struct tensor_table tables[COMPONENT_COUNT];
    struct unet_arch unet;
    struct clip_arch clip[2];
    struct vae_arch vae;
    json_t *scheduler, *trained;
    struct checkpoint_formulation formulation;
    const char *asked_prediction; /* by the spec; NULL: nothing */
    enum model_said asked_zero_snr;
    bool overridden; /* the files say something else than was asked for */
    bool tokenizer[2];
    bool force_zeros;
    struct name_group unused; /* tensors of the part being opened that nothing knows */
    const char **warnings;
    size_t n_warnings, warnings_cap;
};

/* Maps one more file; the checkpoint closes it. name: relative to the folder that it lies in (""
 * where that is a file); component as in file_of. */
int checkpoint_add_file(struct checkpoint *c, enum component component, const char *name,
                        struct safetensors **ret, struct dr_error *err);
/* The files that a component is looked for in, and the folder there: the model's, or the part's
 * that replaces it. COMPONENT_COUNT: the model's. */
struct model_files *checkpoint_files(const struct checkpoint *c, enum component component);
/* Where the architecture of a text encoder is. */
struct clip_arch *checkpoint_clip(struct checkpoint *c, enum component component);
int checkpoint_warn(struct checkpoint *c, const char *fmt, ...) DR_PRINTF(2, 3);

void name_group_add(struct name_group *group, const char *name);
/* One warning about all of the group, none about an empty one: tensors that are not used, keys of
 * `file` that are unknown. */
int checkpoint_warn_unused(struct checkpoint *c, const struct name_group *group,
                           struct dr_error *err);
int checkpoint_warn_keys(struct checkpoint *c, const char *file, const struct name_group *group,
                         struct dr_error *err);

/* The tensor as a source of weights: all of it, or part `part` of `parts` along the first
 * dimension. */
struct weight_source checkpoint_source(const struct safetensors *st, const struct st_tensor *t,
                                       int part, int parts);

/* Puts a tensor of a single file under its canonical name. */
int checkpoint_add_tensor(struct checkpoint *c, const struct safetensors *st,
                          const struct st_tensor *t, struct key_target *target,
                          struct dr_error *err);

/* A component out of a diffusers folder: the model's, or that of the part which replaces it. */
int checkpoint_open_component(struct checkpoint *c, enum component component, struct dr_error *err);
/* Time ids are what the UNet's added conditioning, `added` channels, has beyond the pooled text. */
int checkpoint_split_added(struct checkpoint *c, int64_t added, const char *file,
                           struct dr_error *err);
/* A component from the part that replaces the model's; encoders before the UNet. */
int checkpoint_open_part(struct checkpoint *c, enum component component, struct dr_error *err);

/* They fill everything but the kind-independent checks, which checkpoint_open does after them. */
int checkpoint_open_single(struct checkpoint *c, struct dr_error *err);
int checkpoint_open_folder(struct checkpoint *c, struct dr_error *err);

#endif
