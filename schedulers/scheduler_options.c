/* scheduler_options.c - see scheduler_options.h. */
#include "schedulers/scheduler_options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "schedulers/schedules.h"

static int count_rows(const struct sched_option *options)
{
    int n = 0;
    while (options && options[n].name)
        n++;
    return n;
}

static int find_row(const struct sched_option *options, const char *name)
{
    for (int i = 0; i < count_rows(options); i++)
        if (!strcmp(options[i].name, name))
            return i;
    return -1;
}

int sched_option_count(const struct sched_info *info)
{
    return count_rows(info->options);
}

int sched_option_row(const struct sched_info *info, const char *name)
{
    return find_row(info->options, name);
}

double sched_eta(const struct sched_config *config)
{
    int row = sched_option_row(config->sampler, "eta");
    return row < 0 ? 0 : config->option[row];
}

static int fail_range(const struct sched_option *o, const char *path, const char *got,
                      struct dr_error *err)
{
    char expected[80];
    if (o->names)
        return dr_fail_choice(err, DR_EINVAL, path, got, o->names, (size_t)o->hi + 1);
    snprintf(expected, sizeof expected, "%s from %.9g to %.9g",
             o->whole ? "an integer" : "a number", o->lo, o->hi);
    return dr_fail_field(err, DR_EINVAL, path, got, expected, NULL);
}

static bool in_range(const struct sched_option *o, double v)
{
    return v >= o->lo && v <= o->hi && (!o->whole || v == floor(v));
}

/* "eta: not used by euler (samplers that take it: euler_a, ddim)" */
static int fail_eta(const struct sched_info *sampler, const char *got, struct dr_error *err)
{
    char takers[400] = "";
    size_t n, used = 0;
    const struct sched_info *const *all = sched_all(&n);
    for (size_t i = 0; i < n && used < sizeof takers; i++)
        if (sched_option_row(all[i], "eta") >= 0)
            used += (size_t)snprintf(takers + used, sizeof takers - used, "%s%s", used ? ", " : "",
                                     all[i]->name);
    int r = dr_fail_field(err, DR_EINVAL, "eta", got, "none", NULL);
    if (err)
        snprintf(err->text, sizeof err->text, "eta: not used by %s (samplers that take it: %s)",
                 sampler->name, takers);
    return r;
}

/* What an option belongs to. */
struct owner {
    const char *field, *name; /* "sampler", "euler" */
    const struct sched_option *options;
    double *value; /* by row */
};

static int fail_unknown(const struct owner *of, const char *path, const char *key,
                        struct dr_error *err)
{
    const char *names[SCHED_MAX_OPTIONS];
    char list[160] = "";
    int n = count_rows(of->options);
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        names[i] = of->options[i].name;
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "it has ",
                                     names[i]);
    }
    const char *near = dr_nearest(key, names, (size_t)n);
    int r = dr_fail(err, DR_EINVAL, "%s: %s has no option %.80s (%s%s%s%s)", of->field, of->name,
                    key, near ? "nearest: " : "", near ? near : "", near ? "; " : "",
                    n ? list : "it has none");
    if (err) {
        snprintf(err->path, sizeof err->path, "%s", path);
        snprintf(err->got, sizeof err->got, "%.80s", key);
        snprintf(err->expected, sizeof err->expected, "%s", n ? list + 7 : "no options");
    }
    return r;
}

/* The value that is spelled so; NaN: none. */
static double named_value(const struct sched_option *o, const char *name)
{
    for (int i = 0; o->names[i]; i++)
        if (!strcmp(name, o->names[i]))
            return i;
    return NAN;
}

/* A value of an option's kind as text; NaN: it is none. */
static double value_of(const struct sched_option *o, const char *text)
{
    char *end;
    if (o->names)
        return named_value(o, text);
    errno = 0;
    double v = strtod(text, &end);
    bool whole_text = end != text && !*end && !text[strspn(text, "0123456789+-.eE")];
    return whole_text && !errno && in_range(o, v) ? v : NAN;
}

const char *sched_option_text(const struct sched_option *o, double value,
                              char dst[SCHED_OPTION_TEXT])
{
    snprintf(dst, SCHED_OPTION_TEXT, "%.9g", value);
    return o->names ? o->names[(int)value] : dst;
}

/* One option from text. */
static int read_option(const struct owner *of, const char *key, const char *text,
                       struct dr_error *err)
{
    char path[120];
    int row = find_row(of->options, key);
    snprintf(path, sizeof path, "%s.%.80s", of->field, key);
    if (row < 0)
        return fail_unknown(of, path, key, err);
    double v = value_of(&of->options[row], text);
    if (isnan(v))
        return fail_range(&of->options[row], path, text, err);
    of->value[row] = v;
    return 0;
}

/* The table's defaults, then what the spec says. */
static int read_options(const struct owner *of, const struct spec *spec, struct dr_error *err)
{
    int r = 0;
    memset(of->value, 0, SCHED_MAX_OPTIONS * sizeof *of->value);
    for (int i = 0; i < count_rows(of->options); i++)
        of->value[i] = of->options[i].dflt;
    for (int i = 0; !r && spec && i < spec->n; i++)
        r = read_option(of, spec->option[i].key, spec->option[i].value, err);
    return r;
}

int sched_schedule_options_apply(const struct spec *spec, struct sched_config *c,
                                 struct dr_error *err)
{
    struct owner of = { "schedule", c->schedule->name, c->schedule->options, c->schedule_option };
    return read_options(&of, spec, err);
}

int schedule_option_row(const struct schedule_info *info, const char *name)
{
    return find_row(info->options, name);
}

int schedule_option_count(const struct schedule_info *info)
{
    return count_rows(info->options);
}

/* The request's own field; `given`: the sampler's options had one too. */
static int read_eta(double eta, bool given, struct sched_config *c, struct dr_error *err)
{
    int row = sched_option_row(c->sampler, "eta");
    char got[32], expected[48];
    snprintf(got, sizeof got, "%.9g", eta);
    if (row < 0)
        return eta == 0 ? 0 : fail_eta(c->sampler, got, err);
    if (!in_range(&c->sampler->options[row], eta))
        return fail_range(&c->sampler->options[row], "eta", got, err);
    snprintf(expected, sizeof expected, "%.9g, as sampler.eta says", c->option[row]);
    if (given && c->option[row] != eta)
        return dr_fail_field(err, DR_EINVAL, "eta", got, expected, NULL);
    c->option[row] = eta;
    return 0;
}

int sched_options_apply(const struct spec *spec, double eta, struct sched_config *c,
                        struct dr_error *err)
{
    struct owner of = { "sampler", c->sampler->name, c->sampler->options, c->option };
    bool eta_given = false;
    int r = read_options(&of, spec, err);
    for (int i = 0; spec && i < spec->n; i++)
        eta_given |= !strcmp(spec->option[i].key, "eta");
    return r || isnan(eta) ? r : read_eta(eta, eta_given, c, err);
}

static bool has_option(const struct spec *spec, const char *key)
{
    for (int i = 0; spec && i < spec->n; i++)
        if (!strcmp(spec->option[i].key, key))
            return true;
    return false;
}

int sched_options_from_file(const json_t *file, const struct spec *spec, struct sched_config *c,
                            struct dr_error *err)
{
    static const char name[] = "scheduler_config.json";
    int r = 0;
    for (int i = 0; !r && i < sched_option_count(c->sampler); i++) {
        const struct sched_option *o = &c->sampler->options[i];
        double v = c->option[i];
        char path[96], got[32];
        if (has_option(spec, o->name))
            continue;
        if (o->names) { /* values without a name are those that `fixed` lets pass */
            const char *text = json_string_value(json_object_get(file, o->name));
            double named = text ? named_value(o, text) : NAN;
            c->option[i] = isnan(named) ? c->option[i] : named;
            continue;
        }
        r = jx_opt_number(file, name, o->name, &v, err);
        snprintf(path, sizeof path, "%s: %s", name, o->name);
        snprintf(got, sizeof got, "%.9g", v);
        if (!r && !in_range(o, v))
            r = fail_range(o, path, got, err);
        c->option[i] = v;
    }
    return r;
}

int sched_option_table_check(const char *kind, const char *line, const struct sched_option *options,
                             struct dr_error *err)
{
    int n = count_rows(options);
    if (n > SCHED_MAX_OPTIONS)
        return dr_fail(err, DR_EINTERNAL, "%s %s: member options has %d rows, at most %d fit", kind,
                       line, n, SCHED_MAX_OPTIONS);
    for (int i = 0; i < n; i++) {
        const struct sched_option *o = &options[i];
        int spelled = 0;
        while (o->names && o->names[spelled])
            spelled++;
        if (o->names && (!o->whole || o->lo != 0 || o->hi != spelled - 1))
            return dr_fail(err, DR_EINTERNAL,
                           "%s %s: member options: %s has %d names for its values", kind, line,
                           o->name, spelled);
        if (!in_range(o, o->dflt) || !o->help || find_row(options, o->name) != i)
            return dr_fail(err, DR_EINTERNAL,
                           "%s %s: member options: %s has a default out of its range, no "
                           "help, or a second row",
                           kind, line, o->name);
    }
    return 0;
}

int sched_options_check(const struct sched_info *info, const char *line, struct dr_error *err)
{
    int eta = sched_option_row(info, "eta");
    int r = sched_option_table_check("sampler", line, info->options, err);
    if (r)
        return r;
    if (eta >= 0 && info->noise == SCHED_NOISE_NONE)
        return dr_fail(err, DR_EINTERNAL,
                       "sampler %s: members noise and options: noise is missing beside eta", line);
    if (info->rule == SCHED_RULE_CONSISTENCY && sched_option_row(info, SCHED_ORIGINAL_STEPS) < 0)
        return dr_fail(err, DR_EINTERNAL, "sampler %s: members rule and options: no option %s",
                       line, SCHED_ORIGINAL_STEPS);
    return 0;
}
