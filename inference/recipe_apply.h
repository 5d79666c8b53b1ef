/* recipe_apply.h - what `recipe` of a request stands for: values for the fields that the request
 * leaves open (core/communication/recipe.h). */
#ifndef DR_INFERENCE_RECIPE_APPLY_H
#define DR_INFERENCE_RECIPE_APPLY_H

#include "core/communication/request.h"

struct job;
struct pipeline;

/* Sets them; does nothing without a recipe. What the request says wins, and what goes with it is
 * left to it: with its own number of steps or schedule the recipe's list of timesteps does not
 * apply, with another sampler nothing that this sampler cannot be given. DR_EINVAL for an unknown
 * name. */
int recipe_apply(struct request *q, struct dr_error *err);

/* DR_EINVAL of field "recipe" where the model cannot be one that the recipe is for: it is of
 * another family, or predicts something else; or where the recipe is for a UNet and none is
 * given. */
int recipe_check(const struct request *q, const struct pipeline *p, const struct job *job,
                 struct dr_error *err);

#endif
