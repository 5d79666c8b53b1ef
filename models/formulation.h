/* formulation.h - what a model's files say of how it was trained, as a scheduler configuration.
 *
 * A model that predicts v and is sampled as if it predicted noise gives noise, so every mark
 * counts: tensors without meaning of their own, entries of the safetensors header,
 * scheduler_config.json, the configuration that AUTOMATIC1111 reads beside a file (NAME.yaml). Two
 * that contradict each other are an error that names both unless the request decides; one that asks
 * for what Darkroom does not draw is refused. Marks: ComfyUI's model detection; the ModelSpec
 * standard; kohya's sd-scripts; AUTOMATIC1111's sd_models_config.
 */
#ifndef DR_MODELS_FORMULATION_H
#define DR_MODELS_FORMULATION_H

#include "models/checkpoint_impl.h"

/* Of a checkpoint in one file: c->scheduler says what the file's marks say, NULL without any;
 * c->family becomes the member that they fit. This and the next set c->trained. */
int formulation_of_file(struct checkpoint *c, const struct safetensors *st, struct dr_error *err);

/* Of a folder, once its files are open and c->scheduler is read: the class is the one that
 * model_index.json names, as in the reference; headers of the UNet must not contradict. */
int formulation_of_folder(struct checkpoint *c, const json_t *index, struct dr_error *err);

/* Of a UNet that replaces the model's own, once the model's formulation is known: where the UNet's
 * files say what it predicts, they say all; else the model's holds, with a warning unless it is
 * epsilon. */
int formulation_of_unet(struct checkpoint *c, struct dr_error *err);

#endif
