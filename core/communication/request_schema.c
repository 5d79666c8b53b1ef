/* request_schema.c - the table of fields as a JSON Schema, for programs that write requests. */
#include "core/communication/request.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/words.h"

/* The words as an array; NULL when memory is short. */
static json_t *words_json(json_t *list, struct dr_word rest, char separator)
{
    struct dr_word word;
    while (list && word_next(&rest, separator, &word))
        if (jx_add(list, json_stringn(word.at, word.n)) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static int set_choices(json_t *property, const char *choices)
{
    json_t *list = json_array();
    struct dr_word rest = word_all(choices), choice;
    while (list && word_next(&rest, '|', &choice))
        list = words_json(list, choice, '=');
    return jx_set(property, "enum", list);
}

static int set_aliases(json_t *property, const char *aliases)
{
    return jx_set(property, "x-aliases", words_json(json_array(), word_all(aliases), ' '));
}

static json_t *default_json(const struct field_info *f)
{
    switch (f->type) {
    case FIELD_TYPE_INT:
    case FIELD_TYPE_SEED:
        return json_integer(strtoll(f->dflt, NULL, 10));
    case FIELD_TYPE_REAL:
        return json_real(strtod(f->dflt, NULL));
    case FIELD_TYPE_FLAG:
        return json_boolean(!strcmp(f->dflt, "true"));
    default:
        return json_string(f->dflt);
    }
}

static json_t *property_of(const struct field_info *f);

/* An array of texts and objects, or one of them. */
static int set_list(json_t *property, const struct field_info *f)
{
    const struct field_info *key;
    json_t *members = json_object(), *item = NULL;
    enum field_id id = (enum field_id)(f - field_info((enum field_id)0));
    int r = members ? 0 : DR_ENOMEM;
    for (int i = 0; !r && (key = field_key(id, i)); i++)
        r = jx_set(members, key->name, property_of(key));
    if (!r)
        item = json_pack("{s:[s,s],s:O,s:b}", "type", "string", "object", "properties", members,
                         "additionalProperties", 0);
    json_decref(members);
    r = jx_set(property, "items", item);
    if (!r)
        r = jx_set(property, "maxItems", json_integer(f->hi));
    return r ? r : jx_set(property, "type", json_pack("[s,s,s]", "array", "string", "object"));
}

static int set_type(json_t *property, const struct field_info *f)
{
    static const char *const types[] = {
        [FIELD_TYPE_TEXT] = "string",  [FIELD_TYPE_INT] = "integer",   [FIELD_TYPE_REAL] = "number",
        [FIELD_TYPE_FLAG] = "boolean", [FIELD_TYPE_CHOICE] = "string", [FIELD_TYPE_NAME] = "string",
        [FIELD_TYPE_SIZE] = "string",  [FIELD_TYPE_PAIR] = "string",   [FIELD_TYPE_MAP] = "object",
    };
    if (f->type == FIELD_TYPE_SPECS)
        return set_list(property, f);
    bool numbers = f->type == FIELD_TYPE_NUMBERS;
    bool seed = f->type == FIELD_TYPE_SEED, spec = f->type == FIELD_TYPE_SPEC;
    int r = jx_set(property, "type",
                   seed      ? json_pack("[s,s]", "integer", "string")
                   : spec    ? json_pack("[s,s]", "string", "object")
                   : numbers ? json_pack("[s,s]", "array", "string")
                             : json_string(types[f->type]));
    if (!r && seed) /* as text, for readers whose integers have 64 bits with sign */
        r = jx_set(property, "x-maximum", json_sprintf("%" PRIu64, UINT64_MAX));
    if (!r && seed)
        r = jx_set(property, "minimum", json_integer(f->lo));
    if (!r && seed)
        r = jx_set(property, "pattern", json_string("^(-1|[0-9]+)$"));
    if (!r && (f->type == FIELD_TYPE_INT || f->type == FIELD_TYPE_REAL)) {
        r = jx_set(property, "minimum", json_integer(f->lo));
        if (!r)
            r = jx_set(property, "maximum", json_integer(f->hi));
    }
    if (!r && f->type == FIELD_TYPE_SIZE)
        r = jx_set(property, "pattern", json_string("^[0-9]+x[0-9]+$"));
    if (!r && f->type == FIELD_TYPE_PAIR)
        r = jx_set(property, "pattern", json_string("^[0-9]+,[0-9]+$"));
    if (!r && numbers)
        r = jx_set(property, "items", json_pack("{s:s}", "type", "number"));
    if (!r && f->type == FIELD_TYPE_CHOICE)
        r = set_choices(property, f->choices);
    return r;
}

static json_t *property_of(const struct field_info *f)
{
    json_t *property = json_object();
    int r = jx_set(property, "description", json_string(f->help));
    if (!r)
        r = set_type(property, f);
    if (!r && *f->unit)
        r = jx_set(property, "x-unit", json_string(f->unit));
    if (!r && *f->dflt)
        r = jx_set(property, "default", default_json(f));
    if (!r && *f->aliases)
        r = set_aliases(property, f->aliases);
    if (r < 0) {
        json_decref(property);
        return NULL;
    }
    return property;
}

json_t *request_schema(void)
{
    json_t *schema = json_object(), *properties = json_object();
    int r = 0;
    for (int i = 0; !r && i < FIELD_COUNT; i++)
        r = jx_set(properties, field_info(i)->name, property_of(field_info(i)));
    if (!r)
        r = jx_set(schema, "$schema", json_string("https://json-schema.org/draft/2020-12/schema"));
    if (!r)
        r = jx_set(schema, "type", json_string("object"));
    if (!r)
        r = jx_set(schema, "additionalProperties", json_false());
    if (r < 0) {
        json_decref(properties);
        json_decref(schema);
        return NULL;
    }
    if (jx_set(schema, "properties", properties) < 0) {
        json_decref(schema);
        return NULL;
    }
    return schema;
}
