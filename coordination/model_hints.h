/* model_hints.h - settings that go with a model, in a file beside it.
 *
 *     # sd_xl_turbo.darkroom.yaml, beside sd_xl_turbo.safetensors
 *     size: 512x512
 *     steps: 4
 *     cfg: 1
 *     sampler: euler_a
 *     spacing: trailing
 *
 * One "key: value" a line, comments from '#' on; a value may be in quotes. They fill what a request
 * leaves open. Settings that belong together stand or fall together: where a request has a sampler,
 * the file's schedule, spacing and eta are not taken, where it has a recipe, none of these, steps
 * or cfg; where it has a width or height, not the size. A receipt that is sent back says everything
 * itself: nothing is taken.
 */
#ifndef DR_COORDINATION_MODEL_HINTS_H
#define DR_COORDINATION_MODEL_HINTS_H

#include "coordination/engine.h"
#include "core/communication/request.h"

/* Fills q. No such file: nothing. An unknown key or a bad value is DR_EINVAL with file and line. */
int model_hints_apply(const struct engine_model *model, struct request *q, struct dr_error *err);

/* Adds "hints", an object of the file's settings, and "hints_from", its path, to what is said of a
 * model that has such a file. */
int model_hints_describe(const struct engine_model *model, json_t *o, struct dr_error *err);

#endif
