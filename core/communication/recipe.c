/* recipe.c - see recipe.h. */
#include "core/communication/recipe.h"

#include <strings.h>

#include "base/nearest.h"

static const struct recipe recipes[] = {
#define RECIPE(name_, title_, files_, families_, sampler_, spacing_, timesteps_, steps_, cfg_,     \
               eta_, size_, licence_)                                                              \
    { .name = name_,                                                                               \
      .title = title_,                                                                             \
      .files = files_,                                                                             \
      .families = families_,                                                                       \
      .sampler = sampler_,                                                                         \
      .spacing = spacing_,                                                                         \
      .timesteps = timesteps_,                                                                     \
      .steps = steps_,                                                                             \
      .cfg = cfg_,                                                                                 \
      .eta = eta_,                                                                                 \
      .size = size_,                                                                               \
      .licence = licence_ },
#include "core/communication/recipes.def"
#undef RECIPE
};

enum { COUNT = sizeof recipes / sizeof *recipes };

static const enum field_id decided[] = { FIELD_sampler, FIELD_schedule,       FIELD_scheduler,
                                         FIELD_spacing, FIELD_timesteps,      FIELD_sigmas,
                                         FIELD_steps,   FIELD_guidance_scale, FIELD_eta,
                                         FIELD_width,   FIELD_height };

const struct recipe *recipe_at(int i)
{
    return i < COUNT ? &recipes[i] : NULL;
}

/* Equal but for case and for what joins the words. */
static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        char x = *a == '_' || *a == ' ' ? '-' : *a, y = *b == '_' || *b == ' ' ? '-' : *b;
        if (strncasecmp(&x, &y, 1))
            return false;
    }
    return *a == *b;
}

int recipe_find(const char *field, const char *name, const struct recipe **ret,
                struct dr_error *err)
{
    const char *names[COUNT];
    for (int i = 0; i < COUNT; i++) {
        if (same_name(name, recipes[i].name)) {
            *ret = &recipes[i];
            return 0;
        }
        names[i] = recipes[i].name;
    }
    return dr_fail_choice(err, DR_EINVAL, field, name, names, COUNT);
}

bool recipe_decides(enum field_id id)
{
    for (size_t i = 0; i < sizeof decided / sizeof *decided; i++)
        if (decided[i] == id)
            return true;
    return false;
}
