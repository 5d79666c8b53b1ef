/* spec.c - see spec.h. */
#include "base/spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* Cuts the part at `text` off at the next single comma, doubled ones made single; returns what
 * follows, NULL after the last part. */
static char *cut(char *text)
{
    char *to = text;
    for (char *p = text; *p; p++) {
        if (*p == ',' && p[1] != ',') {
            *to = '\0';
            return p + 1;
        }
        p += *p == ',';
        *to++ = *p;
    }
    *to = '\0';
    return NULL;
}

static int add_option(const char *field, char *part, struct spec *s, struct dr_error *err)
{
    char path[160], *eq = strchr(part, '=');
    if (!eq || eq == part)
        return dr_fail_field(err, DR_EINVAL, field, part, "key=value after a comma",
                             "a comma inside a value is doubled");
    *eq = '\0';
    snprintf(path, sizeof path, "%.60s.%.80s", field, part);
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->option[i].key, part))
            return dr_fail_field(err, DR_EINVAL, path, eq + 1, "each option once", NULL);
    if (s->n == SPEC_OPTIONS)
        return dr_fail_field(err, DR_ELIMIT, path, eq + 1, "fewer options", NULL);
    s->option[s->n].key = part;
    s->option[s->n++].value = eq + 1;
    return 0;
}

int spec_parse(const char *field, const char *text, struct spec *ret, struct dr_error *err)
{
    struct spec s = { .text = dr_strdup(DR_TAG_BASE, text) };
    if (!s.text)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory", field);
    int r = 0;
    char *next = cut(s.text);
    s.value = s.text;
    while (!r && next) {
        char *part = next;
        next = cut(part);
        r = add_option(field, part, &s, err);
    }
    if (r < 0)
        spec_release(&s);
    else
        *ret = s;
    return r;
}

void spec_release(struct spec *spec)
{
    dr_free(spec->text);
    memset(spec, 0, sizeof *spec);
}

int spec_write(const char *value, struct buf *dst)
{
    int r = 0;
    for (; !r && *value; value++) {
        r = buf_putc(dst, *value);
        if (!r && *value == ',')
            r = buf_putc(dst, ',');
    }
    return r;
}

static int append_member(const char *field, const char *key, const json_t *value, bool first,
                         struct buf *dst, struct dr_error *err)
{
    char path[160];
    struct buf number;
    const char *text = json_string_value(value);
    bool scalar = text || json_is_number(value) || json_is_boolean(value);
    snprintf(path, sizeof path, "%.60s.%.80s", field, key);
    if (!scalar || jx_literal(value))
        return dr_fail_field(err, DR_EINVAL, path, jx_kind(value), "text, a number or a boolean",
                             NULL);
    if ((text && strlen(text) != json_string_length(value)) || !*key || strpbrk(key, ",="))
        return dr_fail_field(err, DR_EINVAL, path, NULL,
                             "a name without , and =, and text without NUL characters", NULL);
    buf_init(&number, DR_TAG_BASE, 0);
    int r = text ? 0 : jx_dump(value, &number);
    if (!r)
        r = first ? 0 : buf_printf(dst, ",%s=", key);
    if (!r)
        r = spec_write(text ? text : buf_text(&number), dst);
    buf_free(&number);
    return r < 0 ? dr_fail(err, r, "%s: %s", path, dr_code_meaning(r)) : 0;
}

int spec_from_json(const char *field, const char *main_key, const json_t *object, struct buf *dst,
                   struct dr_error *err)
{
    char path[160];
    const char *key;
    json_t *value, *first = json_object_get(object, main_key);
    snprintf(path, sizeof path, "%.60s.%.80s", field, main_key);
    if (!json_is_string(first))
        return dr_fail_field(err, DR_EINVAL, path, first ? jx_kind(first) : "nothing", "a string",
                             NULL);
    int r = append_member(field, main_key, first, true, dst, err);
    json_object_foreach((json_t *)object, key, value)
    {
        if (!r && strcmp(key, main_key) != 0 && !json_is_null(value))
            r = append_member(field, key, value, false, dst, err);
    }
    return r;
}

/* "0.80" and "8e-1" */
static bool same_value(const char *a, const char *b)
{
    char *a_end, *b_end;
    double x = strtod(a, &a_end), y = strtod(b, &b_end);
    bool numbers = *a && *b && !*a_end && !*b_end;
    return numbers ? x == y : !strcmp(a, b);
}

static bool has_option(const struct spec *s, const char *key, const char *value)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->option[i].key, key))
            return same_value(s->option[i].value, value);
    return false;
}

bool spec_equal(const char *a, const char *b)
{
    struct spec x = { .n = 0 }, y = { .n = 0 };
    bool same = !strcmp(a, b);
    if (!same && !spec_parse("", a, &x, NULL) && !spec_parse("", b, &y, NULL)) {
        same = x.n == y.n && !strcmp(x.value, y.value);
        for (int i = 0; i < x.n; i++)
            same = same && has_option(&y, x.option[i].key, x.option[i].value);
    }
    spec_release(&x);
    spec_release(&y);
    return same;
}
