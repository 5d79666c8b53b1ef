/* scheduler_keys.c - see scheduler_keys.h. */
#include "schedulers/scheduler_keys.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/nearest.h"
#include "base/words.h"

int sched_key_error(int code, const char *key, const char *got, const char *expected,
                    const char *hint, struct dr_error *err)
{
    char path[160];
    snprintf(path, sizeof path, "%s: %s", SCHED_FILE_NAME, key);
    return dr_fail_field(err, code, path, got, expected, hint);
}

/* A scalar as text for messages and comparisons; what is no scalar by its kind. */
static void value_text(const json_t *v, char *dst, size_t n)
{
    if (json_is_string(v))
        snprintf(dst, n, "%s", json_string_value(v));
    else if (json_is_integer(v))
        snprintf(dst, n, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(dst, n, "%.17g", json_real_value(v));
    else if (json_is_boolean(v))
        snprintf(dst, n, "%s", json_is_true(v) ? "true" : "false");
    else if (json_is_array(v) && !json_array_size(v))
        snprintf(dst, n, "[]");
    else
        snprintf(dst, n, "%s", json_is_null(v) ? "null" : jx_kind(v));
}

int sched_keys_fixed(const json_t *file, const struct sched_fixed_key *fixed, struct dr_error *err)
{
    for (; fixed && fixed->key; fixed++) {
        const json_t *v = json_object_get(file, fixed->key);
        char got[96];
        if (!v || json_is_null(v))
            continue;
        value_text(v, got, sizeof got);
        if (!word_in(fixed->accepted, '|', got))
            return sched_key_error(DR_EUNSUPPORTED, fixed->key, got, fixed->accepted, NULL, err);
    }
    return 0;
}

int sched_key_name(const json_t *file, const char *key, const char *const *names, size_t n,
                   int *ret_index, struct dr_error *err)
{
    const json_t *v = json_object_get(file, key);
    char got[96], path[160];
    if (!v || json_is_null(v))
        return 0;
    value_text(v, got, sizeof got);
    for (size_t i = 0; i < n; i++) {
        if (json_is_string(v) && !strcmp(json_string_value(v), names[i])) {
            *ret_index = (int)i;
            return 0;
        }
    }
    snprintf(path, sizeof path, "%s: %s", SCHED_FILE_NAME, key);
    return dr_fail_choice(err, DR_EUNSUPPORTED, path, got, names, n);
}
