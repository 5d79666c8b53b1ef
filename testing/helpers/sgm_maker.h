/* sgm_maker.h - single files in the key layout of the public SDXL release, of any shape.
 *
 * Written from that layout, independently of the loader's tables, so that the two check each
 * other. */
#ifndef DR_TESTING_HELPERS_SGM_MAKER_H
#define DR_TESTING_HELPERS_SGM_MAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "testing/helpers/safetensors_writer.h"

enum { SGM_LEVELS = 4, SGM_BLOCKS = 12 };

struct sgm_clip {
    int64_t width, mlp, projection; /* width 0: absent */
    int layers;
};

struct sgm_spec {
    const char *dtype;
    int version; /* of Stable Diffusion: 1, clip_l alone; 2, clip_g alone; 0: SDXL */
    int64_t in_channels;
    int levels;
    int64_t channels[SGM_LEVELS];
    int layers;            /* resnets a level, going down */
    int depth[SGM_BLOCKS]; /* transformer blocks after each resnet, in order of execution */
    int up_depth[SGM_BLOCKS];
    int mid; /* transformer blocks; -1: one resnet alone; -2: no middle */
    int64_t context, added;
    struct sgm_clip clip_l, clip_g;
    int64_t vocab, positions;
    int vae_levels, vae_layers;
    int64_t vae_channels[SGM_LEVELS];
};

extern const struct sgm_spec sgm_base, sgm_inpaint, sgm_refiner, sgm_ssd_1b, sgm_vega,
    sgm_koala_700m, sgm_sd1, sgm_sd2;
extern const struct sgm_spec sgm_tiny; /* two levels, one layer of everything */

void sgm_add(struct st_writer *w, const struct sgm_spec *s);
void sgm_add_unet(struct st_writer *w, const struct sgm_spec *s);
void sgm_add_clips(struct st_writer *w, const struct sgm_spec *s);
void sgm_add_vae(struct st_writer *w, const struct sgm_spec *s);
void sgm_save(const struct sgm_spec *s, bool sparse, const char *path);

#endif
