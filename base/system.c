/* system.c - see system.h. Control groups: cgroups(7) and the kernel's admin-guide/cgroup-v1 and
 * cgroup-v2; mounts: proc_pid_mountinfo(5). */
#include "base/system.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

/* One hierarchy of groups: where it is mounted, and the process's group below the mount's own root.
 */
struct hierarchy {
    int version;
    char mount[DR_PATH_MAX]; /* with the root prefix */
    char top[DR_PATH_MAX];   /* the group that is mounted there, "" for the root group */
    char below[DR_PATH_MAX]; /* the process's group from there: "" or "/a/b" */
};

/* A group to look at: `own` is the process's, its ancestors follow. False ends the walk. */
typedef bool (*group_fn)(void *ctx, const char *folder, const char *name, int version, bool own);

static FILE *open_below(const char *root, const char *path)
{
    char whole[DR_PATH_MAX];
    int n = snprintf(whole, sizeof whole, "%s%s", root, path);
    return n < 0 || (size_t)n >= sizeof whole ? NULL : fopen(whole, "re");
}

/* A line without its end; what does not fit is skipped. False at the end. */
static bool next_line(FILE *f, char *line, size_t size)
{
    if (!fgets(line, (int)size, f))
        return false;
    size_t n = strcspn(line, "\n");
    if (!line[n])
        for (int c = getc(f); c != EOF && c != '\n'; c = getc(f)) {}
    line[n] = '\0';
    return true;
}

/* The bytes of a "Name:   123 kB" line of a file of /proc. */
static bool proc_value(const char *root, const char *path, const char *name, size_t *ret)
{
    char line[256];
    size_t n = strlen(name);
    bool found = false;
    FILE *f = open_below(root, path);
    if (!f)
        return false;
    while (!found && next_line(f, line, sizeof line)) {
        found = !strncmp(line, name, n) && line[n] == ':';
        if (found)
            *ret = (size_t)strtoull(line + n + 1, NULL, 10) * 1024;
    }
    fclose(f);
    return found;
}

/* A file of one whole number. False for "max", -1 and everything else. */
static bool number_in(const char *folder, const char *name, size_t *ret)
{
    char line[64], path[DR_PATH_MAX], *end;
    if (dr_path_join(path, sizeof path, folder, name))
        return false;
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = next_line(f, line, sizeof line) && line[0] >= '0' && line[0] <= '9';
    fclose(f);
    if (!ok)
        return false;
    unsigned long long value = strtoull(line, &end, 10);
    *ret = value > SIZE_MAX ? SIZE_MAX : (size_t)value;
    return !*end;
}

/* The number of a "name 123" line of a group's memory.stat. */
static bool stat_value(const char *folder, const char *name, size_t *ret)
{
    char line[256], path[DR_PATH_MAX];
    size_t n = strlen(name);
    bool found = false;
    if (dr_path_join(path, sizeof path, folder, "memory.stat"))
        return false;
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    while (!found && next_line(f, line, sizeof line)) {
        found = !strncmp(line, name, n) && line[n] == ' ' && line[n + 1] >= '0' &&
                line[n + 1] <= '9';
        if (found)
            *ret = (size_t)strtoull(line + n + 1, NULL, 10);
    }
    fclose(f);
    return found;
}

/* Whether `word` is one of a list with commas. */
static bool lists(const char *list, const char *word)
{
    size_t n = strlen(word);
    while (list) {
        if (!strncmp(list, word, n) && (list[n] == ',' || !list[n]))
            return true;
        const char *comma = strchr(list, ',');
        list = comma ? comma + 1 : NULL;
    }
    return false;
}

/* The process's group as /proc/self/cgroup has it: of version 2 ("0::/a"), or of the hierarchy of
 * version 1 that has the controller ("4:cpu,cpuacct:/a"). */
static bool own_group(const char *root, const char *controller, int version, char dst[DR_PATH_MAX])
{
    char line[DR_PATH_MAX];
    bool found = false;
    FILE *f = open_below(root, "/proc/self/cgroup");
    if (!f)
        return false;
    while (!found && next_line(f, line, sizeof line)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        controllers++;
        found = version == 2 ? !strncmp(line, "0:", 2) && !*controllers
                             : lists(controllers, controller);
        if (found)
            snprintf(dst, DR_PATH_MAX, "%s", path);
    }
    fclose(f);
    return found;
}

/* In place: the "\040" of mountinfo become characters; '/' at the end goes. */
static void plain_path(char *text)
{
    char *to = text;
    for (const char *s = text; *s; s++) {
        bool octal = s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
                     s[3] >= '0' && s[3] <= '7';
        *to++ = octal ? (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + s[3] - '0') : *s;
        s += octal ? 3 : 0;
    }
    *to = '\0';
    while (to > text && to[-1] == '/')
        *--to = '\0';
}

/* A line of mountinfo, "36 35 98:0 ROOT MOUNT OPTIONS [OPTIONAL...] - TYPE SOURCE OPTIONS": the
 * hierarchy, when it is one with that controller. Cuts the line to pieces. */
static bool hierarchy_of(char *line, const char *root, const char *controller,
                         struct hierarchy *ret)
{
    char *field[5], *save, *type = strstr(line, " - ");
    if (!type)
        return false;
    *type = '\0';
    type = strtok_r(type + 3, " ", &save);
    char *source = type ? strtok_r(NULL, " ", &save) : NULL;
    char *options = source ? strtok_r(NULL, " ", &save) : NULL;
    if (!options || (strcmp(type, "cgroup") && strcmp(type, "cgroup2")))
        return false;
    ret->version = strcmp(type, "cgroup") ? 2 : 1;
    if (ret->version == 1 && !lists(options, controller))
        return false;
    for (int i = 0; i < 5; i++)
        if (!(field[i] = strtok_r(i ? NULL : line, " ", &save)))
            return false;
    plain_path(field[3]);
    plain_path(field[4]);
    int n = snprintf(ret->mount, sizeof ret->mount, "%s%s", root, field[4]);
    snprintf(ret->top, sizeof ret->top, "%s", field[3]);
    if (n < 0 || (size_t)n >= sizeof ret->mount ||
        !own_group(root, controller, ret->version, ret->below))
        return false;
    plain_path(ret->below);
    /* In a container the mount may be of the container's own group while the path is the host's.
     * A group that does not lie below the mount ("/../x" in a namespace) is not visible: what is
     * mounted is the nearest ancestor that is. */
    size_t top = strlen(ret->top);
    bool inside = !strncmp(ret->below, ret->top, top) &&
                  (!ret->below[top] || ret->below[top] == '/');
    bool outside = !strncmp(ret->below, "/..", 3) && (ret->below[3] == '/' || !ret->below[3]);
    if (!inside || outside)
        ret->below[0] = '\0';
    else
        memmove(ret->below, ret->below + top, strlen(ret->below + top) + 1);
    return true;
}

/* From the process's group up to the mounted one. */
static void walk(struct hierarchy *h, group_fn look, void *ctx)
{
    for (bool own = true;; own = false) {
        char folder[DR_PATH_MAX], name[DR_PATH_MAX];
        int a = snprintf(folder, sizeof folder, "%s%s", h->mount, h->below);
        int b = snprintf(name, sizeof name, "%s%s", h->top, h->below);
        bool fits = (size_t)a < sizeof folder && (size_t)b < sizeof name;
        if (fits && !look(ctx, folder, *name ? name : "/", h->version, own))
            return;
        char *slash = strrchr(h->below, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

static void each_group(const char *root, const char *controller, group_fn look, void *ctx)
{
    char line[2 * DR_PATH_MAX];
    struct hierarchy h;
    FILE *f = open_below(root, "/proc/self/mountinfo");
    if (!f)
        return;
    while (next_line(f, line, sizeof line))
        if (hierarchy_of(line, root, controller, &h))
            walk(&h, look, ctx);
    fclose(f);
}

/* Lowers a bound. The end of a long name says more than its beginning. */
static void lower(struct system_bound *b, size_t limit, size_t used, const char *file,
                  const char *name)
{
    enum { SHOWN = 140 };
    size_t left = limit > used ? limit - used : 0, n = strlen(name);
    if (*b->source && left >= b->left)
        return;
    b->limit = limit;
    b->left = left;
    snprintf(b->source, sizeof b->source, "cgroup %s of %s%s", file, n > SHOWN ? "..." : "",
             n > SHOWN ? name + n - SHOWN : name);
}

struct memory_look {
    struct system_bound *bound;
    size_t machine; /* limits from here up are none */
};

static bool look_at_memory(void *ctx, const char *folder, const char *name, int version, bool own)
{
    static const char *const files[2][2] = { { "memory.limit_in_bytes", NULL },
                                             { "memory.max", "memory.high" } };
    struct memory_look *l = ctx;
    size_t limit, used = 0, part = 0, files_held = 0, deep;
    if (version == 1 && !own && number_in(folder, "memory.use_hierarchy", &deep) && !deep)
        return false; /* an ancestor's limit does not count its descendants' memory */
    (void)number_in(folder, version == 1 ? "memory.usage_in_bytes" : "memory.current", &used);
    static const char *const kinds[] = { "inactive_file", "active_file" };
    for (size_t i = 0; i < 2; i++) {
        char total[32];
        snprintf(total, sizeof total, "total_%s", kinds[i]);
        if ((version == 1 && stat_value(folder, total, &part)) ||
            stat_value(folder, kinds[i], &part))
            files_held += part;
    }
    used -= files_held < used ? files_held : used;
    for (int i = 0; i < 2 && files[version - 1][i]; i++)
        if (number_in(folder, files[version - 1][i], &limit) && limit < l->machine)
            lower(l->bound, limit, used, files[version - 1][i], name);
    if (version == 1 && own && stat_value(folder, "hierarchical_memory_limit", &limit) &&
        limit < l->machine)
        lower(l->bound, limit, used, "hierarchical_memory_limit", name);
    return true;
}

/* The soft limit of a "Max address space  123  unlimited  bytes" line of /proc/self/limits, and
 * what is in use of it. */
static void resource_limit(const char *root, const char *title, const char *use, const char *source,
                           struct system_bound *ret)
{
    char line[256];
    size_t n = strlen(title), used = 0;
    FILE *f = open_below(root, "/proc/self/limits");
    if (!f)
        return;
    while (next_line(f, line, sizeof line)) {
        const char *value = line + n;
        if (strncmp(line, title, n))
            continue;
        value += strspn(value, " ");
        if (*value < '0' || *value > '9')
            break;
        (void)proc_value(root, "/proc/self/status", use, &used);
        ret->limit = (size_t)strtoull(value, NULL, 10);
        ret->left = ret->limit > used ? ret->limit - used : 0;
        snprintf(ret->source, sizeof ret->source, "%s", source);
        break;
    }
    fclose(f);
}

void system_memory(const char *root, struct system_memory *ret)
{
    memset(ret, 0, sizeof *ret);
    struct system_bound *m = &ret->machine;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!proc_value(root, "/proc/meminfo", "MemTotal", &m->limit))
        m->limit = (size_t)sysconf(_SC_PHYS_PAGES) * page;
    if (!proc_value(root, "/proc/meminfo", "MemAvailable", &m->left))
        m->left = (size_t)sysconf(_SC_AVPHYS_PAGES) * page;
    snprintf(m->source, sizeof m->source, "memory of this machine");
    struct memory_look look = { .bound = &ret->group, .machine = m->limit };
    each_group(root, "memory", look_at_memory, &look);
    resource_limit(root, "Max data size", "VmData", "RLIMIT_DATA", &ret->data);
    resource_limit(root, "Max address space", "VmSize", "RLIMIT_AS", &ret->address);
}

const struct system_bound *system_memory_least(const struct system_memory *m)
{
    const struct system_bound *least = &m->machine;
    const struct system_bound *const others[] = { &m->group, &m->data, &m->address };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (*others[i]->source && others[i]->left < least->left)
            least = others[i];
    return least;
}

void system_memory_explain(struct dr_error *err)
{
    struct system_memory m;
    size_t used = err ? strlen(err->text) : 0;
    if (!err || err->code != DR_ENOMEM || strstr(err->text, "limit"))
        return;
    system_memory("", &m);
    const struct system_bound *least = system_memory_least(&m);
    if (*least->source)
        snprintf(err->text + used, sizeof err->text - used,
                 "; limit %.1f MB (%.150s), of which %.1f MB are left", (double)least->limit / 1e6,
                 least->source, (double)least->left / 1e6);
}

size_t system_resident(void)
{
    size_t bytes = 0;
    (void)proc_value("", "/proc/self/status", "VmRSS", &bytes);
    return bytes;
}

size_t system_resident_peak(void)
{
    size_t bytes = 0;
    (void)proc_value("", "/proc/self/status", "VmHWM", &bytes);
    return bytes;
}

/* Version 2: "QUOTA PERIOD" in cpu.max, or "max PERIOD"; version 1: two files, -1 for none. */
static bool look_at_cpu(void *ctx, const char *folder, const char *name, int version, bool own)
{
    int *cpus = ctx;
    size_t quota = 0, period = 0;
    char path[DR_PATH_MAX], line[64];
    (void)name;
    (void)own;
    if (version == 1) {
        if (!number_in(folder, "cpu.cfs_quota_us", &quota) ||
            !number_in(folder, "cpu.cfs_period_us", &period))
            return true;
    } else {
        FILE *f = dr_path_join(path, sizeof path, folder, "cpu.max") ? NULL : fopen(path, "re");
        bool ok = f && next_line(f, line, sizeof line) && *line >= '0' && *line <= '9' &&
                  sscanf(line, "%zu %zu", &quota, &period) == 2;
        if (f)
            fclose(f);
        if (!ok)
            return true;
    }
    if (quota && period) {
        size_t whole = quota / period + (quota % period != 0);
        *cpus = whole < (size_t)*cpus ? (int)whole : *cpus;
    }
    return true;
}

int system_cpu_quota(const char *root, int cpus)
{
    each_group(root, "cpu", look_at_cpu, &cpus);
    return cpus > 0 ? cpus : 1;
}
