/* json.c - see json.h: parsing and members. Printing is in json_dump.c.
 *
 * jansson recurses up to 2,048 levels and allocates as it goes, so a scan of the text counts depth
 * and members before jansson sees it. */
#include "base/json.h"

#include <stdio.h>
#include <string.h>
#include <threads.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json_number.h"

enum { DEFAULT_BYTES = 16 << 20, DEFAULT_DEPTH = 32, DEFAULT_MEMBERS = 1000000, SHOWN = 60 };

/* jansson's lexer (2.14) ignores that its token buffer could not grow and then reads past its end.
 * So while a text is parsed, a failed allocation is served from a reserve set aside before; the
 * text ends there and the parse is reported as out of memory. The reserve holds the longest token's
 * buffer and all that one more FEED of text can ask for. */
enum { FEED = 128 /* bytes */, FEED_NEEDS = 64 << 10 };

struct reserve {
    char *block;
    size_t size, used;
    bool touched; /* some allocation failed */
};

static _Thread_local struct reserve reserve;

static void *json_alloc(size_t size)
{
    void *p = dr_malloc(DR_TAG_BASE, size);
    if (p || !reserve.block)
        return p;
    size = (size + 15) / 16 * 16;
    reserve.touched = true;
    if (size > reserve.size - reserve.used)
        return NULL;
    reserve.used += size;
    return reserve.block + reserve.used - size;
}

static void json_release(void *p)
{
    uintptr_t at = (uintptr_t)p, start = (uintptr_t)reserve.block;
    if (!start || at < start || at >= start + reserve.size)
        dr_free(p);
}

static void init(void)
{
    json_set_alloc_funcs(json_alloc, json_release);
    json_object_seed(0); /* from the system's entropy, so that keys cannot be chosen to collide */
}

void jx_init(void)
{
    static once_flag once = ONCE_FLAG_INIT;
    call_once(&once, init);
}

static struct jx_limits with_defaults(const struct jx_limits *given)
{
    static const struct jx_limits none;
    struct jx_limits l = given ? *given : none;
    l.bytes = l.bytes ? l.bytes : DEFAULT_BYTES;
    l.depth = l.depth ? l.depth : DEFAULT_DEPTH;
    l.members = l.members ? l.members : DEFAULT_MEMBERS;
    return l;
}

static int fail_at(const char *text, size_t at, int code, const char *what, const char *wrong,
                   size_t limit, struct dr_error *err)
{
    int line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    return dr_fail(err, code, "%s: line %d column %d: %s %zu", what, line, column, wrong, limit);
}

/* Nesting and members (commas count for members) against the limits, without looking at the
 * grammar. */
static int scan(const char *text, size_t n, const struct jx_limits *limits, const char *what,
                size_t *ret_longest, struct dr_error *err)
{
    size_t depth = 0, members = 0, token = 0, longest = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (!in_string && strchr("{}[]:,\" \t\r\n", c))
            token = i;
        longest = i - token > longest ? i - token : longest;
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            members++;
            if (++depth > limits->depth)
                return fail_at(text, i, DR_ELIMIT, what, "nested deeper than", limits->depth, err);
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
        } else if (c == ',') {
            members++;
        }
        if (members > limits->members)
            return fail_at(text, i, DR_ELIMIT, what, "more members than", limits->members, err);
    }
    *ret_longest = longest + 2;
    return 0;
}

struct feed {
    const char *text;
    size_t left;
    const atomic_int *stop;
};

static bool stopped(const atomic_int *stop)
{
    return stop && atomic_load(stop);
}

static size_t feed(void *buffer, size_t size, void *data)
{
    struct feed *f = data;
    size_t n = f->left < FEED ? f->left : FEED;
    if (reserve.touched || stopped(f->stop))
        return (size_t)-1;
    n = n < size ? n : size;
    memcpy(buffer, f->text, n);
    f->text += n;
    f->left -= n;
    return n;
}

/* NULL with *wrong filled in, or *ret_short set when memory is short. */
static json_t *parse(const char *text, size_t n, size_t longest, const atomic_int *stop,
                     json_error_t *wrong, bool *ret_short)
{
    struct feed f = { text, n, stop };
    reserve = (struct reserve){ .size = 4 * longest + FEED_NEEDS };
    reserve.block = dr_malloc(DR_TAG_BASE, reserve.size);
    *ret_short = true;
    if (!reserve.block)
        return NULL;
    json_t *value = json_load_callback(feed, &f, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, wrong);
    if (reserve.touched) {
        json_decref(value);
        value = NULL;
    } else {
        *ret_short = false;
    }
    dr_free(reserve.block);
    reserve = (struct reserve){ 0 };
    return value;
}

/* The same for a text with numbers that jansson cannot hold. */
static json_t *parse_wide(const char *text, size_t n, size_t longest, const atomic_int *stop,
                          json_error_t *wrong, bool *ret_short)
{
    struct buf copy;
    json_t *value = NULL;
    buf_init(&copy, DR_TAG_BASE, 0);
    int r = json_number_wrap(text, n, &copy);
    *ret_short = r == DR_ENOMEM;
    if (!r)
        value = parse(copy.data, copy.len, longest, stop, wrong, ret_short);
    if (!value && !*ret_short && wrong->position > 0)
        wrong->column -= json_number_inserted(buf_text(&copy), (size_t)wrong->position);
    buf_free(&copy);
    return value;
}

/* Overwrites infinities outside of strings by null. */
static void replace_infinity(char *text, size_t n)
{
    static const char word[] = "Infinity";
    enum { LENGTH = sizeof word - 1 };
    bool inside = false;
    for (size_t i = 0; i < n; i++) {
        if (inside && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            inside = !inside;
        } else if (!inside && n - i >= LENGTH && !memcmp(text + i, word, LENGTH)) {
            memcpy(text + i, "null    ", LENGTH);
            if (i && text[i - 1] == '-')
                text[i - 1] = ' ';
        }
    }
}

static int parse_python(const char *text, size_t n, struct jx_limits limits, const char *what,
                        json_t **ret_value, struct dr_error *err)
{
    char *copy = dr_strndup(DR_TAG_BASE, text, n);
    if (!copy)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory for its JSON", what);
    limits.python = false;
    replace_infinity(copy, n);
    int r = jx_parse(copy, n, &limits, what, ret_value, err);
    dr_free(copy);
    return r;
}

int jx_parse(const char *text, size_t n, const struct jx_limits *limits, const char *what,
             json_t **ret_value, struct dr_error *err)
{
    jx_init();
    struct jx_limits l = with_defaults(limits);
    if (n > l.bytes)
        return dr_fail(err, DR_ELIMIT, "%s: %zu bytes of JSON, at most %zu accepted", what, n,
                       l.bytes);
    if (l.python)
        return parse_python(text, n, l, what, ret_value, err);
    size_t longest = 0;
    int r = scan(text, n, &l, what, &longest, err);
    if (r)
        return r;
    json_error_t wrong;
    bool short_of_memory;
    memset(&wrong, 0, sizeof wrong);
    json_t *value = parse(text, n, longest, l.stop, &wrong, &short_of_memory);
    if (!value && !short_of_memory && json_error_code(&wrong) == json_error_numeric_overflow)
        value = parse_wide(text, n, longest, l.stop, &wrong, &short_of_memory);
    if (stopped(l.stop)) {
        json_decref(value);
        return dr_fail(err, DR_ECANCELED, "%s: reading it was stopped", what);
    }
    if (short_of_memory)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory for its JSON", what);
    char *quoted = l.unquoted ? strstr(wrong.text, " near ") : NULL;
    if (quoted)
        *quoted = '\0';
    if (!value)
        return dr_fail(err, DR_EFORMAT, "%s: line %d column %d: %s", what,
                       wrong.line < 1 ? 1 : wrong.line, wrong.column < 0 ? 0 : wrong.column,
                       wrong.text[0] ? wrong.text : "not JSON");
    *ret_value = value;
    return 0;
}

int jx_parse_file(const char *path, const struct jx_limits *limits, json_t **ret_value,
                  struct dr_error *err)
{
    struct jx_limits l = with_defaults(limits);
    struct buf text;
    buf_init(&text, DR_TAG_FILE, 0);
    int r = dr_read_file(path, l.bytes, &text, err);
    if (!r)
        r = jx_parse(buf_text(&text), text.len, limits, path, ret_value, err);
    buf_free(&text);
    return r;
}

const char *jx_kind(const json_t *value)
{
    if (!value)
        return "nothing";
    if (jx_literal(value))
        return "a number";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

/* "PATH.KEY" was `value` (NULL: absent) instead of `expected`. Containers are named, not shown. */
static int fail_member(const char *path, const char *key, const json_t *value, const char *expected,
                       struct dr_error *err)
{
    if (!err)
        return DR_EINVAL;
    char where[160], got[SHOWN + 8];
    snprintf(where, sizeof where, "%s%s%s", path ? path : "", path && path[0] ? "." : "", key);
    if (!value)
        return dr_fail_field(err, DR_EINVAL, where, NULL, expected, "required");
    struct buf shown;
    buf_init(&shown, DR_TAG_BASE, 4096);
    bool plain = jx_literal(value) || (!json_is_object(value) && !json_is_array(value));
    bool whole = plain && !jx_dump(value, &shown);
    if (whole && shown.len <= SHOWN)
        snprintf(got, sizeof got, "%s", buf_text(&shown));
    else
        snprintf(got, sizeof got, "%s", jx_kind(value));
    buf_free(&shown);
    return dr_fail_field(err, DR_EINVAL, where, got, expected, NULL);
}

/* The member if it exists and, if optional, is not null. False: nothing to convert; *ret_code is
 * the result. */
static bool member(const json_t *object, const char *path, const char *key, bool required,
                   const char *expected, const json_t **ret_value, int *ret_code,
                   struct dr_error *err)
{
    const json_t *value = json_object_get(object, key);
    *ret_value = value;
    *ret_code = 0;
    if (value && (required || !json_is_null(value)))
        return true;
    if (required)
        *ret_code = fail_member(path, key, NULL, expected, err);
    return false;
}

int jx_get(const json_t *object, const char *path, const char *key, json_t **ret_value,
           struct dr_error *err)
{
    json_t *value = json_object_get(object, key);
    if (!value)
        return fail_member(path, key, NULL, "a value", err);
    *ret_value = value;
    return 0;
}

static int string_member(const json_t *object, const char *path, const char *key, bool required,
                         const char **ret_text, struct dr_error *err)
{
    const json_t *v;
    int r;
    if (!member(object, path, key, required, "a string", &v, &r, err))
        return r;
    if (!json_is_string(v))
        return fail_member(path, key, v, "a string", err);
    *ret_text = json_string_value(v);
    return 0;
}

static int int_member(const json_t *object, const char *path, const char *key, bool required,
                      int64_t min, int64_t max, int64_t *ret_value, struct dr_error *err)
{
    char expected[96] = "an integer";
    if (min > INT64_MIN && max < INT64_MAX)
        snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min,
                 (long long)max);
    else if (min > INT64_MIN)
        snprintf(expected, sizeof expected, "an integer of at least %lld", (long long)min);
    else if (max < INT64_MAX)
        snprintf(expected, sizeof expected, "an integer of at most %lld", (long long)max);
    const json_t *v;
    int r;
    if (!member(object, path, key, required, expected, &v, &r, err))
        return r;
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return fail_member(path, key, v, expected, err);
    *ret_value = json_integer_value(v);
    return 0;
}

int jx_opt_number(const json_t *object, const char *path, const char *key, double *ret_value,
                  struct dr_error *err)
{
    const json_t *v;
    int r;
    if (!member(object, path, key, false, "a number", &v, &r, err))
        return r;
    if (!json_is_number(v))
        return fail_member(path, key, v, "a number", err);
    *ret_value = json_number_value(v);
    return 0;
}

int jx_opt_bool(const json_t *object, const char *path, const char *key, bool *ret_value,
                struct dr_error *err)
{
    const json_t *v;
    int r;
    if (!member(object, path, key, false, "true or false", &v, &r, err))
        return r;
    if (!json_is_boolean(v))
        return fail_member(path, key, v, "true or false", err);
    *ret_value = json_is_true(v);
    return 0;
}

static int container_member(const json_t *object, const char *path, const char *key, bool required,
                            json_type type, json_t **ret_value, struct dr_error *err)
{
    const char *expected = type == JSON_OBJECT ? "an object" : "an array";
    const json_t *v;
    int r;
    if (!member(object, path, key, required, expected, &v, &r, err))
        return r;
    if (json_typeof(v) != type || jx_literal(v))
        return fail_member(path, key, v, expected, err);
    *ret_value = (json_t *)v;
    return 0;
}

int jx_get_string(const json_t *object, const char *path, const char *key, const char **ret_text,
                  struct dr_error *err)
{
    return string_member(object, path, key, true, ret_text, err);
}

int jx_get_int(const json_t *object, const char *path, const char *key, int64_t min, int64_t max,
               int64_t *ret_value, struct dr_error *err)
{
    return int_member(object, path, key, true, min, max, ret_value, err);
}

int jx_get_object(const json_t *object, const char *path, const char *key, json_t **ret_value,
                  struct dr_error *err)
{
    return container_member(object, path, key, true, JSON_OBJECT, ret_value, err);
}

int jx_get_array(const json_t *object, const char *path, const char *key, json_t **ret_value,
                 struct dr_error *err)
{
    return container_member(object, path, key, true, JSON_ARRAY, ret_value, err);
}

int jx_opt_string(const json_t *object, const char *path, const char *key, const char **ret_text,
                  struct dr_error *err)
{
    return string_member(object, path, key, false, ret_text, err);
}

int jx_opt_int(const json_t *object, const char *path, const char *key, int64_t min, int64_t max,
               int64_t *ret_value, struct dr_error *err)
{
    return int_member(object, path, key, false, min, max, ret_value, err);
}

int jx_opt_array(const json_t *object, const char *path, const char *key, json_t **ret_value,
                 struct dr_error *err)
{
    return container_member(object, path, key, false, JSON_ARRAY, ret_value, err);
}

int jx_set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) ? DR_ENOMEM : 0;
}

int jx_add(json_t *array, json_t *value)
{
    return json_array_append_new(array, value) ? DR_ENOMEM : 0;
}
