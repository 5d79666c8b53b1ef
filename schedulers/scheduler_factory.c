/* scheduler_factory.c - see scheduler_factory.h. */
#include "schedulers/scheduler_factory.h"

#include <stdio.h>
#include <string.h>

#include "base/members.h"
#include "base/nearest.h"
#include "schedulers/names.h"
#include "schedulers/scheduler_impl.h"
#include "schedulers/scheduler_options.h"

static const struct sched_info *const all[] = {
#define X(name) &sched_##name,
#include "schedulers/schedulers.def"
#undef X
};

static const char *const lines[] = {
#define X(name) #name,
#include "schedulers/schedulers.def"
#undef X
};

enum { COUNT = sizeof all / sizeof *all, MAX_NAMES = COUNT * (3 + SCHED_MAX_ALIASES) };

const struct sched_info *const *sched_all(size_t *ret_n)
{
    *ret_n = COUNT;
    return all;
}

static size_t count_aliases(const struct sched_info *info)
{
    size_t n = 0;
    while (info->aliases && info->aliases[n])
        n++;
    return n;
}

static int check_fixed_keys(const struct sched_info *info, const char *line, struct dr_error *err)
{
    for (const struct sched_fixed_key *key = info->fixed; key && key->key; key++) {
        if (!key->accepted)
            return dr_fail(err, DR_EINTERNAL, "sampler %s: member fixed: %s has no values", line,
                           key->key);
    }
    return 0;
}

int sched_info_check(const struct sched_info *info, const char *line, struct dr_error *err)
{
    const struct dr_member members[] = {
        { "order", info->order > 0 },
        { "feed", info->feed != NULL },
        { "begin", info->begin || !info->scalars },
        { "scalars", info->scalars || !info->layout.next },
        { "prepare", info->prepare || !info->aux },
    };
    const struct {
        const char *member;
        double value, least, most;
    } numbers[] = {
        { "rule", info->rule, 0, SCHED_RULE_COUNT - 1 },
        { "noise", info->noise, 0, SCHED_NOISE_COUNT - 1 },
        { "scalars", info->scalars, 0, 64 },
        { "vectors", info->vectors, 0, 64 },
        { "aux", info->aux, 0, 64 },
        { "aliases (their number)", (double)count_aliases(info), 0, SCHED_MAX_ALIASES },
    };
    int r = dr_members_check_name("sampler", line, info->name, err);
    if (!r)
        r = dr_members_check("sampler", line, members, sizeof members / sizeof *members, err);
    for (size_t i = 0; !r && i < sizeof numbers / sizeof *numbers; i++) {
        if (!(numbers[i].value >= numbers[i].least && numbers[i].value <= numbers[i].most))
            r = dr_fail(err, DR_EINTERNAL, "sampler %s: member %s is %g, expected %g to %g", line,
                        numbers[i].member, numbers[i].value, numbers[i].least, numbers[i].most);
    }
    if (!r)
        r = sched_options_check(info, line, err);
    return r ? r : check_fixed_keys(info, line, err);
}

int sched_tables_check(struct dr_error *err)
{
    int r = 0;
    for (size_t i = 0; !r && i < COUNT; i++)
        r = sched_info_check(all[i], lines[i], err);
    return r ? r : schedule_tables_check(err);
}

const char *sched_title(const struct sched_info *info)
{
    return info->title ? info->title : info->name;
}

const char *sched_spelling(const struct sched_info *info, size_t k)
{
    const char *own[] = { info->name, info->title, info->diffusers };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (own[i] && !k--)
            return own[i];
    }
    return k < count_aliases(info) ? info->aliases[k] : NULL;
}

static bool has_name(const struct sched_info *info, const char *name)
{
    const char *own;
    for (size_t k = 0; (own = sched_spelling(info, k)); k++) {
        if (sched_same_name(name, own))
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
        const char *own;
        for (size_t k = 0; (own = schedule_spelling(schedules[i], k)); k++) {
            char end[SCHED_NAME_BYTES], start[SCHED_NAME_BYTES];
            size_t end_length = sched_fold_name(own, end) ? strlen(end) : length;
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
    }
    return NULL;
}

const struct sched_info *sched_find(const char *name, const struct schedule_info **ret_schedule)
{
    char folded[SCHED_NAME_BYTES];
    if (name[0] == 'k' && name[1] == '_')
        name += 2;
    if (!sched_fold_name(name, folded))
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
        const char *own;
        for (size_t k = 0; n < MAX_NAMES && (own = sched_spelling(all[i], k)); k++, n++) {
            names[n] = own;
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
    size_t n = spellings(names, owners);
    const char *near = dr_nearest(name, names, n), *canonical[COUNT];
    for (size_t i = 0; near && i < n; i++)
        if (names[i] == near) {
            near = owners[i]->name;
            break;
        }
    for (size_t i = 0; i < COUNT; i++)
        canonical[i] = all[i]->name;
    int r = dr_fail_choice_near(err, DR_EINVAL, field, name, canonical, COUNT, near);
    return sched_tell_elsewhere(name, r, err);
}
