/* sampler_names.c - see sampler_names.h. */
#include "inference/sampler_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"
#include "schedulers/names.h"

enum { LIST_BYTES = 160, NAMES = 128, NAME_BYTES = 128, SHOWN = 6 };

struct names {
    const char *sampler, *schedule, *scheduler;
};

static int clash(const char *scheduler, const char *field, const char *name, struct dr_error *err)
{
    char expected[160];
    snprintf(expected, sizeof expected, "what agrees with %s %.80s", field, name);
    int r = dr_fail_field(err, DR_EINVAL, "scheduler", scheduler, expected, NULL);
    if (err)
        snprintf(err->text, sizeof err->text, "scheduler: %.80s contradicts %s %.80s", scheduler,
                 field, name);
    return r;
}

/* The name of one of a list whose first SHOWN are shown. */
static size_t list_name(size_t i, const char *name, char *dst, size_t size, size_t used)
{
    if (i > SHOWN || used >= size)
        return used;
    return used + (size_t)snprintf(dst + used, size - used, "%s%s", i ? ", " : "",
                                   i < SHOWN ? name : "...");
}

/* Lists schedules, and samplers too where one would do. */
static int fail_unknown(const char *scheduler, bool samplers, struct dr_error *err)
{
    char list[LIST_BYTES] = "", others[LIST_BYTES] = "", got[80];
    const char *names[NAMES];
    size_t n = 0, count, used = 0;
    const struct schedule_info *const *schedules = schedule_all(&count);
    for (size_t i = 0; i < count && n < NAMES; i++) {
        names[n++] = schedules[i]->name;
        used = list_name(i, schedules[i]->name, list, sizeof list, used);
    }
    const struct sched_info *const *all = sched_all(&count);
    used = 0;
    for (size_t i = 0; samplers && i < count && n < NAMES; i++) {
        names[n++] = all[i]->name;
        used = list_name(i, all[i]->name, others, sizeof others, used);
    }
    const char *near = dr_nearest(scheduler, names, n);
    snprintf(got, sizeof got, "%s", scheduler);
    int r = dr_fail(err, DR_EINVAL, "scheduler: got %s, expected a noise schedule: %s%s%s%s%s%s",
                    got, list, samplers ? " or a sampler: " : "", others, near ? " (nearest: " : "",
                    near ? near : "", near ? ")" : "");
    if (!err)
        return r;
    sched_tell_elsewhere(scheduler, r, err);
    snprintf(err->path, sizeof err->path, "scheduler");
    snprintf(err->got, sizeof err->got, "%s", got);
    snprintf(err->expected, sizeof err->expected, "a noise schedule: %s", list);
    if (near)
        snprintf(err->hint, sizeof err->hint, "nearest: %s", near);
    return r;
}

/* The sampler of a text that may have options after the name. */
static const struct sched_info *find_sampler(const char *text,
                                             const struct schedule_info **ret_schedule)
{
    char name[NAME_BYTES];
    size_t n = strcspn(text, ",");
    if (n >= sizeof name)
        return NULL;
    snprintf(name, sizeof name, "%.*s", (int)n, text);
    return sched_find(name, ret_schedule);
}

/* Takes `schedule` for the request's, unless that has another. */
static int take_schedule(struct names *n, const struct schedule_info *schedule,
                         struct dr_error *err)
{
    const struct schedule_info *named = NULL;
    if (n->sampler && find_sampler(n->sampler, &named) && named && named != schedule)
        return clash(n->scheduler, "sampler", n->sampler, err);
    if (n->schedule && schedule_find_spec(n->schedule) != schedule)
        return clash(n->scheduler, "schedule", n->schedule, err);
    if (!n->schedule || !strchr(n->schedule, ',')) /* options stay */
        n->schedule = schedule->name;
    return 0;
}

static int beside_sampler(struct names *n, struct dr_error *err)
{
    const struct schedule_info *schedule = schedule_find(n->scheduler), *named = NULL;
    if (schedule)
        return take_schedule(n, schedule, err);
    const struct sched_info *same = find_sampler(n->scheduler, &named);
    if (!same)
        return fail_unknown(n->scheduler, false, err);
    const struct sched_info *sampler = find_sampler(n->sampler, &schedule);
    if (sampler && sampler != same) /* one that is unknown is an error of its own */
        return clash(n->scheduler, "sampler", n->sampler, err);
    return named ? take_schedule(n, named, err) : 0;
}

static int alone(struct names *n, struct dr_error *err)
{
    const struct schedule_info *schedule = NULL;
    if (find_sampler(n->scheduler, &schedule)) {
        n->sampler = n->scheduler;
        return schedule ? take_schedule(n, schedule, err) : 0;
    }
    schedule = schedule_find(n->scheduler);
    return schedule ? take_schedule(n, schedule, err) : fail_unknown(n->scheduler, true, err);
}

static const char *text_of(const struct request *q, enum field_id id)
{
    return request_has(q, id) ? request_text(q, id) : NULL;
}

int sampler_names(const struct request *q, const char **ret_sampler, const char **ret_schedule,
                  struct dr_error *err)
{
    struct names n = { text_of(q, FIELD_sampler), text_of(q, FIELD_schedule),
                       text_of(q, FIELD_scheduler) };
    int r = 0;
    if (n.scheduler && !sched_same_name(n.scheduler, "automatic"))
        r = n.sampler ? beside_sampler(&n, err) : alone(&n, err);
    const struct schedule_info *named = NULL;
    if (!n.sampler)
        n.sampler = text_of(q, FIELD_receipt_sampler);
    if (!n.schedule && !(n.sampler && find_sampler(n.sampler, &named) && named))
        n.schedule = text_of(q, FIELD_receipt_schedule);
    *ret_sampler = n.sampler;
    *ret_schedule = n.schedule;
    return r;
}

static double default_scale(const struct sched_info *sampler, double usual)
{
    double own = sampler && sampler->cfg > 0 ? sampler->cfg : usual;
    return own > 0 ? own : strtod(field_info(FIELD_guidance_scale)->dflt, NULL);
}

double sampler_guidance_scale(const struct request *q, const struct sched_info *sampler,
                              double usual)
{
    const char *before = text_of(q, FIELD_receipt_sampler);
    const struct schedule_info *schedule;
    if (request_has(q, FIELD_guidance_scale))
        return request_real(q, FIELD_guidance_scale);
    double receipt = request_real(q, FIELD_receipt_guidance_scale);
    bool stays = request_has(q, FIELD_receipt_guidance_scale) &&
                 !(before && receipt == default_scale(find_sampler(before, &schedule), usual));
    return stays ? receipt : default_scale(sampler, usual);
}
