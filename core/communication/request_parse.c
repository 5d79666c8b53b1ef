/* request_parse.c - a request from JSON: names, groups, and one value for one field. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/nearest.h"
#include "base/spec.h"
#include "base/words.h"
#include "core/communication/old_loras.h"
#include "core/communication/request_impl.h"

enum { NAME_BYTES = REQUEST_NAME_BYTES, SPELLINGS = 256 };

struct request_reader {
    struct request *request;
    const char *path;           /* of the data, "" or "data" */
    const char *const *ignored; /* members of the envelope to skip; NULL: none */
    struct error_list *list;
    struct dr_error *err;
    char spelled[FIELD_COUNT][NAME_BYTES]; /* the name that gave each field */
};

static int find_field(const char *name)
{
    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field_info *f = field_info((enum field_id)i);
        if (!strcmp(f->name, name) || word_in(f->aliases, ' ', name))
            return i;
    }
    return -1;
}

/* Is `name` an object that some alias reaches into? */
static bool is_group(const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < FIELD_COUNT; i++) {
        struct dr_word rest = word_all(field_info((enum field_id)i)->aliases), alias;
        while (word_next(&rest, ' ', &alias))
            if (alias.n > n && !memcmp(alias.at, name, n) && alias.at[n] == '.')
                return true;
    }
    return false;
}

bool request_knows(const char *name)
{
    return find_field(name) >= 0 || is_group(name) || neutral_find(name) || old_loras_knows(name);
}

static void full_name(const struct request_reader *r, const char *name, char dst[NAME_BYTES])
{
    snprintf(dst, NAME_BYTES, "%s%s%s", r->path, *r->path ? "." : "", name);
}

/* The nearest of all spellings, aliases included, so that a misspelled alias does not suggest an
 * unrelated field. */
static int fail_unknown(const struct request_reader *r, const char *name)
{
    char words[SPELLINGS][64], full[NAME_BYTES];
    const char *names[SPELLINGS];
    size_t n = 0;
    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field_info *f = field_info((enum field_id)i);
        if (n < SPELLINGS)
            names[n++] = f->name;
        struct dr_word rest = word_all(f->aliases), alias;
        for (; n < SPELLINGS && word_next(&rest, ' ', &alias); n++) {
            snprintf(words[n], sizeof words[n], "%.*s", (int)alias.n, alias.at);
            names[n] = words[n];
        }
    }
    full_name(r, name, full);
    return dr_fail_unknown(r->err, full, "field", name, names, n);
}

static bool texts_equal(enum field_type type, const char *a, const char *b)
{
    return type == FIELD_TYPE_SPEC ? spec_equal(a, b) : !strcmp(a, b);
}

static bool values_equal(enum field_type type, const struct field_value *a,
                         const struct field_value *b)
{
    return a->i == b->i && a->j == b->j && a->real == b->real && !a->text == !b->text &&
           (!a->text || texts_equal(type, a->text, b->text)) && !a->map == !b->map &&
           (!a->map || json_equal(a->map, b->map));
}

static int accept(struct request_reader *r, int id, const char *name, const json_t *value)
{
    struct field_value v = { .set = true }, *kept = &r->request->value[id];
    const struct field_info *f = field_info((enum field_id)id);
    char full[NAME_BYTES], hint[NAME_BYTES + 32];
    full_name(r, name, full);
    int code = request_value_from_json(f, full, value, &v, r->err);
    if (!code && kept->set && !values_equal(f->type, kept, &v)) {
        snprintf(hint, sizeof hint, "%s is the same field", r->spelled[id]);
        code = dr_fail_field(r->err, DR_EINVAL, full, "another value", "one value for one field",
                             hint);
    }
    if (code < 0) {
        request_value_clear(&v);
        return code;
    }
    request_value_clear(kept);
    *kept = v;
    snprintf(r->spelled[id], sizeof r->spelled[id], "%s", name);
    return 0;
}

static bool listed(const char *const *names, const char *name)
{
    for (; names && *names; names++)
        if (!strcmp(*names, name))
            return true;
    return false;
}

static int parse_object(struct request_reader *r, const json_t *object, const char *group);

static int parse_member(struct request_reader *r, const char *group, const char *key,
                        const json_t *value)
{
    char name[NAME_BYTES], full[NAME_BYTES];
    if (json_is_null(value) || (!*group && listed(r->ignored, key)))
        return 0;
    if (!*group && old_loras_knows(key)) /* they are wrong, which was noted */
        return 0;
    if (!*group && is_group(key) && json_is_object(value) && !jx_literal(value))
        return parse_object(r, value, key);
    snprintf(name, sizeof name, "%s%s%s", group, *group ? "." : "", key);
    int id = find_field(name);
    if (id >= 0)
        return accept(r, id, name, value);
    const struct neutral *other = neutral_find(name);
    if (!other)
        return fail_unknown(r, name);
    full_name(r, name, full);
    return neutral_check(other, full, value, r->err);
}

/* One object: the data itself (group "") or a group inside it. */
static int parse_object(struct request_reader *r, const json_t *object, const char *group)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        int code = parse_member(r, group, key, value);
        if (code < 0 && (code = error_list_take(r->list, code, r->err)) < 0)
            return code;
    }
    return 0;
}

int request_parse_all(const json_t *data, const char *path, const char *const *ignored,
                      struct error_list *list, struct request *ret, struct dr_error *err)
{
    struct request_reader r = {
        .request = ret, .path = path, .ignored = ignored, .list = list, .err = err
    };
    request_init(ret);
    if (!json_is_object(data))
        return dr_fail_field(err, DR_EINVAL, path, jx_kind(data), "an object", NULL);
    json_t *translated = NULL;
    int code = old_loras_translate(data, path, &translated, err);
    if (code < 0)
        code = error_list_take(list, code, err);
    if (!code)
        code = parse_object(&r, translated ? translated : data, "");
    json_decref(translated);
    if (code < 0)
        request_free(ret);
    return code;
}

int request_parse(const json_t *data, const char *path, const char *const *ignored,
                  struct request *ret, struct dr_error *err)
{
    return request_parse_all(data, path, ignored, NULL, ret, err);
}
