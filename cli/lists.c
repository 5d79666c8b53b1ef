/* lists.c - see lists.h. */
#include "cli/lists.h"

#include <string.h>

static const struct list_info lists[] = {
    { "samplers", "sampler", "what --sampler takes, and other programs' names for it" },
    { "schedules", "schedule", "what --schedule takes" },
    { "presets", "preset", "what --preset takes" },
    { "kernels", "kernels", "kernel sets, what --kernels takes, and which this processor has" },
    { "cases", "only", "what bench measures, one of which --only takes" },
};

const struct list_info *list_at(int i)
{
    return i < (int)(sizeof lists / sizeof *lists) ? &lists[i] : NULL;
}

const json_t *list_items(const struct list_info *list, const json_t *capabilities)
{
    if (strcmp(list->name, "kernels"))
        return json_object_get(capabilities, list->name);
    const json_t *devices = json_object_get(json_object_get(capabilities, "device_info"),
                                            "devices");
    return json_object_get(json_array_get(devices, 0), "kernel_sets");
}

const char *list_item_name(const json_t *item)
{
    return json_string_value(json_is_string(item) ? item : json_object_get(item, "name"));
}
