/* request.c - see request.h. */
#include "core/communication/request.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/path_text.h"
#include "base/spec.h"
#include "base/utf8.h"
#include "base/words.h"
#include "core/communication/request_impl.h"

static const struct field_info fields[FIELD_COUNT] = {
#define FIELD(name_, type_, option_, letter_, aliases_, lo_, hi_, dflt_, choices_, unit_, help_)   \
    [FIELD_##name_] = { .name = #name_,                                                            \
                        .type = FIELD_TYPE_##type_,                                                \
                        .option = option_,                                                         \
                        .letter = letter_,                                                         \
                        .aliases = aliases_,                                                       \
                        .lo = lo_,                                                                 \
                        .hi = hi_,                                                                 \
                        .dflt = dflt_,                                                             \
                        .choices = choices_,                                                       \
                        .unit = unit_,                                                             \
                        .help = help_ },
#include "core/communication/request.def"
#undef FIELD
};

enum { NAME_BYTES = REQUEST_NAME_BYTES };

#define EXACT_REAL 9007199254740992.0 /* 2^53: above, a real may stand for several integers */

const struct field_info *field_info(enum field_id id)
{
    return &fields[id];
}

bool field_is_part(enum field_id id)
{
    return id == FIELD_unet || id == FIELD_text_encoder || id == FIELD_text_encoder_2 ||
           id == FIELD_vae;
}

void request_init(struct request *r)
{
    memset(r, 0, sizeof *r);
}

void request_value_clear(struct field_value *v)
{
    dr_free(v->text);
    json_decref(v->map);
    memset(v, 0, sizeof *v);
}

void request_free(struct request *r)
{
    if (!r)
        return;
    for (int i = 0; i < FIELD_COUNT; i++)
        request_value_clear(&r->value[i]);
}

/* "1 to 16", "at least 1" ... of a numeric field. */
static void range_text(const struct field_info *f, char *dst, size_t n)
{
    const char *kind = f->type == FIELD_TYPE_REAL ? "a number" : "an integer";
    if (f->type == FIELD_TYPE_SEED)
        snprintf(dst, n, "%s from -1 to 2^64-1", kind);
    else
        snprintf(dst, n, "%s from %" PRId64 " to %" PRId64, kind, f->lo, f->hi);
}

static int set_int(const struct field_info *f, const char *path, int64_t i, struct field_value *v,
                   struct dr_error *err)
{
    char got[32], range[80];
    if (i < f->lo || i > f->hi) {
        snprintf(got, sizeof got, "%" PRId64, i);
        range_text(f, range, sizeof range);
        return dr_fail_field(err, DR_EINVAL, path, got, range, NULL);
    }
    v->i = i;
    return 0;
}

static int fail_range(const struct field_info *f, const char *path, const char *got,
                      struct dr_error *err)
{
    char range[80];
    range_text(f, range, sizeof range);
    return dr_fail_field(err, DR_EINVAL, path, got, range, NULL);
}

/* -1, or decimal digits. */
static int set_seed(const struct field_info *f, const char *path, const char *text,
                    struct field_value *v, struct dr_error *err)
{
    uint64_t seed = UINT64_MAX;
    v->j = !strcmp(text, "-1");
    if (!v->j && !jx_digits(text, &seed))
        return fail_range(f, path, text, err);
    v->i = (int64_t)seed;
    return 0;
}

static int seed_from_json(const struct field_info *f, const char *path, const json_t *value,
                          struct field_value *v, struct dr_error *err)
{
    char text[32];
    double d = json_real_value(value);
    const char *s = jx_literal(value);
    if (json_is_string(value) && json_string_length(value) == strlen(json_string_value(value)))
        s = json_string_value(value);
    if (json_is_integer(value))
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value) && d == floor(d) && fabs(d) <= EXACT_REAL)
        snprintf(text, sizeof text, "%" PRId64, (int64_t)d);
    else if (json_is_real(value))
        snprintf(text, sizeof text, "%.17g", d);
    else if (!s)
        return fail_range(f, path, jx_kind(value), err);
    return set_seed(f, path, s ? s : text, v, err);
}

static int set_real(const struct field_info *f, const char *path, double d, struct field_value *v,
                    struct dr_error *err)
{
    char got[40], range[80];
    if (!(d >= (double)f->lo && d <= (double)f->hi)) {
        snprintf(got, sizeof got, "%g", d);
        range_text(f, range, sizeof range);
        return dr_fail_field(err, DR_EINVAL, path, got, range, NULL);
    }
    v->real = d;
    return 0;
}

/* Matches `text` against "a|b=alias|c"; *ret_len is the length of the canonical spelling. */
static const char *choice_of(const char *choices, const char *text, size_t *ret_len)
{
    struct dr_word rest = word_all(choices), choice, spelling;
    while (word_next(&rest, '|', &choice)) {
        struct dr_word canonical = word_first(choice, '=');
        while (word_next(&choice, '=', &spelling))
            if (word_is(spelling, text)) {
                *ret_len = canonical.n;
                return canonical.at;
            }
    }
    return NULL;
}

/* "png, jpeg, webp" */
static void choices_text(const char *choices, char *dst, size_t n)
{
    size_t used = (size_t)snprintf(dst, n, "one of ");
    struct dr_word rest = word_all(choices), choice;
    for (int i = 0; used < n && word_next(&rest, '|', &choice); i++) {
        struct dr_word canonical = word_first(choice, '=');
        used += (size_t)snprintf(dst + used, n - used, "%s%.*s", i ? ", " : "", (int)canonical.n,
                                 canonical.at);
    }
}

static bool is_path(const struct field_info *f)
{
    return f->type == FIELD_TYPE_TEXT && (!strcmp(f->unit, "path") || !strcmp(f->unit, "picture"));
}

/* A picture's bytes instead of its path. A short base64 may look like a path: whoever reads it
 * finds out. */
static bool is_inline(const struct field_info *f, const char *text)
{
    return !strcmp(f->unit, "picture") &&
           (strlen(text) >= DR_PATH_MAX || !strncasecmp(text, "data:", 5));
}

json_t *request_text_json(const struct field_info *f, const char *text)
{
    return is_path(f) && !is_inline(f, text) ? path_text_json(text) : json_string(text);
}

/* "--model: empty path" */
static int fail_empty(const char *path, const char *what, struct dr_error *err)
{
    char expected[16];
    snprintf(expected, sizeof expected, "a %s", what);
    int r = dr_fail_field(err, DR_EINVAL, path, "\"\"", expected, NULL);
    if (err)
        snprintf(err->text, sizeof err->text, "%.*s: empty %s", NAME_BYTES, path, what);
    return r;
}

static int set_string(const struct field_info *f, const char *path, const char *text, size_t n,
                      struct field_value *v, struct dr_error *err)
{
    char expected[200], got[160];
    bool is_prompt = strstr(f->name, "prompt") != NULL;
    if (!n && f->type != FIELD_TYPE_TEXT) /* an empty prompt is a prompt */
        return fail_empty(path, "name", err);
    size_t limit = is_prompt ? REQUEST_PROMPT_BYTES : REQUEST_TEXT_BYTES;
    if (n > limit) {
        snprintf(got, sizeof got, "%zu bytes", n);
        snprintf(expected, sizeof expected, "at most %zu bytes", limit);
        return dr_fail_field(err, DR_ELIMIT, path, got, expected, NULL);
    }
    if (memchr(text, 0, n))
        return dr_fail_field(err, DR_EINVAL, path, NULL, "text without NUL characters", NULL);
    if (f->type == FIELD_TYPE_CHOICE) {
        const char *found = choice_of(f->choices, text, &n);
        if (!found) {
            snprintf(got, sizeof got, "%s", text);
            choices_text(f->choices, expected, sizeof expected);
            return dr_fail_field(err, DR_EINVAL, path, got, expected, NULL);
        }
        text = found;
    }
    v->text = dr_strndup(DR_TAG_BASE, text, n);
    return v->text ? 0 : dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
}

/* "A<sep>B", two integers and nothing else. */
static bool two_ints(const char *text, char sep, int64_t *a, int64_t *b)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *a = strtoll(text, &end, 10);
    if (errno || *end != sep || end[1] < '0' || end[1] > '9')
        return false;
    *b = strtoll(end + 1, &end, 10);
    return !errno && !*end;
}

static int set_two(const struct field_info *f, const char *path, const char *text,
                   struct field_value *v, struct dr_error *err)
{
    bool size = f->type == FIELD_TYPE_SIZE;
    int64_t a, b;
    if (!two_ints(text, size ? 'x' : ',', &a, &b) || a < f->lo || a > f->hi || b < f->lo ||
        b > f->hi)
        return dr_fail_field(err, DR_EINVAL, path, text,
                             size ? "WIDTHxHEIGHT, each 1 to 65536" : "TOP,LEFT, each 0 to 65536",
                             NULL);
    v->i = a;
    v->j = b;
    return 0;
}

/* A path as its text has it. */
static int set_path_text(const char *path, const char *text, struct field_value *v,
                         struct dr_error *err)
{
    char file[DR_PATH_MAX];
    if (!*text)
        return fail_empty(path, "path", err);
    int r = path_text_read(path, text, file, err);
    if (r < 0)
        return r;
    v->text = dr_strdup(DR_TAG_BASE, file);
    return v->text ? 0 : dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
}

static int set_path(const struct field_info *f, const char *path, const json_t *value,
                    struct field_value *v, struct dr_error *err)
{
    const char *text = json_string_value(value);
    if (strlen(text) != json_string_length(value))
        return dr_fail_field(err, DR_EINVAL, path, NULL, "text without NUL characters", NULL);
    if (!is_inline(f, text))
        return set_path_text(path, text, v, err);
    v->text = dr_strdup(DR_TAG_BASE, text);
    return v->text ? 0 : dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
}

/* Names with paths; the map keeps the paths' own bytes, which need not be UTF-8. */
static int set_map(const struct field_info *f, const char *path, const json_t *value,
                   struct field_value *v, struct dr_error *err)
{
    const char *key;
    json_t *item;
    v->map = json_object();
    json_object_foreach((json_t *)value, key, item)
    {
        struct field_value file = { .set = true };
        char full[2 * NAME_BYTES];
        snprintf(full, sizeof full, "%s.%s", path, key);
        if (!json_is_string(item))
            return dr_fail_field(err, DR_EINVAL, path, jx_kind(item), "names with text values",
                                 key);
        int r = set_path(f, full, item, &file, err);
        if (r < 0)
            return r;
        r = jx_set(v->map, key, json_string_nocheck(file.text));
        request_value_clear(&file);
        if (r < 0)
            return dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
    }
    return v->map ? 0 : dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
}

/* An object of name and options as the text that stands for it. */
static int set_spec(const struct field_info *f, const char *path, const json_t *value,
                    struct field_value *v, struct dr_error *err)
{
    struct buf text;
    buf_init(&text, DR_TAG_BASE, REQUEST_TEXT_BYTES);
    int r = spec_from_json(path, f->choices, value, &text, err);
    if (!r)
        r = set_string(f, path, buf_text(&text), strlen(buf_text(&text)), v, err);
    buf_free(&text);
    return r;
}

static int fail_kind(const struct field_info *f, const char *path, const json_t *value,
                     struct dr_error *err)
{
    static const char *const kinds[] = {
        [FIELD_TYPE_TEXT] = "a string",
        [FIELD_TYPE_INT] = "an integer",
        [FIELD_TYPE_SEED] = "an integer",
        [FIELD_TYPE_REAL] = "a number",
        [FIELD_TYPE_FLAG] = "true or false",
        [FIELD_TYPE_CHOICE] = "a string",
        [FIELD_TYPE_NAME] = "a string",
        [FIELD_TYPE_SPEC] = "a string or an object",
        [FIELD_TYPE_SIZE] = "a string \"WIDTHxHEIGHT\"",
        [FIELD_TYPE_PAIR] = "a string \"TOP,LEFT\"",
        [FIELD_TYPE_MAP] = "an object of names and texts",
        [FIELD_TYPE_SPECS] = "an array of strings and objects, or one of them",
        [FIELD_TYPE_NUMBERS] = "an array of numbers, or a string of them",
    };
    bool quoted = json_is_string(value) && strlen(json_string_value(value)) < 40;
    char got[64];
    snprintf(got, sizeof got, "the string \"%s\"", quoted ? json_string_value(value) : "");
    return dr_fail_field(err, DR_EINVAL, path, quoted ? got : jx_kind(value), kinds[f->type], NULL);
}

/* A value from JSON. Integers with a zero fraction (30.0) count as integers: some JSON writers make
 * them. */
int request_value_from_json(const struct field_info *f, const char *path, const json_t *value,
                            struct field_value *v, struct dr_error *err)
{
    const char *literal = jx_literal(value);
    if (literal && (f->type == FIELD_TYPE_INT || f->type == FIELD_TYPE_REAL))
        return fail_range(f, path, literal, err);
    if (literal && f->type != FIELD_TYPE_SEED)
        return fail_kind(f, path, value, err);
    switch (f->type) {
    case FIELD_TYPE_SEED:
        return seed_from_json(f, path, value, v, err);
    case FIELD_TYPE_INT:
        if (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)) &&
            fabs(json_real_value(value)) <= EXACT_REAL)
            return set_int(f, path, (int64_t)json_real_value(value), v, err);
        if (json_is_integer(value))
            return set_int(f, path, json_integer_value(value), v, err);
        break;
    case FIELD_TYPE_REAL:
        if (json_is_number(value))
            return set_real(f, path, json_number_value(value), v, err);
        break;
    case FIELD_TYPE_FLAG:
        if (json_is_boolean(value)) {
            v->i = json_is_true(value);
            return 0;
        }
        break;
    case FIELD_TYPE_SPEC:
        if (json_is_object(value))
            return set_spec(f, path, value, v, err);
        if (json_is_string(value))
            return set_string(f, path, json_string_value(value), json_string_length(value), v, err);
        break;
    case FIELD_TYPE_TEXT:
    case FIELD_TYPE_CHOICE:
    case FIELD_TYPE_NAME:
        if (json_is_string(value) && is_path(f))
            return set_path(f, path, value, v, err);
        if (json_is_string(value))
            return set_string(f, path, json_string_value(value), json_string_length(value), v, err);
        break;
    case FIELD_TYPE_SIZE:
    case FIELD_TYPE_PAIR:
        if (json_is_string(value))
            return set_two(f, path, json_string_value(value), v, err);
        break;
    case FIELD_TYPE_MAP:
        if (json_is_object(value))
            return set_map(f, path, value, v, err);
        break;
    case FIELD_TYPE_SPECS:
        return request_specs_from_json(f, path, value, v, err);
    case FIELD_TYPE_NUMBERS:
        if (json_is_array(value))
            return request_numbers_from_json(path, value, v, err);
        if (json_is_string(value) &&
            !dr_check_utf8(json_string_value(value), json_string_length(value), path, err))
            return request_numbers_from_text(path, json_string_value(value), v, err);
        break;
    }
    return fail_kind(f, path, value, err);
}

static int map_add(struct field_value *v, const char *path, const char *text, struct dr_error *err)
{
    const char *eq = strchr(text, '=');
    char name[NAME_BYTES];
    if (!eq || eq == text || !eq[1] || (size_t)(eq - text) >= sizeof name)
        return dr_fail_field(err, DR_EINVAL, path, text, "NAME=FILE", NULL);
    memcpy(name, text, (size_t)(eq - text));
    name[eq - text] = '\0';
    if (dr_check_utf8(name, strlen(name), path, err) < 0)
        return DR_EINVAL;
    if (!v->map)
        v->map = json_object();
    if (json_object_get(v->map, name))
        return dr_fail_field(err, DR_EINVAL, path, text, "each name once", NULL);
    struct field_value file = { .set = true };
    int r = set_path_text(path, eq + 1, &file, err);
    if (!r && jx_set(v->map, name, json_string_nocheck(file.text)) < 0)
        r = dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
    request_value_clear(&file);
    return r;
}

static int number_from_text(const struct field_info *f, const char *path, const char *text,
                            struct field_value *v, struct dr_error *err)
{
    char *end, range[80];
    errno = 0;
    int64_t i = 0;
    double d = 0;
    if (f->type == FIELD_TYPE_INT)
        i = strtoll(text, &end, 10);
    else
        d = strtod(text, &end);
    /* neither blanks nor the hexadecimal that strtod knows */
    if (end == text || *end || errno || text[strspn(text, "0123456789+-.eE")]) {
        range_text(f, range, sizeof range);
        return dr_fail_field(err, DR_EINVAL, path, text, range, NULL);
    }
    return f->type == FIELD_TYPE_INT ? set_int(f, path, i, v, err) : set_real(f, path, d, v, err);
}

int request_value_from_text(const struct field_info *f, const char *path, const char *text,
                            struct field_value *v, struct dr_error *err)
{
    switch (f->type) {
    case FIELD_TYPE_SEED:
        return set_seed(f, path, text, v, err);
    case FIELD_TYPE_INT:
    case FIELD_TYPE_REAL:
        return number_from_text(f, path, text, v, err);
    case FIELD_TYPE_FLAG:
        v->i = !strcmp(text, "true");
        if (!v->i && strcmp(text, "false"))
            return dr_fail_field(err, DR_EINVAL, path, text, "true or false", NULL);
        return 0;
    case FIELD_TYPE_SIZE:
    case FIELD_TYPE_PAIR:
        return set_two(f, path, text, v, err);
    case FIELD_TYPE_NUMBERS:
        return request_numbers_from_text(path, text, v, err);
    default:
        if (is_path(f))
            return set_path_text(path, text, v, err);
        if (dr_check_utf8(text, strlen(text), path, err) < 0)
            return DR_EINVAL;
        return set_string(f, path, text, strlen(text), v, err);
    }
}

int request_set_text(struct request *r, enum field_id id, const char *text, struct dr_error *err)
{
    const struct field_info *f = &fields[id];
    char path[NAME_BYTES];
    snprintf(path, sizeof path, "%s%s", *f->option ? "--" : "", *f->option ? f->option : f->name);
    if (f->type == FIELD_TYPE_MAP) {
        int code = map_add(&r->value[id], path, text, err);
        r->value[id].set = r->value[id].map != NULL;
        return code;
    }
    if (f->type == FIELD_TYPE_SPECS) {
        int code = request_specs_add_text(f, path, text, &r->value[id], err);
        r->value[id].set = r->value[id].map != NULL;
        return code;
    }
    struct field_value v = { .set = true };
    int code = request_value_from_text(f, path, text, &v, err);
    if (code < 0) {
        request_value_clear(&v);
        return code;
    }
    request_value_clear(&r->value[id]);
    r->value[id] = v;
    return 0;
}

/* Names with paths as text. */
static json_t *map_json(const json_t *map)
{
    const char *key;
    json_t *item, *o = json_object();
    json_object_foreach((json_t *)map, key, item)
    {
        if (jx_set(o, key, path_text_json(json_string_value(item))) < 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

json_t *request_value_json(const struct field_info *f, const struct field_value *v)
{
    char two[48];
    switch (f->type) {
    case FIELD_TYPE_INT:
        return json_integer(v->i);
    case FIELD_TYPE_SEED:
        return v->j ? json_integer(-1) : jx_uint((uint64_t)v->i);
    case FIELD_TYPE_REAL:
        return json_real(v->real);
    case FIELD_TYPE_FLAG:
        return json_boolean(v->i);
    case FIELD_TYPE_SIZE:
    case FIELD_TYPE_PAIR:
        snprintf(two, sizeof two, "%" PRId64 "%c%" PRId64, v->i,
                 f->type == FIELD_TYPE_SIZE ? 'x' : ',', v->j);
        return json_string(two);
    case FIELD_TYPE_MAP:
        return map_json(v->map);
    case FIELD_TYPE_SPECS:
        return request_specs_json(f, v);
    case FIELD_TYPE_NUMBERS:
        return request_numbers_json(v);
    default:
        return request_text_json(f, v->text);
    }
}

json_t *request_json(const struct request *r)
{
    json_t *object = json_object();
    for (int i = 0; object && i < FIELD_COUNT; i++) {
        if (r->value[i].set &&
            jx_set(object, fields[i].name, request_value_json(&fields[i], &r->value[i])) < 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

bool request_has(const struct request *r, enum field_id id)
{
    return r->value[id].set;
}

void request_unset(struct request *r, enum field_id id)
{
    request_value_clear(&r->value[id]);
}

int64_t request_int(const struct request *r, enum field_id id)
{
    return r->value[id].set ? r->value[id].i : strtoll(fields[id].dflt, NULL, 10);
}

bool request_seed(const struct request *r, uint64_t *ret_seed)
{
    const struct field_value *v = &r->value[FIELD_seed];
    *ret_seed = (uint64_t)v->i;
    return v->set && !v->j;
}

double request_real(const struct request *r, enum field_id id)
{
    return r->value[id].set ? r->value[id].real : strtod(fields[id].dflt, NULL);
}

bool request_flag(const struct request *r, enum field_id id)
{
    return r->value[id].set ? r->value[id].i : !strcmp(fields[id].dflt, "true");
}

const char *request_text(const struct request *r, enum field_id id)
{
    return r->value[id].set ? r->value[id].text : fields[id].dflt;
}
