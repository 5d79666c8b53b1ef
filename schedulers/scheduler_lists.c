/* scheduler_lists.c - see scheduler_lists.h. */
#include "schedulers/scheduler_lists.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/numbers.h"
#include "schedulers/scheduler_factory.h"

/* "sampler lms takes no timesteps (samplers that do: euler, heun)" */
static int fail_sampler(const char *field, enum sched_lists kind, const char *text,
                        const struct sched_config *c, struct dr_error *err)
{
    char takers[200] = "";
    size_t n, used = 0;
    const struct sched_info *const *all = sched_all(&n);
    for (size_t i = 0; i < n && used < sizeof takers; i++)
        if (all[i]->lists & kind)
            used += (size_t)snprintf(takers + used, sizeof takers - used, "%s%s", used ? ", " : "",
                                     all[i]->name);
    int r = dr_fail_field(err, DR_EINVAL, field, text, "none", NULL);
    if (err)
        snprintf(err->text, sizeof err->text, "%s: %s takes no list of them (samplers that do: %s)",
                 field, c->sampler->name, takers);
    return r;
}

static int fail_entry(const char *field, int i, double v, const char *expected,
                      struct dr_error *err)
{
    char got[64];
    snprintf(got, sizeof got, "%.9g as number %d", v, i + 1);
    return dr_fail_field(err, DR_EINVAL, field, got, expected, NULL);
}

/* Falling, as float32, which is what a run computes with. */
static int check_falling(const char *field, const struct sched_config *c, struct dr_error *err)
{
    for (int i = 1; i < c->steps; i++)
        if (!(c->level[i] < c->level[i - 1]))
            return fail_entry(field, i, c->level[i], "falling numbers", err);
    return 0;
}

static int check_timesteps(const char *field, const struct sched_config *c, struct dr_error *err)
{
    char expected[64];
    bool whole = c->sampler->rule != SCHED_RULE_EULER;
    snprintf(expected, sizeof expected, "%s from 0 to %d", whole ? "integers" : "numbers",
             c->train_steps - 1);
    for (int i = 0; i < c->steps; i++) {
        float v = c->level[i];
        if (!(v >= 0 && v <= (float)(c->train_steps - 1)) || (whole && v != floorf(v)))
            return fail_entry(field, i, v, expected, err);
    }
    return check_falling(field, c, err);
}

static int check_sigmas(const char *field, const struct sched_config *c, struct dr_error *err)
{
    for (int i = 0; i < c->steps; i++)
        if (!(c->level[i] > 0 && c->level[i] < INFINITY))
            return fail_entry(field, i, c->level[i], "numbers above 0, or 0 as the last", err);
    return check_falling(field, c, err);
}

int sched_list_read(const char *field, const char *text, struct sched_config *c,
                    struct dr_error *err)
{
    bool sigmas = !strcmp(field, "sigmas");
    enum sched_lists kind = sigmas ? SCHED_LISTS_SIGMAS : SCHED_LISTS_TIMESTEPS;
    double number[SCHED_MAX_LISTED + 1];
    int n = 0;
    if (!(c->sampler->lists & kind))
        return fail_sampler(field, kind, text, c, err);
    int r = numbers_parse(field, text, number, SCHED_MAX_LISTED + sigmas, &n, err);
    if (r < 0)
        return r;
    n -= sigmas && n > 1 && number[n - 1] == 0;
    if (n > SCHED_MAX_LISTED || n > c->train_steps) {
        char got[32], expected[48];
        snprintf(got, sizeof got, "%d numbers", n);
        snprintf(expected, sizeof expected, "at most %d",
                 c->train_steps < SCHED_MAX_LISTED ? c->train_steps : SCHED_MAX_LISTED);
        return dr_fail_field(err, DR_ELIMIT, field, got, expected, NULL);
    }
    for (int i = 0; i < n; i++)
        c->level[i] = (float)number[i];
    c->steps = n;
    c->listed = sigmas ? SCHED_LISTED_SIGMAS : SCHED_LISTED_TIMESTEPS;
    return sigmas ? check_sigmas(field, c, err) : check_timesteps(field, c, err);
}
