/* preset.c - see preset.h. */
#include "inference/preset.h"

#include "base/nearest.h"
#include "schedulers/names.h"

static const struct preset presets[] = {
#define PRESET(name_, ...) { .name = #name_, __VA_ARGS__ },
#include "inference/presets.def"
#undef PRESET
};

enum { COUNT = sizeof presets / sizeof *presets };

const struct preset *preset_at(int i)
{
    return i < COUNT ? &presets[i] : NULL;
}

int preset_find(const char *name, const struct preset **ret, struct dr_error *err)
{
    const char *names[COUNT];
    for (int i = 0; i < COUNT; i++) {
        names[i] = presets[i].name;
        if (sched_same_name(name, presets[i].name) || sched_same_name(name, presets[i].title)) {
            *ret = &presets[i];
            return 0;
        }
    }
    return dr_fail_choice(err, DR_EINVAL, "preset", name, names, COUNT);
}
