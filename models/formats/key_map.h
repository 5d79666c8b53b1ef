/* key_map.h - from the names in files to the canonical names that the networks ask for.
 *
 * Two layouts: single files with the keys of the generative-models ("sgm") code, in which a UNet is
 * a numbered list of blocks and OpenCLIP stacks queries, keys and values in one matrix; and
 * diffusers folders, where only old spellings have to be renamed. The knowledge is in tables of
 * patterns (key_map.c); code only matches. Reference: the tensors of the public sd_xl_base_1.0 and
 * sd_xl_refiner_1.0 single files against those of the diffusers folders of the same models.
 */
#ifndef DR_MODELS_FORMATS_KEY_MAP_H
#define DR_MODELS_FORMATS_KEY_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "models/component.h"
#include "models/formats/safetensors.h"
#include "models/params.h"

enum { KEY_BLOCKS = 64 };

/* A weight of dtype I8, and perhaps one of another type, has a companion, "X.weight_scale" (or
 * "X.scale_weight") beside "X.weight": one scale, or one for each output. Both layouts spell it so,
 * around their own X. */

/* Where numbered blocks belong: what cannot be seen from one key alone. */
struct key_blocks {
    struct {
        int8_t level, place; /* level: in order of execution */
    } input[KEY_BLOCKS], output[KEY_BLOCKS];
    int vae_levels;
};

/* What a tensor is. parts 3: it stacks q, k and v along the first dimension, and name has '?' in
 * place of that letter. */
struct key_target {
    enum component component;
    char name[PARAM_NAME];
    int parts;
    bool transpose;
};

enum key_answer {
    KEY_UNKNOWN,
    KEY_IGNORED, /* no parameter: a buffer or a constant of training code */
    KEY_KNOWN,
};

/* Looks at all names of a single file. */
void key_blocks_scan(const struct st_header *h, struct key_blocks *ret);

/* How a file holds one component, alone or within a whole checkpoint: sgm names or those of
 * diffusers and transformers, with and without the prefix of a checkpoint. */
struct key_layout;
/* NULL: the file has no such component. */
const struct key_layout *key_layout_find(const struct st_header *h, enum component component);
void key_layout_scan(const struct key_layout *l, const struct st_header *h, struct key_blocks *ret);
/* A tensor of such a file; those of other components are KEY_IGNORED. */
enum key_answer key_map_part(const struct key_layout *l, const struct key_blocks *b,
                             const char *key, struct key_target *ret);

enum key_answer key_map_single(const struct key_blocks *b, const char *key, struct key_target *ret);
/* A tensor of a component's own file. */
enum key_answer key_map_folder(enum component component, const char *key, struct key_target *ret);

#endif
