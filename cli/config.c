/* config.c - see config.h. libyaml's events drive a state machine of two levels; nothing is built
 * in between. */
#include "cli/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/utf8.h"

enum { OUTSIDE, TOP, INNER, LIST, DONE }; /* where the reader stands */

struct config_reader {
    struct config *config;
    int where;
    char *section; /* key of the mapping being read at INNER */
    char *key;     /* key whose value comes next; NULL: a key comes next */
    int line;      /* of the key: a value that is left out has the place of what follows it */
    size_t room;   /* of config->entries */
    struct dr_error *err;
};

static int bad(const struct config_reader *r, const yaml_event_t *e, const char *what)
{
    return dr_fail(r->err, DR_EFORMAT, "%s:%zu: %s", r->config->path, e->start_mark.line + 1, what);
}

static int no_memory(const struct config_reader *r)
{
    return dr_fail(r->err, DR_ENOMEM, "%s: out of memory", r->config->path);
}

static char *join_key(const char *section, const char *key)
{
    if (!section)
        return dr_strdup(DR_TAG_BASE, key);
    size_t n = strlen(section) + strlen(key) + 2;
    char *whole = dr_malloc(DR_TAG_BASE, n);
    if (whole)
        snprintf(whole, n, "%s.%s", section, key);
    return whole;
}

static int grow(struct config_reader *r)
{
    if (r->config->count < r->room)
        return 0;
    size_t room = r->room ? 2 * r->room : 16;
    struct config_entry *entries = dr_realloc(DR_TAG_BASE, r->config->entries,
                                              room * sizeof *entries);
    if (!entries)
        return no_memory(r);
    r->config->entries = entries;
    r->room = room;
    return 0;
}

/* Adds r->key with the scalar of `e`. */
static int add_entry(struct config_reader *r, const yaml_event_t *e)
{
    if (r->config->count == CONFIG_MAX_ENTRIES)
        return bad(r, e, "too many entries");
    int code = grow(r);
    if (code)
        return code;
    const char *text = (const char *)e->data.scalar.value;
    bool quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    bool null = !quoted && (!strcmp(text, "~") || !strcmp(text, "null") || !*text);
    struct config_entry entry = { .key = join_key(r->section, r->key),
                                  .value = dr_strdup(DR_TAG_BASE, null ? "" : text),
                                  .line = r->line,
                                  .quoted = quoted,
                                  .listed = r->where == LIST,
                                  .null = null };
    if (!entry.key || !entry.value) {
        dr_free(entry.key);
        dr_free(entry.value);
        return no_memory(r);
    }
    const struct config_entry *before = config_find(r->config, entry.key);
    if (before && !(entry.listed && before->line == entry.line)) {
        code = bad(r, e, "this key appeared before");
        dr_free(entry.key);
        dr_free(entry.value);
        return code;
    }
    r->config->entries[r->config->count++] = entry;
    return 0;
}

static int on_scalar(struct config_reader *r, const yaml_event_t *e)
{
    if (e->data.scalar.anchor || e->data.scalar.tag)
        return bad(r, e, "anchors and tags are not accepted");
    if (strlen((const char *)e->data.scalar.value) != e->data.scalar.length)
        return bad(r, e, "a zero byte inside text");
    if (r->where == OUTSIDE && !e->data.scalar.length)
        return 0; /* an empty document */
    if (r->where == LIST)
        return add_entry(r, e);
    if (r->where != TOP && r->where != INNER)
        return bad(r, e, "expected 'key: value' lines");
    if (r->key) {
        int code = add_entry(r, e);
        dr_free(r->key);
        r->key = NULL;
        return code;
    }
    if (!e->data.scalar.length)
        return bad(r, e, "an empty key");
    r->line = (int)e->start_mark.line + 1;
    r->key = dr_strdup(DR_TAG_BASE, (const char *)e->data.scalar.value);
    return r->key ? 0 : no_memory(r);
}

static int on_mapping(struct config_reader *r, const yaml_event_t *e)
{
    if (e->data.mapping_start.anchor || e->data.mapping_start.tag)
        return bad(r, e, "anchors and tags are not accepted");
    if (r->where == OUTSIDE) {
        r->where = TOP;
        return 0;
    }
    if (r->where != TOP || !r->key)
        return bad(r, e,
                   r->where == LIST ? "a list of something else than values"
                                    : "nested deeper than section and key");
    r->section = r->key;
    r->key = NULL;
    r->where = INNER;
    return 0;
}

/* The values of a list have the key before it. */
static int on_list(struct config_reader *r, const yaml_event_t *e)
{
    if (e->data.sequence_start.anchor || e->data.sequence_start.tag)
        return bad(r, e, "anchors and tags are not accepted");
    if (r->where != TOP || !r->key)
        return bad(r, e, "a list is accepted as the value of a key only");
    r->where = LIST;
    return 0;
}

static int on_event(struct config_reader *r, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(r, e);
    case YAML_MAPPING_START_EVENT:
        return on_mapping(r, e);
    case YAML_MAPPING_END_EVENT:
        dr_free(r->section);
        r->section = NULL;
        r->where = r->where == INNER ? TOP : DONE;
        return 0;
    case YAML_ALIAS_EVENT:
        return bad(r, e, "aliases are not accepted");
    case YAML_SEQUENCE_START_EVENT:
        return on_list(r, e);
    case YAML_SEQUENCE_END_EVENT:
        dr_free(r->key);
        r->key = NULL;
        r->where = TOP;
        return 0;
    case YAML_DOCUMENT_START_EVENT:
        if (e->data.document_start.version_directive ||
            e->data.document_start.tag_directives.start !=
                e->data.document_start.tag_directives.end)
            return bad(r, e, "directives are not accepted");
        return r->where == OUTSIDE ? 0 : bad(r, e, "a second document");
    default:
        return 0;
    }
}

static int run(struct config_reader *r, yaml_parser_t *parser)
{
    for (;;) {
        yaml_event_t e;
        if (!yaml_parser_parse(parser, &e)) {
            if (parser->error == YAML_MEMORY_ERROR)
                return no_memory(r);
            return dr_fail(r->err, DR_EFORMAT, "%s:%zu: %s", r->config->path,
                           parser->problem_mark.line + 1,
                           parser->problem ? parser->problem : "not YAML");
        }
        int code = on_event(r, &e);
        bool end = e.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&e);
        if (code || end)
            return code;
    }
}

int config_parse(const char *text, size_t n, const char *name, struct config *ret_config,
                 struct dr_error *err)
{
    if (n > CONFIG_MAX_BYTES)
        return dr_fail(err, DR_ELIMIT, "%s: %zu bytes, at most %d accepted", name, n,
                       CONFIG_MAX_BYTES);
    int code = dr_check_utf8(text, n, name, err);
    if (code)
        return code;
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return dr_fail(err, DR_ENOMEM, "%s: out of memory", name);
    struct config config = { .path = dr_strdup(DR_TAG_BASE, name) };
    struct config_reader r = { .config = &config, .where = OUTSIDE, .err = err };
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    if (config.path)
        code = run(&r, &parser);
    else
        code = dr_fail(err, DR_ENOMEM, "%s: out of memory", name);
    yaml_parser_delete(&parser);
    dr_free(r.key);
    dr_free(r.section);
    if (code)
        config_free(&config);
    else
        *ret_config = config;
    return code;
}

int config_load(const char *path, struct config *ret_config, struct dr_error *err)
{
    struct buf text;
    buf_init(&text, DR_TAG_BASE, 0);
    int code = dr_read_file(path, CONFIG_MAX_BYTES, &text, err);
    if (!code)
        code = config_parse(buf_text(&text), text.len, path, ret_config, err);
    buf_free(&text);
    return code;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++) {
        dr_free(c->entries[i].key);
        dr_free(c->entries[i].value);
    }
    dr_free(c->entries);
    dr_free(c->path);
    *c = (struct config){ NULL, NULL, 0 };
}

const struct config_entry *config_find(const struct config *c, const char *key)
{
    for (size_t i = 0; i < c->count; i++) {
        if (!strcmp(c->entries[i].key, key))
            return &c->entries[i];
    }
    return NULL;
}

int config_fail(const struct config *c, const struct config_entry *e, struct dr_error *err,
                const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return dr_fail(err, DR_EINVAL, "%s:%d: %s: %s", c->path, e->line, e->key, text);
}
