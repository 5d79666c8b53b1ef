/* old_loras.c - see old_loras.h. */
#include "core/communication/old_loras.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

static const char *const lists[] = { "loras", "lora_adapters" };

bool old_loras_knows(const char *name)
{
    return !strcmp(name, "lora_name") || !strcmp(name, "lora_scale");
}

static int fail(const char *path, const char *key, const char *got, const char *expected,
                struct dr_error *err)
{
    char field[120];
    snprintf(field, sizeof field, "%.60s%s%s", path, *path ? "." : "", key);
    return dr_fail_field(err, DR_EINVAL, field, got, expected, NULL);
}

/* The list that the data has, under its name; the first by default. */
static const char *list_of(const json_t *data, const json_t **ret)
{
    *ret = NULL;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(data, lists[i]);
        if (!list || json_is_null(list))
            continue;
        *ret = list;
        return lists[i];
    }
    return lists[0];
}

static int put_first(json_t *copy, const json_t *name, const json_t *scale)
{
    const json_t *list;
    const char *key = list_of(copy, &list);
    json_t *one = json_pack("{s:O}", "path", name), *all = json_array();
    int r = scale ? jx_set(one, "strength", json_deep_copy(scale)) : 0;
    if (r)
        json_decref(one);
    r = r ? r : jx_add(all, one);
    if (!r && json_is_array(list) && json_array_extend(all, (json_t *)list))
        r = DR_ENOMEM;
    else if (!r && list && !json_is_array(list))
        r = jx_add(all, json_incref((json_t *)list));
    if (!r)
        return jx_set(copy, key, all);
    json_decref(all);
    return r;
}

int old_loras_translate(const json_t *data, const char *path, json_t **ret, struct dr_error *err)
{
    const json_t *name = json_object_get(data, "lora_name");
    const json_t *scale = json_object_get(data, "lora_scale");
    name = json_is_null(name) ? NULL : name;
    scale = json_is_null(scale) ? NULL : scale;
    if (!name && !scale) {
        *ret = json_incref((json_t *)data);
        return 0;
    }
    if (!name)
        return fail(path, "lora_name", "nothing", "the LoRA of lora_scale", err);
    if (!json_is_string(name) || !json_string_length(name))
        return fail(path, "lora_name", jx_kind(name), "a file, or the name of one", err);
    if (scale && (!json_is_number(scale) || jx_literal(scale)))
        return fail(path, "lora_scale", jx_kind(scale), "a number", err);
    json_t *copy = json_copy((json_t *)data);
    int r = copy ? put_first(copy, name, scale) : DR_ENOMEM;
    if (r) {
        json_decref(copy);
        return dr_fail(err, r, "out of memory for a request");
    }
    (void)json_object_del(copy, "lora_name");
    (void)json_object_del(copy, "lora_scale");
    *ret = copy;
    return 0;
}
