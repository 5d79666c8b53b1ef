/* message.c - see message.h. */
#include "core/communication/message.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/words.h"
#include "core/communication/id_scan.h"
#include "core/communication/request.h"

enum { VERB_NOW, VERB_QUEUED };

struct verb_info {
    const char *name;
    int mode;
    const char *spellings;
};

static const struct verb_info verbs[VERB_COUNT] = {
#define VERB(name, mode, spellings) [VERB_##name] = { #name, VERB_##mode, spellings },
#include "core/communication/message_verbs.def"
#undef VERB
};

static const struct jx_limits line_limits = { .bytes = MESSAGE_LINE_BYTES,
                                              .depth = 32,
                                              .members = 10000 };

const char *verb_name(enum verb v)
{
    return verbs[v].name;
}

bool verb_immediate(enum verb v)
{
    return verbs[v].mode == VERB_NOW;
}

const char *message_id(const struct message_ids *ids)
{
    return *ids->request_id ? ids->request_id : ids->correlation_id;
}

static int find_verb(const char *word)
{
    for (int v = 0; v < VERB_COUNT; v++)
        if (!strcmp(verbs[v].name, word) || word_in(verbs[v].spellings, ' ', word))
            return v;
    return -1;
}

static int fail_verb(const char *word, struct dr_error *err)
{
    const char *names[VERB_COUNT];
    for (int v = 0; v < VERB_COUNT; v++)
        names[v] = verbs[v].name;
    return dr_fail_nearest(err, DR_EPROTO, "type", word, "a verb of this worker (see capabilities)",
                           names, VERB_COUNT);
}

static int read_verb(const json_t *line, enum verb *ret, struct dr_error *err)
{
    static const char *const keys[] = { "type", "message_type", "command", "action" };
    const char *word = NULL, *prefix = json_string_value(json_object_get(line, "workerType"));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *value = json_object_get(line, keys[i]);
        if (!value || json_is_null(value))
            continue;
        if (!json_is_string(value))
            return dr_fail_field(err, DR_EPROTO, keys[i], jx_kind(value), "a string", NULL);
        if (word && strcmp(word, json_string_value(value)))
            return dr_fail_field(err, DR_EPROTO, keys[i], json_string_value(value), word,
                                 "two spellings of the verb differ");
        word = json_string_value(value);
    }
    if (!word && !prefix)
        return dr_fail_field(err, DR_EPROTO, "type", "nothing", "a verb, such as \"generate\"",
                             NULL);
    char joined[128];
    snprintf(joined, sizeof joined, "%s.%s", prefix ? prefix : "", word ? word : "");
    int v = prefix && word ? find_verb(joined) : -1;
    if (v < 0)
        v = find_verb(word ? word : prefix);
    if (v < 0)
        return fail_verb(word ? word : prefix, err);
    *ret = (enum verb)v;
    return 0;
}

static int read_id(const json_t *object, const char *key, char *dst, struct dr_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value) || *dst)
        return 0;
    const char *literal = jx_literal(value);
    if (literal && strlen(literal) < MESSAGE_ID_BYTES &&
        strspn(literal, "-0123456789") == strlen(literal)) {
        snprintf(dst, MESSAGE_ID_BYTES, "%s", literal);
        return 0;
    }
    if (json_is_integer(value)) {
        snprintf(dst, MESSAGE_ID_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return 0;
    }
    if (!json_is_string(value) || json_string_length(value) >= MESSAGE_ID_BYTES ||
        strlen(json_string_value(value)) != json_string_length(value))
        return dr_fail_field(err, DR_EPROTO, key, jx_kind(value), "a string of at most 255 bytes",
                             NULL);
    snprintf(dst, MESSAGE_ID_BYTES, "%s", json_string_value(value));
    return 0;
}

/* Reads every id that it can, even if one is invalid. */
static int read_ids(const json_t *line, const json_t *data, struct message_ids *ids,
                    struct dr_error *err)
{
    int r = read_id(line, "request_id", ids->request_id, err);
    int s = read_id(line, "correlationId", ids->correlation_id, r ? NULL : err);
    r = r ? r : s;
    if (json_is_object(data) && !*message_id(ids))
        s = read_id(data, "request_id", ids->request_id, r ? NULL : err);
    return r ? r : s;
}

const char *const message_ids_in_data[] = { "request_id", "correlationId", "session_id", NULL };

static bool listed(const char *const *names, const char *name)
{
    for (; *names; names++)
        if (!strcmp(*names, name))
            return true;
    return false;
}

int message_only(const json_t *data, const char *const *names, struct dr_error *err)
{
    const char *key;
    json_t *value;
    size_t n = 0;
    while (names[n])
        n++;
    json_object_foreach((json_t *)data, key, value)
    {
        if (!json_is_null(value) && !listed(names, key) && !listed(message_ids_in_data, key))
            return dr_fail_unknown(err, key, "field", key, names, n);
    }
    return 0;
}

/* A field beside `data` instead of in it would have no effect. */
static int check_envelope(const json_t *line, struct dr_error *err)
{
    static const char *const members[] = {
        "type",       "message_type", "command",       "action", "workerType", "request_id",
        "session_id", "timestamp",    "correlationId", "data",   NULL
    };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)line, key, value)
    {
        if (json_is_null(value) || listed(members, key))
            continue;
        const char *near = dr_nearest(key, members, sizeof members / sizeof *members - 1);
        int r = request_knows(key)
                    ? dr_fail(err, DR_EPROTO, "%s: belongs into data: {\"data\": {\"%s\": ...}}",
                              key, key)
                    : dr_fail(err, DR_EPROTO,
                              "%s: no member of a message%s%s%s; fields belong "
                              "into data",
                              key, near ? " (nearest: " : "", near ? near : "", near ? ")" : "");
        if (err)
            snprintf(err->path, sizeof err->path, "%s", key);
        return r;
    }
    return 0;
}

int message_parse(const char *line, size_t n, struct message *ret, struct dr_error *err)
{
    memset(ret, 0, sizeof *ret);
    json_t *root;
    int r = jx_parse(line, n, &line_limits, "message", &root, err);
    if (r < 0) {
        id_scan(line, n, &ret->ids);
        return r;
    }
    if (!json_is_object(root) || jx_literal(root)) {
        r = dr_fail_field(err, DR_EPROTO, "message", jx_kind(root), "an object", NULL);
        goto out;
    }
    json_t *data = json_object_get(root, "data");
    if ((r = read_ids(root, data, &ret->ids, err)) < 0)
        goto out;
    if ((r = read_verb(root, &ret->verb, err)) < 0 || (r = check_envelope(root, err)) < 0)
        goto out;
    if (data && !json_is_null(data) && (!json_is_object(data) || jx_literal(data))) {
        r = dr_fail_field(err, DR_EPROTO, "data", jx_kind(data), "an object", NULL);
        goto out;
    }
    ret->data = json_is_object(data) ? json_incref(data) : json_object();
    if (!ret->data)
        r = dr_fail(err, DR_ENOMEM, "out of memory");
out:
    json_decref(root);
    return r;
}

void message_free(struct message *m)
{
    if (!m)
        return;
    json_decref(m->data);
    m->data = NULL;
}

json_t *message_request(enum verb verb, const char *request_id, json_t *data)
{
    json_t *o = json_object();
    int r = jx_set(o, "type", json_string(verbs[verb].name));
    if (!r)
        r = jx_set(o, "request_id", json_string(request_id));
    if (r < 0) {
        json_decref(data);
        json_decref(o);
        return NULL;
    }
    if (jx_set(o, "data", data) < 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* The members that every answer begins with. */
static json_t *envelope(const struct message_ids *ids, bool success)
{
    char now[40];
    dr_timestamp(now, sizeof now);
    json_t *o = json_object();
    int r = jx_set(o, "success", json_boolean(success));
    if (!r && *ids->request_id)
        r = jx_set(o, "request_id", json_string(ids->request_id));
    if (!r && *ids->correlation_id)
        r = jx_set(o, "correlationId", json_string(ids->correlation_id));
    if (!r)
        r = jx_set(o, "worker_info", json_string("darkroom-worker " DR_VERSION));
    if (!r)
        r = jx_set(o, "timestamp", json_string(now));
    if (!r)
        r = jx_set(o, "timestamp_epoch", json_real(dr_epoch()));
    if (r < 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

json_t *message_result(const struct message_ids *ids, json_t *data)
{
    json_t *o = envelope(ids, true);
    if (jx_set(o, "data", data) < 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

json_t *message_progress(const struct message_ids *ids, json_t *data)
{
    if (jx_set(data, "type", json_string("progress")) < 0) {
        json_decref(data);
        return NULL;
    }
    return message_result(ids, data);
}

/* Error texts may quote bytes of a hostile file; jansson takes valid UTF-8 only. */
static json_t *text_json(const char *text)
{
    json_t *s = json_string(text);
    if (s)
        return s;
    char clean[512];
    size_t i = 0;
    for (; text[i] && i + 1 < sizeof clean; i++)
        clean[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    clean[i] = '\0';
    return json_string(clean);
}

static json_t *details_json(const struct dr_error *e)
{
    json_t *detail = json_object(), *list = json_array();
    int r = jx_set(detail, "path", text_json(e->path));
    if (!r && *e->got)
        r = jx_set(detail, "got", text_json(e->got));
    if (!r && *e->expected)
        r = jx_set(detail, "expected", text_json(e->expected));
    if (!r && *e->hint)
        r = jx_set(detail, "hint", text_json(e->hint));
    if (r < 0) {
        json_decref(detail);
        json_decref(list);
        return NULL;
    }
    if (jx_add(list, detail) < 0) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* Takes `o` over. */
static json_t *add_error(json_t *o, const struct dr_error *error)
{
    int r = jx_set(o, "error", text_json(error->text));
    if (!r)
        r = jx_set(o, "error_code", json_string(dr_code_wire(error->code)));
    if (!r && *error->path)
        r = jx_set(o, "details", details_json(error));
    if (r < 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

json_t *message_failure(const struct message_ids *ids, const struct dr_error *error)
{
    return add_error(envelope(ids, false), error);
}

json_t *message_error(const struct dr_error *error)
{
    return add_error(json_pack("{s:b}", "success", 0), error);
}

static int code_from_wire(const char *wire)
{
#define X(name, value, text, meaning)                                                              \
    if (!strcmp(wire, text))                                                                       \
        return DR_##name;
#include "base/errors.def"
#undef X
    return DR_EINTERNAL;
}

static void copy_member(const json_t *o, const char *key, char *dst, size_t n)
{
    const char *s = json_string_value(json_object_get(o, key));
    snprintf(dst, n, "%s", s ? s : "");
}

json_t *message_errors(const struct error_list *list)
{
    json_t *array = json_array();
    for (int i = 0; array && i < list->n; i++) {
        const struct dr_error *e = &list->error[i];
        json_t *item = json_object();
        int r = jx_set(item, "error", text_json(e->text));
        if (!r)
            r = jx_set(item, "error_code", json_string(dr_code_wire(e->code)));
        if (!r)
            r = jx_set(item, "path", text_json(e->path));
        if (r < 0)
            json_decref(item);
        if (r < 0 || jx_add(array, item) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

void message_error_of(const json_t *item, struct dr_error *ret)
{
    const char *wire = json_string_value(json_object_get(item, "error_code"));
    memset(ret, 0, sizeof *ret);
    ret->code = code_from_wire(wire ? wire : "");
    copy_member(item, "error", ret->text, sizeof ret->text);
    copy_member(item, "path", ret->path, sizeof ret->path);
}

int message_answer(const json_t *answer, json_t **ret_data, struct dr_error *err)
{
    const json_t *success = json_object_get(answer, "success");
    if (!json_is_boolean(success))
        return dr_fail(err, DR_EPROTO, "the worker's answer has no \"success\"");
    if (json_is_true(success)) {
        *ret_data = json_object_get(answer, "data");
        return 0;
    }
    const char *text = json_string_value(json_object_get(answer, "error"));
    const char *wire = json_string_value(json_object_get(answer, "error_code"));
    int code = dr_fail(err, code_from_wire(wire ? wire : ""), "%s", text ? text : "failed");
    const json_t *detail = json_array_get(json_object_get(answer, "details"), 0);
    if (err && detail) {
        copy_member(detail, "path", err->path, sizeof err->path);
        copy_member(detail, "got", err->got, sizeof err->got);
        copy_member(detail, "expected", err->expected, sizeof err->expected);
        copy_member(detail, "hint", err->hint, sizeof err->hint);
    }
    return code;
}

bool message_is_progress(const json_t *event)
{
    return !strcmp(jx_text(json_object_get(event, "data"), "type"), "progress");
}
