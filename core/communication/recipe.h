/* recipe.h - how to draw with models that were distilled to few steps: recipes.def as data. */
#ifndef DR_CORE_COMMUNICATION_RECIPE_H
#define DR_CORE_COMMUNICATION_RECIPE_H

#include "core/communication/request.h"

/* Texts as recipes.def has them. */
struct recipe {
    const char *name; /* "lightning-4" */
    const char *title, *files, *families, *sampler, *spacing, *timesteps, *steps, *cfg, *eta;
    int size;
    const char *licence;
};

/* In the order of recipes.def; NULL past the end. */
const struct recipe *recipe_at(int i);

/* '-', '_' and blanks are one, case does not count. DR_EINVAL about `field` with the nearest
 * name. */
int recipe_find(const char *field, const char *name, const struct recipe **ret,
                struct dr_error *err);

/* Whether recipes have a value for this field. */
bool recipe_decides(enum field_id id);

#endif
