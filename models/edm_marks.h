/* edm_marks.h - how single files say that they are of the EDM formulation (Karras et al. 2022): by
 * tensors that are no parameters. Folders say it in scheduler_config.json and vae/config.json.
 * References: ComfyUI's model detection, diffusers' from_single_file. */
#ifndef DR_MODELS_EDM_MARKS_H
#define DR_MODELS_EDM_MARKS_H

#include "models/checkpoint_impl.h"

struct edm_kind {
    const char *needs, *also; /* tensors */
    const char *scheduler;    /* the scheduler_config.json beside such a model */
    const char *prediction;
};

/* NULL: the file is of another formulation. */
const struct edm_kind *edm_find(const struct st_header *h);
bool edm_is_mark(const struct edm_kind *kind, const char *name);

/* c->scheduler becomes what the marks say. */
int edm_scheduler(struct checkpoint *c, const struct edm_kind *kind, const struct safetensors *st,
                  struct dr_error *err);

/* The statistics of the latents, where the file has them, go into c->vae. */
int edm_latents(struct checkpoint *c, const struct safetensors *st, struct dr_error *err);

#endif
