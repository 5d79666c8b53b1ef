/* options.c - see options.h. */
#include "cli/options.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "base/words.h"
#include "core/communication/request.h"

enum { NAME_BYTES = OPTION_NAME_BYTES, NAMES = 256 };

/* How an option was given last. */
struct given {
    char spelled[NAME_BYTES]; /* with its dashes; "": not yet */
    bool letter;
    const char *value;
};

struct parser {
    const struct option_info *table;
    int n;
    int argc, at; /* the argument after the one being read */
    char *const *argv;
    bool unknown; /* the last option was unknown, without a joined value */
    struct given given[NAMES];
    option_fn fn;
    void *ctx;
};

int option_choice(const char **text, const char **ret_name)
{
    struct dr_word rest = word_all(*text), choice;
    if (!word_next(&rest, '|', &choice))
        return 0;
    struct dr_word canonical = word_first(choice, '=');
    *text = rest.at;
    *ret_name = canonical.at;
    return (int)canonical.n;
}

static char dashed(char c)
{
    return c == '_' ? '-' : c;
}

static bool same_name(const char *a, size_t a_len, const char *b, size_t b_len)
{
    bool same = a_len == b_len;
    for (size_t i = 0; same && i < a_len; i++)
        same = dashed(a[i]) == dashed(b[i]);
    return same;
}

int option_alias(const struct option_info *o, const char **state, const char **ret_name)
{
    const char *p = *state;
    if (!p) {
        *state = o->aliases ? o->aliases : "";
        *ret_name = o->field;
        size_t n = o->field ? strlen(o->field) : 0;
        if (n && !same_name(o->field, n, o->name, strlen(o->name)))
            return (int)n;
        p = *state;
    }
    struct dr_word rest = word_all(p), alias;
    while (word_next(&rest, ' ', &alias)) {
        *ret_name = alias.at;
        *state = rest.at;
        if (!memchr(alias.at, '.', alias.n) &&
            !same_name(alias.at, alias.n, o->name, strlen(o->name)))
            return (int)alias.n;
    }
    return 0;
}

bool option_has_name(const struct option_info *o, const char *name, size_t len)
{
    const char *state = NULL, *alias;
    if (same_name(o->name, strlen(o->name), name, len))
        return true;
    for (int n; (n = option_alias(o, &state, &alias));)
        if (same_name(alias, (size_t)n, name, len))
            return true;
    return false;
}

static const struct option_info *find_long(const struct parser *p, const char *name, size_t len)
{
    for (int i = 0; i < p->n; i++)
        if (option_has_name(&p->table[i], name, len))
            return &p->table[i];
    return NULL;
}

static const struct option_info *find_letter(const struct parser *p, char letter)
{
    for (int i = 0; i < p->n; i++)
        if (p->table[i].letter && p->table[i].letter == letter)
            return &p->table[i];
    return NULL;
}

/* The text names the option; so does the path, for readers of JSON. */
static int name_it(const char *option, int code, struct dr_error *err)
{
    if (err)
        snprintf(err->path, sizeof err->path, "%s", option);
    return code;
}

static void add_word(char words[][NAME_BYTES], const char **names, size_t *n, const char *word,
                     int len)
{
    if (*n == NAMES)
        return;
    for (int i = 0; i < len && i < NAME_BYTES - 1; i++)
        words[*n][i] = dashed(word[i]);
    words[*n][len < NAME_BYTES - 1 ? len : NAME_BYTES - 1] = '\0';
    names[*n] = words[*n];
    ++*n;
}

bool option_nearest(const struct option_info *table, int n, const char *word,
                    char dst[OPTION_NAME_BYTES])
{
    char words[NAMES][NAME_BYTES];
    const char *names[NAMES];
    size_t count = 0;
    for (int i = 0; i < n; i++) {
        const char *state = NULL, *alias;
        add_word(words, names, &count, table[i].name, (int)strlen(table[i].name));
        for (int len; (len = option_alias(&table[i], &state, &alias));)
            add_word(words, names, &count, alias, len);
    }
    const char *near = dr_nearest(word, names, count);
    snprintf(dst, OPTION_NAME_BYTES, "%s", near ? near : "");
    return near != NULL;
}

int option_fail(struct dr_error *err, int code, const char *option, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return name_it(option, dr_fail(err, code, "%s: %s", option, text), err);
}

/* Whether other programs have a field of this name, and Darkroom does not yet. */
static bool is_others(const char *option)
{
    char field[NAME_BYTES];
    snprintf(field, sizeof field, "%s", option);
    for (char *c = field; *c; c++)
        *c = *c == '-' ? '_' : *c;
    return request_unsupported(field);
}

static int fail_unknown(struct parser *p, const char *shown, bool joined, struct dr_error *err)
{
    char near[OPTION_NAME_BYTES];
    bool found = option_nearest(p->table, p->n, shown + 2, near);
    p->unknown = !joined;
    if (is_others(shown + 2))
        return name_it(shown, dr_fail(err, DR_EINVAL, "%s: not supported by darkroom yet", shown),
                       err);
    int r = dr_fail(err, DR_EINVAL, "%s: no such option%s%s%s", shown, found ? " (nearest: --" : "",
                    near, found ? ")" : "");
    return name_it(shown, r, err);
}

/* "5" and "5.0" are one number. */
static bool same_value(const char *a, const char *b)
{
    char *a_end, *b_end;
    if (!a || !b || !strcmp(a, b))
        return true;
    double x = strtod(a, &a_end), y = strtod(b, &b_end);
    return a_end != a && b_end != b && !*a_end && !*b_end && x == y;
}

/* Passes an option to the caller. If it was given before under another name, both values must be
 * the same; a letter counts as the table's name. */
static int hand_on(struct parser *p, const struct option_info *o, const char *spelled,
                   const char *value, struct dr_error *err)
{
    struct given *g = &p->given[o - p->table];
    const char *name = spelled[1] == '-' ? spelled + 2 : o->name;
    const char *before = g->letter ? o->name : g->spelled + 2;
    if (*g->spelled && !same_name(name, strlen(name), before, strlen(before)) &&
        !same_value(value, g->value)) {
        char expected[2 * NAME_BYTES];
        snprintf(expected, sizeof expected, "the value of %s, which is the same option",
                 g->spelled);
        return dr_fail_field(err, DR_EINVAL, spelled, value, expected, NULL);
    }
    g->letter = spelled[1] != '-';
    snprintf(g->spelled, sizeof g->spelled, "%s", spelled);
    g->value = value;
    return p->fn(p->ctx, o, value, err);
}

static int fail_value(const char *option, const struct option_info *o, struct dr_error *err)
{
    char expected[NAME_BYTES];
    snprintf(expected, sizeof expected, "a value, %s", o->value);
    return dr_fail_field(err, DR_EINVAL, option, "nothing", expected, NULL);
}

/* A value was forgotten if an option follows in its place. */
static bool is_option(const struct parser *p, const char *arg)
{
    return !strncmp(arg, "--", 2) && find_long(p, arg + 2, strcspn(arg + 2, "="));
}

static int fail_option(const char *option, const struct option_info *o, const char *arg,
                       struct dr_error *err)
{
    char expected[NAME_BYTES], hint[2 * NAME_BYTES];
    snprintf(expected, sizeof expected, "a value, %s", o->value);
    snprintf(hint, sizeof hint, "write --%s=%.60s if that is meant", o->name, arg);
    return dr_fail_field(err, DR_EINVAL, option, arg, expected, hint);
}

/* The value of an option: what is joined to it, else the next argument. */
static int take_value(struct parser *p, const char *option, const struct option_info *o,
                      const char *joined, const char **ret_value, struct dr_error *err)
{
    if (!joined && p->at == p->argc)
        return fail_value(option, o, err);
    if (!joined && is_option(p, p->argv[p->at]))
        return fail_option(option, o, p->argv[p->at], err);
    *ret_value = joined ? joined : p->argv[p->at++];
    return 0;
}

static int read_long(struct parser *p, const char *arg, struct dr_error *err)
{
    char shown[NAME_BYTES];
    const char *name = arg + 2, *value = NULL;
    size_t len = strcspn(name, "=");
    const char *joined = name[len] ? name + len + 1 : NULL;
    const struct option_info *o = find_long(p, name, len);
    snprintf(shown, sizeof shown, "--%.*s", (int)(len < 60 ? len : 60), name);
    if (!o)
        return fail_unknown(p, shown, joined != NULL, err);
    if (!o->value && joined)
        return dr_fail_field(err, DR_EINVAL, shown, joined, "no value", NULL);
    int r = o->value ? take_value(p, shown, o, joined, &value, err) : 0;
    return r < 0 ? r : hand_on(p, o, shown, value, err);
}

static int read_letters(struct parser *p, const char *arg, struct dr_error *err)
{
    for (const char *c = arg + 1; *c; c++) {
        char shown[3] = { '-', *c, '\0' };
        const char *value = NULL;
        const struct option_info *o = find_letter(p, *c);
        if (!o) {
            p->unknown = !c[1];
            const char *option = isprint((unsigned char)*c) ? shown : arg;
            return name_it(option, dr_fail(err, DR_EINVAL, "%s: no such option", option), err);
        }
        if (!o->value) {
            int r = hand_on(p, o, shown, NULL, err);
            if (r < 0)
                return r;
            continue;
        }
        int r = take_value(p, shown, o, c[1] ? c + 1 : NULL, &value, err);
        return r < 0 ? r : hand_on(p, o, shown, value, err);
    }
    return 0;
}

static bool is_number(const char *arg)
{
    const char *digit = arg + 1 + (arg[1] == '.');
    return isdigit((unsigned char)*digit);
}

int options_parse(const struct option_info *table, int n, int argc, char *const *argv, option_fn fn,
                  void *ctx, struct error_list *list, struct dr_error *err)
{
    struct parser p = { .table = table, .n = n, .argc = argc, .argv = argv, .fn = fn, .ctx = ctx };
    bool options = true;
    while (p.at < argc) {
        const char *arg = argv[p.at++];
        int r;
        if (options && !strcmp(arg, "--")) {
            options = false;
            continue;
        }
        if (!options || arg[0] != '-' || !arg[1] || (is_number(arg) && !find_letter(&p, arg[1])))
            r = fn(ctx, NULL, arg, err);
        else
            r = arg[1] == '-' ? read_long(&p, arg, err) : read_letters(&p, arg, err);
        if (r < 0 && (r = error_list_go_on(list, r, err)) < 0)
            return r;
        if (p.unknown && p.at < argc && argv[p.at][0] != '-')
            p.at++;
        p.unknown = false;
    }
    return 0;
}
