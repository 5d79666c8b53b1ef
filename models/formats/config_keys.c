/* config_keys.c - see config_keys.h. */
#include "models/formats/config_keys.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"

int config_bad(const json_t *config, const char *file, const char *key, const char *expected,
               struct dr_error *err)
{
    char path[160];
    snprintf(path, sizeof path, "%s: %s", file, key);
    const json_t *value = json_object_get(config, key);
    struct buf got;
    buf_init(&got, DR_TAG_BASE, 256);
    bool shown = value && !jx_dump(value, &got);
    int r = dr_fail_field(err, DR_EUNSUPPORTED, path,
                          shown   ? buf_text(&got)
                          : value ? jx_kind(value)
                                  : "nothing",
                          expected, NULL);
    buf_free(&got);
    return r;
}

/* Whether word is one of the spellings in "silu|swish". */
static bool one_of(const char *spellings, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = spellings; n && at; at = strchr(at, '|'), at = at ? at + 1 : NULL)
        if (!strncmp(at, word, n) && (!at[n] || at[n] == '|'))
            return true;
    return false;
}

static int check_value(const json_t *config, const struct config_key *k, const char *file,
                       struct dr_error *err)
{
    const json_t *value = json_object_get(config, k->key);
    bool absent = !value || json_is_null(value);
    char expected[80];
    bool good = true;
    snprintf(expected, sizeof expected, "null");
    switch (k->rule) {
    case CONFIG_READ:
    case CONFIG_NO_EFFECT:
        break;
    case CONFIG_NULL:
        good = absent;
        break;
    case CONFIG_TEXT:
        good = absent ? !k->required
                      : json_is_string(value) && one_of(k->text, json_string_value(value));
        snprintf(expected, sizeof expected, "\"%.*s\"", (int)strcspn(k->text, "|"), k->text);
        break;
    case CONFIG_NUMBER:
        good = absent ? !k->required
                      : json_is_number(value) && json_number_value(value) == k->number;
        snprintf(expected, sizeof expected, "%g", k->number);
        break;
    case CONFIG_FALSE:
        good = absent || json_is_false(value);
        snprintf(expected, sizeof expected, "false");
        break;
    case CONFIG_TRUE:
        good = absent ? !k->required : json_is_true(value);
        snprintf(expected, sizeof expected, "true");
        break;
    }
    return good ? 0 : config_bad(config, file, k->key, expected, err);
}

static int report_unknown(const json_t *config, const struct config_key *keys, const char *file,
                          const struct config_unknown *unknown)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)config, name, value)
    {
        const struct config_key *k = keys;
        while (k->key && strcmp(k->key, name))
            k++;
        int r = k->key || name[0] == '_' ? 0 : unknown->found(unknown->ctx, file, name);
        if (r)
            return r;
    }
    return 0;
}

int config_keys_check(const json_t *config, const struct config_key *keys, const char *file,
                      const struct config_unknown *unknown, struct dr_error *err)
{
    for (const struct config_key *k = keys; k->key; k++) {
        int r = check_value(config, k, file, err);
        if (r)
            return r;
    }
    int r = unknown ? report_unknown(config, keys, file, unknown) : 0;
    return r ? dr_fail(err, r, "%s: out of memory for a warning", file) : 0;
}
