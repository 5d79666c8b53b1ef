/* scheduler_factory.c - see scheduler_factory.h. */
#include "schedulers/scheduler_factory.h"

#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "schedulers/scheduler_impl.h"

static const struct sched_info *const all[] = {
#define X(name) &sched_##name,
#include "schedulers/schedulers.def"
#undef X
};

enum { COUNT = sizeof all / sizeof *all, MAX_NAMES = 64, MAX_NAME = 64 };

const struct sched_info *const *sched_all(size_t *ret_n)
{
    *ret_n = COUNT;
    return all;
}

/* Lower case without ' ', '-', '_'; false when it does not fit. */
static bool fold(const char *name, char dst[MAX_NAME])
{
    size_t n = 0;
    for (const char *p = name; *p; p++) {
        if (*p == ' ' || *p == '-' || *p == '_')
            continue;
        if (n + 1 >= MAX_NAME)
            return false;
        dst[n++] = *p >= 'A' && *p <= 'Z' ? (char)(*p + 'a' - 'A') : *p;
    }
    dst[n] = '\0';
    return true;
}

bool sched_same_name(const char *a, const char *b)
{
    char fa[MAX_NAME], fb[MAX_NAME];
    return fold(a, fa) && fold(b, fb) && !strcmp(fa, fb);
}

static bool has_name(const struct sched_info *info, const char *name)
{
    if (sched_same_name(name, info->name) || sched_same_name(name, info->title) ||
        sched_same_name(name, info->diffusers))
        return true;
    for (const char *const *alias = info->aliases; *alias; alias++) {
        if (sched_same_name(name, *alias))
            return true;
    }
    return false;
}

static const struct sched_info *find(const char *name)
{
    for (size_t i = 0; i < COUNT; i++) {
        if (has_name(all[i], name))
            return all[i];
    }
    return NULL;
}

/* The sampler before a schedule's name at the end of a folded name. */
static const struct sched_info *find_with_schedule(const char *folded,
                                                   const struct schedule_info **ret_schedule)
{
    size_t n, length = strlen(folded);
    const struct schedule_info *const *schedules = schedule_all(&n);
    for (size_t i = 0; i < n; i++) {
        char end[MAX_NAME], start[MAX_NAME];
        if (!fold(schedules[i]->name, end))
            continue;
        size_t end_length = strlen(end);
        if (length <= end_length || strcmp(folded + length - end_length, end))
            continue;
        memcpy(start, folded, length - end_length);
        start[length - end_length] = '\0';
        const struct sched_info *info = find(start);
        if (info) {
            *ret_schedule = schedules[i];
            return info;
        }
    }
    return NULL;
}

const struct sched_info *sched_find(const char *name, const struct schedule_info **ret_schedule)
{
    char folded[MAX_NAME];
    if (name[0] == 'k' && name[1] == '_')
        name += 2;
    if (!fold(name, folded))
        return NULL;
    const struct sched_info *info = find(folded);
    if (ret_schedule)
        *ret_schedule = NULL;
    return info || !ret_schedule ? info : find_with_schedule(folded, ret_schedule);
}

/* Every spelling, for the nearest; owner[i] is whose name[i] is. */
static size_t spellings(const char *names[MAX_NAMES], const struct sched_info *owners[MAX_NAMES])
{
    size_t n = 0;
    for (size_t i = 0; i < COUNT; i++) {
        const char *own[] = { all[i]->name, all[i]->title, all[i]->diffusers };
        for (size_t k = 0; k < 3 && n < MAX_NAMES; k++, n++) {
            names[n] = own[k];
            owners[n] = all[i];
        }
        for (const char *const *alias = all[i]->aliases; *alias && n < MAX_NAMES; alias++, n++) {
            names[n] = *alias;
            owners[n] = all[i];
        }
    }
    return n;
}

int sched_lookup(const char *field, const char *name, const struct sched_info **ret_sampler,
                 const struct schedule_info **ret_schedule, struct dr_error *err)
{
    const struct sched_info *found = sched_find(name, ret_schedule);
    if (found) {
        *ret_sampler = found;
        return 0;
    }
    const char *names[MAX_NAMES];
    const struct sched_info *owners[MAX_NAMES];
    char expected[200], hint[96] = "";
    size_t n = spellings(names, owners);
    const char *near = dr_nearest(name, names, n);
    for (size_t i = 0; near && i < n; i++) {
        if (names[i] == near)
            snprintf(hint, sizeof hint, "nearest: %s", owners[i]->name);
    }
    size_t used = (size_t)snprintf(expected, sizeof expected, "one of");
    for (size_t i = 0; i < COUNT && used < sizeof expected; i++)
        used += (size_t)snprintf(expected + used, sizeof expected - used, "%s %s", i ? "," : "",
                                 all[i]->name);
    return dr_fail_field(err, DR_EINVAL, field, name, expected, near ? hint : NULL);
}
