/* request_specs.c - fields that are lists of values with options of their own (type SPECS).
 *
 * A list is kept as a JSON array of objects with canonical keys, in the order of the keys' table,
 * so two spellings of one list are equal. A key is described like a field, and read and written by
 * the code of fields. Paths keep their own bytes, which need not be UTF-8.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/nearest.h"
#include "base/path_text.h"
#include "base/spec.h"
#include "base/words.h"
#include "core/communication/request_impl.h"

enum { KEYS_MOST = 64, PATH_BYTES = 2 * REQUEST_NAME_BYTES };

static const struct {
    enum field_id field;
    struct field_info info;
} keys[] = {
#define KEY(field_, name_, type_, aliases_, lo_, hi_, dflt_, choices_, unit_, help_)               \
    { FIELD_##field_,                                                                              \
      { .name = #name_,                                                                            \
        .type = FIELD_TYPE_##type_,                                                                \
        .option = "",                                                                              \
        .aliases = aliases_,                                                                       \
        .lo = lo_,                                                                                 \
        .hi = hi_,                                                                                 \
        .dflt = dflt_,                                                                             \
        .choices = choices_,                                                                       \
        .unit = unit_,                                                                             \
        .help = help_ } },
#include "core/communication/spec_keys.def"
#undef KEY
};

const struct field_info *field_key(enum field_id id, int i)
{
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        if (keys[k].field == id && !i--)
            return &keys[k].info;
    return NULL;
}

static enum field_id id_of(const struct field_info *f)
{
    return (enum field_id)(f - field_info((enum field_id)0));
}

static const struct field_info *find_key(const struct field_info *f, const char *name)
{
    const struct field_info *key;
    for (int i = 0; (key = field_key(id_of(f), i)); i++)
        if (!strcmp(key->name, name) || word_in(key->aliases, ' ', name))
            return key;
    return NULL;
}

static int fail_key(const struct field_info *f, const char *path, const char *name,
                    struct dr_error *err)
{
    char words[KEYS_MOST][REQUEST_NAME_BYTES];
    const char *names[KEYS_MOST];
    const struct field_info *key;
    size_t n = 0;
    for (int i = 0; (key = field_key(id_of(f), i)); i++) {
        struct dr_word rest = word_all(key->aliases), alias;
        if (n < KEYS_MOST)
            names[n++] = key->name;
        for (; n < KEYS_MOST && word_next(&rest, ' ', &alias); n++) {
            snprintf(words[n], sizeof words[n], "%.*s", (int)alias.n, alias.at);
            names[n] = words[n];
        }
    }
    return dr_fail_unknown(err, path, "key", name, names, n);
}

/* One value as it is kept: text has its own bytes. */
static int put(json_t *item, const struct field_info *key, const char *path,
               const struct field_value *v, struct dr_error *err)
{
    json_t *value = v->text ? json_string_nocheck(v->text) : request_value_json(key, v);
    return jx_set(item, key->name, value) < 0 ? dr_fail(err, DR_ENOMEM, "%s: out of memory", path)
                                              : 0;
}

/* A key's value, from JSON or else from text. */
static int set_key(const struct field_info *f, json_t *item, const char *path, const char *name,
                   const json_t *value, const char *text, struct dr_error *err)
{
    char full[PATH_BYTES];
    const struct field_info *key = find_key(f, name);
    struct field_value v = { .set = true };
    snprintf(full, sizeof full, "%s.%.*s", path, REQUEST_NAME_BYTES, name);
    if (!key)
        return fail_key(f, full, name, err);
    if (json_object_get(item, key->name))
        return dr_fail_field(err, DR_EINVAL, full, text ? text : "another value", "each key once",
                             strcmp(name, key->name) ? key->name : NULL);
    int r = value ? request_value_from_json(key, full, value, &v, err)
                  : request_value_from_text(key, full, text, &v, err);
    if (!r)
        r = put(item, key, full, &v, err);
    request_value_clear(&v);
    return r;
}

/* The keys in the order of the table; takes `item` over. */
static json_t *in_order(const struct field_info *f, json_t *item)
{
    const struct field_info *key;
    json_t *sorted = json_object();
    for (int i = 0; sorted && (key = field_key(id_of(f), i)); i++) {
        json_t *value = json_object_get(item, key->name);
        if (value && jx_set(sorted, key->name, json_incref(value)) < 0) {
            json_decref(sorted);
            sorted = NULL;
        }
    }
    json_decref(item);
    return sorted;
}

/* Adds `item`, which is taken over and complete but for its main key, to the list. */
static int add(const struct field_info *f, const char *path, json_t *item, struct field_value *v,
               struct dr_error *err)
{
    char full[PATH_BYTES], most[48];
    const struct field_info *first = field_key(id_of(f), 0);
    int r = 0;
    snprintf(full, sizeof full, "%s.%s", path, first->name);
    snprintf(most, sizeof most, "at most %" PRId64, f->hi);
    if (!json_object_get(item, first->name))
        r = dr_fail_field(err, DR_EINVAL, full, "nothing", "a value", first->help);
    else if ((int64_t)json_array_size(v->map) >= f->hi)
        r = dr_fail_field(err, DR_ELIMIT, path, "more", most, NULL);
    if (r) {
        json_decref(item);
        return r;
    }
    if (!v->map)
        v->map = json_array();
    return jx_add(v->map, in_order(f, item)) < 0
               ? dr_fail(err, DR_ENOMEM, "%s: out of memory", path)
               : 0;
}

int request_specs_add_text(const struct field_info *f, const char *path, const char *text,
                           struct field_value *v, struct dr_error *err)
{
    struct spec s;
    int r = spec_parse(path, text, &s, err);
    if (r)
        return r;
    json_t *item = json_object();
    r = item ? 0 : dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
    if (!r)
        r = set_key(f, item, path, field_key(id_of(f), 0)->name, NULL, s.value, err);
    for (int i = 0; !r && i < s.n; i++)
        r = set_key(f, item, path, s.option[i].key, NULL, s.option[i].value, err);
    spec_release(&s);
    if (!r)
        return add(f, path, item, v, err);
    json_decref(item);
    return r;
}

static int add_object(const struct field_info *f, const char *path, const json_t *object,
                      struct field_value *v, struct dr_error *err)
{
    const char *name;
    json_t *value, *item = json_object();
    int r = item ? 0 : dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
    json_object_foreach((json_t *)object, name, value)
    {
        if (!r && !json_is_null(value))
            r = set_key(f, item, path, name, value, NULL, err);
    }
    if (!r)
        return add(f, path, item, v, err);
    json_decref(item);
    return r;
}

static int add_json(const struct field_info *f, const char *path, const json_t *value,
                    struct field_value *v, struct dr_error *err)
{
    const char *text = json_string_value(value);
    if (text && strlen(text) != json_string_length(value))
        return dr_fail_field(err, DR_EINVAL, path, NULL, "text without NUL characters", NULL);
    if (text && !strncasecmp(text, "data:", 5)) { /* its comma is no separator */
        json_t *object = json_pack("{s:s}", field_key(id_of(f), 0)->name, text);
        int r = object ? add_object(f, path, object, v, err)
                       : dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
        json_decref(object);
        return r;
    }
    if (text)
        return request_specs_add_text(f, path, text, v, err);
    if (json_is_object(value) && !jx_literal(value))
        return add_object(f, path, value, v, err);
    return dr_fail_field(err, DR_EINVAL, path, jx_kind(value), "a string or an object", NULL);
}

int request_specs_from_json(const struct field_info *f, const char *path, const json_t *value,
                            struct field_value *v, struct dr_error *err)
{
    char full[PATH_BYTES];
    size_t n = json_array_size(value);
    int r = 0;
    if (!json_is_array(value))
        return add_json(f, path, value, v, err);
    v->map = json_array();
    if (!v->map)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
    for (size_t i = 0; !r && i < n; i++) {
        snprintf(full, sizeof full, "%s[%zu]", path, i);
        r = add_json(f, full, json_array_get(value, i), v, err);
    }
    return r;
}

/* Paths as text. */
static json_t *item_json(const struct field_info *f, const json_t *item)
{
    const struct field_info *key;
    json_t *o = json_object();
    for (int i = 0; o && (key = field_key(id_of(f), i)); i++) {
        json_t *value = json_object_get(item, key->name);
        if (value && jx_set(o, key->name,
                            json_is_string(value) ? request_text_json(key, json_string_value(value))
                                                  : json_incref(value)) < 0) {
            json_decref(o);
            o = NULL;
        }
    }
    return o;
}

json_t *request_specs_json(const struct field_info *f, const struct field_value *v)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < json_array_size(v->map); i++)
        if (jx_add(list, item_json(f, json_array_get(v->map, i))) < 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

int request_count(const struct request *r, enum field_id id)
{
    return (int)json_array_size(r->value[id].map);
}

static const json_t *item_value(const struct request *r, enum field_id id, int item,
                                const char *key)
{
    return json_object_get(json_array_get(r->value[id].map, (size_t)item), key);
}

bool request_item_has(const struct request *r, enum field_id id, int item, const char *key)
{
    return item_value(r, id, item, key) != NULL;
}

bool request_item_flag(const struct request *r, enum field_id id, int item, const char *key)
{
    const json_t *value = item_value(r, id, item, key);
    return value ? json_is_true(value) : !strcmp(find_key(field_info(id), key)->dflt, "true");
}

double request_item_real(const struct request *r, enum field_id id, int item, const char *key)
{
    const json_t *value = item_value(r, id, item, key);
    return value ? json_number_value(value) : strtod(find_key(field_info(id), key)->dflt, NULL);
}

const char *request_item_text(const struct request *r, enum field_id id, int item, const char *key)
{
    const json_t *value = item_value(r, id, item, key);
    return value ? json_string_value(value) : find_key(field_info(id), key)->dflt;
}
