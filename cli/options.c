/* options.c - see options.h. */
#include "cli/options.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"

enum { NAME_BYTES = 64, NAMES = 128 };

struct parser {
    const struct option_info *table;
    int n;
    int argc, at; /* the argument after the one being read */
    char *const *argv;
    bool unknown; /* the last option, and nothing was joined to it */
    option_fn fn;
    void *ctx;
};

int option_choice(const char **text, const char **ret_name)
{
    const char *p = *text;
    if (!*p)
        return 0;
    *ret_name = p;
    int n = (int)strcspn(p, "|=");
    p += strcspn(p, "|");
    *text = p + (*p == '|');
    return n;
}

static const struct option_info *find_long(const struct parser *p, const char *name, size_t len)
{
    for (int i = 0; i < p->n; i++)
        if (strlen(p->table[i].name) == len && !memcmp(p->table[i].name, name, len))
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

/* The text names the option; so does the path, for who reads JSON. */
static int name_it(const char *option, int code, struct dr_error *err)
{
    if (err)
        snprintf(err->path, sizeof err->path, "%s", option);
    return code;
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

static int fail_unknown(struct parser *p, const char *shown, bool joined, struct dr_error *err)
{
    const char *name = shown + 2;
    p->unknown = !joined;
    const char *names[NAMES];
    int n = p->n < NAMES ? p->n : NAMES;
    for (int i = 0; i < n; i++)
        names[i] = p->table[i].name;
    const char *near = dr_nearest(name, names, (size_t)n);
    int r = dr_fail(err, DR_EINVAL, "--%s: no such option%s%s%s", name, near ? " (nearest: --" : "",
                    near ? near : "", near ? ")" : "");
    return name_it(shown, r, err);
}

static int fail_value(const char *option, const struct option_info *o, struct dr_error *err)
{
    char expected[NAME_BYTES];
    snprintf(expected, sizeof expected, "a value, %s", o->value);
    return dr_fail_field(err, DR_EINVAL, option, "nothing", expected, NULL);
}

/* The value of an option: what is joined to it, else the next argument. */
static int take_value(struct parser *p, const char *option, const struct option_info *o,
                      const char *joined, const char **ret_value, struct dr_error *err)
{
    if (!joined && p->at == p->argc)
        return fail_value(option, o, err);
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
    return r < 0 ? r : p->fn(p->ctx, o, value, err);
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
            int r = p->fn(p->ctx, o, NULL, err);
            if (r < 0)
                return r;
            continue;
        }
        int r = take_value(p, shown, o, c[1] ? c + 1 : NULL, &value, err);
        return r < 0 ? r : p->fn(p->ctx, o, value, err);
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
