/* memory_optimizer.c - see memory_optimizer.h. */
#include "inference/memory_optimizer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

const char *job_stage_name(enum job_stage stage)
{
    static const char *const names[STAGE_COUNT] = { "text", "context", "denoise", "decode" };
    return names[stage];
}

/* Value in bytes of a "Name:   123 kB" line of a /proc file; 0 when there is none. */
static size_t proc_value(const char *path, const char *name)
{
    char line[256];
    size_t value = 0, n = strlen(name);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, name, n) && line[n] == ':')
            value = (size_t)strtoull(line + n + 1, NULL, 10) * 1024;
    fclose(f);
    return value;
}

size_t memory_resident(void)
{
    return proc_value("/proc/self/status", "VmRSS");
}

size_t memory_resident_peak(void)
{
    return proc_value("/proc/self/status", "VmHWM");
}

static bool number_in(const char *path, size_t *ret)
{
    char line[64];
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(line, sizeof line, f) && line[0] >= '0' && line[0] <= '9';
    if (ok)
        *ret = (size_t)strtoull(line, NULL, 10);
    fclose(f);
    return ok;
}

/* Pages of files in a group's memory.stat, which has lines "name 123" in bytes: the system takes
 * them back before it lets an allocation fail. */
static size_t reclaimable(const char *path)
{
    char line[256];
    size_t sum = 0, value;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "inactive_file %zu", &value) == 1 ||
            sscanf(line, "active_file %zu", &value) == 1)
            sum += value;
    fclose(f);
    return sum;
}

size_t memory_left_in(const char *folder)
{
    char path[DR_PATH_MAX];
    size_t limit, used;
    if (dr_path_join(path, sizeof path, folder, "memory.max") || !number_in(path, &limit) ||
        dr_path_join(path, sizeof path, folder, "memory.current") || !number_in(path, &used))
        return SIZE_MAX;
    size_t files = dr_path_join(path, sizeof path, folder, "memory.stat") ? 0 : reclaimable(path);
    used -= files < used ? files : used;
    return limit > used ? limit - used : 0;
}

size_t memory_available(void)
{
    size_t available = proc_value("/proc/meminfo", "MemAvailable");
    size_t left = memory_left_in("/sys/fs/cgroup");
    return left < available ? left : available;
}

/* Live bytes of the tags that peak_of adds: no longer available, and counted again there. */
static size_t held(void)
{
    size_t bytes = 0;
    for (int t = 0; t < DR_TAG_COUNT; t++)
        bytes += t == DR_TAG_ACTIVATION ? 0 : dr_alloc_stats((enum dr_tag)t).bytes;
    return bytes;
}

/* Resident bytes at each stage under the present decisions; the largest. */
static size_t peak_of(const struct memory_plan *plan)
{
    size_t other = 0, kept_weights = 0, peak = 0;
    for (int t = 0; t < DR_TAG_COUNT; t++)
        other += t == DR_TAG_ACTIVATION ? 0 : plan->tagged[t];
    for (int s = 0; s < STAGE_COUNT; s++) {
        const struct stage_use *u = &plan->stage[s];
        size_t now = plan->baseline + other + kept_weights + u->mapped + u->kept + u->workspace;
        now -= s == STAGE_DECODE ? plan->never_both : plan->pictures;
        peak = now > peak ? now : peak;
        /* what the context stage reads is the UNet's: it stays until the next one is over */
        if (s == STAGE_CONTEXT || !plan->drop[s])
            kept_weights += u->mapped;
        else if (s == STAGE_DENOISE)
            kept_weights -= plan->stage[STAGE_CONTEXT].mapped;
    }
    return peak;
}

void memory_decide(struct memory_plan *plan)
{
    if (!plan->limit)
        plan->limit = (memory_available() + held()) / 4 * 3;
    size_t half = plan->limit / 2, less = plan->limit / 5 * 2;
    memset(plan->drop, 0, sizeof plan->drop);
    plan->drop[STAGE_TEXT] = peak_of(plan) > less;
    plan->drop[STAGE_DENOISE] = peak_of(plan) > half;
    plan->drop[STAGE_DECODE] = peak_of(plan) > half;
    plan->peak = peak_of(plan);
}

static void size_text(size_t bytes, char dst[32])
{
    bool large = bytes >= 1000 * 1000 * 1000;
    snprintf(dst, 32, large ? "%.2f GB" : "%.1f MB", (double)bytes / (large ? 1e9 : 1e6));
}

int memory_admit(const struct memory_plan *plan, struct dr_error *err)
{
    if (plan->peak <= plan->limit)
        return 0;
    char needs[32], limit[32];
    size_text(plan->peak, needs);
    size_text(plan->limit, limit);
    return dr_fail(err, DR_ENOMEM,
                   "this job needs %s and %s may be used; a smaller picture or batch needs less",
                   needs, limit);
}
