/* neutral.c - members of other programs' requests that are skipped; see neutral.def. */
#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "core/communication/request_impl.h"

enum { VALUE_BYTES = 32, EXPECTED_BYTES = 80 };

static const struct neutral table[] = {
#define NEUTRAL(name_, values_, hint_) { #name_, values_, hint_ },
#include "core/communication/neutral.def"
#undef NEUTRAL
};

const struct neutral *neutral_find(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].name, name))
            return &table[i];
    return NULL;
}

bool request_unsupported(const char *name)
{
    return neutral_find(name) != NULL;
}

/* Equal as JSON, numbers by value. */
static bool same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

int neutral_check(const struct neutral *n, const char *path, const json_t *value,
                  struct dr_error *err)
{
    char expected[EXPECTED_BYTES];
    if (!strcmp(n->values, "*"))
        return 0;
    if (!*n->values) {
        int code = dr_fail(err, DR_EUNSUPPORTED, "%s: not supported by darkroom yet", path);
        if (err)
            snprintf(err->path, sizeof err->path, "%s", path);
        return code;
    }
    size_t used = (size_t)snprintf(expected, sizeof expected, "only ");
    struct dr_word rest = word_all(n->values), word;
    for (int i = 0; word_next(&rest, '|', &word); i++) {
        json_t *one = json_loadb(word.at, word.n, JSON_DECODE_ANY, NULL);
        if (!one)
            return dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
        bool equal = same(one, value);
        json_decref(one);
        if (equal)
            return 0;
        if (used < sizeof expected)
            used += (size_t)snprintf(expected + used, sizeof expected - used, "%s%.*s",
                                     i ? " or " : "", (int)word.n, word.at);
    }
    char *got = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    char hint[200];
    snprintf(hint, sizeof hint, "instead: %s", n->hint);
    int r = dr_fail_field(err, DR_EUNSUPPORTED, path, got ? got : jx_kind(value), expected,
                          *n->hint ? hint : "not supported by darkroom yet");
    dr_free(got);
    return r;
}
