/* kernel_choice.c - see kernel_choice.h. A line is the set, a tab, and what it was chosen for. */
#include "core/kernel_choice.h"

#include <stdio.h>
#include <string.h>

#include "base/line_cache.h"
#include "base/log.h"

enum { LARGEST = 1 << 16, CANDIDATES = 16, KEY = 256, LINES = 16 };

static const double better =
    1.1; /* an earlier set must be this much faster to replace a later one */

static void key_of(const struct kernel_choice *c, char dst[KEY])
{
    snprintf(dst, KEY, "%s %d %x %.160s", precision_name(c->precision),
             backend_layout_version(NULL), c->facts->features, c->facts->name);
}

/* The sets to choose from; of those with the same matrix instruction the last. */
static int candidates(const struct kernel_choice *c, const char *ret[CANDIDATES])
{
    struct kernel_set_facts set;
    int n = 0, family = -1;
    for (int i = 0; kernel_set_facts(i, &set); i++) {
        enum precision p = set.precision;
        if (set.device != c->device || !set.usable ||
            (c->precision == PRECISION_AUTO ? p == PRECISION_INT8 : p != c->precision))
            continue;
        if (n && set.family == family)
            n--;
        if (n < CANDIDATES)
            ret[n++] = set.name;
        family = set.family;
    }
    return n;
}

static double measured(const char *set, int threads)
{
    struct backend_options options = { .kernels = set, .threads = threads };
    struct backend *be;
    if (backend_open(&options, &be, NULL))
        return 0;
    double rate = backend_peak(be, backend_family(be)).flops;
    backend_close(be);
    return rate;
}

static const char *fastest(const struct kernel_choice *c, const char *const *sets, int n)
{
    const char *best = sets[n - 1];
    double most = 0;
    for (int i = n - 1; i >= 0; i--) {
        double rate = c->rate ? c->rate(sets[i], c->ctx) : measured(sets[i], c->threads);
        if (i < n - 1 && !(rate > better * most))
            continue;
        most = rate;
        best = sets[i];
    }
    return best;
}

/* ---- the file ---- */

static struct line_cache file_of(const struct kernel_choice *c)
{
    return (struct line_cache){ c->cache, "darkroom kernels 1\n", LARGEST };
}

/* The line is for that key: its set's length, else 0. */
static size_t set_length(const char *line, const char *key)
{
    size_t set = strcspn(line, "\t\n"), n = strlen(key);
    bool same = line[set] == '\t' && !strncmp(line + set + 1, key, n) && line[set + 1 + n] == '\n';
    return same ? set : 0;
}

static const char *remembered(const struct line_cache *file, const char *key,
                              const char *const *sets, int n)
{
    const char *found = NULL, *line;
    struct buf text;
    buf_init(&text, DR_TAG_FILE, LARGEST);
    for (line = line_cache_read(file, &text); line && *line; line = line_cache_next(line)) {
        size_t length = set_length(line, key);
        for (int i = 0; i < n && length; i++)
            if (strlen(sets[i]) == length && !strncmp(line, sets[i], length))
                found = sets[i];
    }
    buf_free(&text);
    return found;
}

/* The newest lines come first; older ones beyond the limit are dropped. */
static int remember(const struct line_cache *file, const char *key, const char *set)
{
    struct buf old, lines;
    buf_init(&old, DR_TAG_FILE, LARGEST);
    buf_init(&lines, DR_TAG_FILE, LARGEST);
    const char *line = line_cache_read(file, &old);
    int r = buf_printf(&lines, "%s\t%s\n", set, key);
    for (int n = 1; line && *line && n < LINES && !r; line = line_cache_next(line))
        if (!set_length(line, key) && strchr(line, '\n')) {
            r = buf_append(&lines, line, (size_t)(line_cache_next(line) - line));
            n++;
        }
    if (!r)
        r = line_cache_write(file, &lines);
    buf_free(&old);
    buf_free(&lines);
    return r;
}

/* The fastest, if it could be remembered; else NULL. */
static const char *found_out(const struct kernel_choice *c, const char *key,
                             const char *const *sets, int n)
{
    struct line_cache file = file_of(c);
    const char *set = remembered(&file, key, sets, n);
    if (set || !line_cache_writable(&file))
        return set;
    set = fastest(c, sets, n);
    return remember(&file, key, set) ? NULL : set;
}

void kernel_choice_make(const struct kernel_choice *c, char ret_set[KERNEL_NAME_MAX])
{
    const char *sets[CANDIDATES], *set = NULL;
    char key[KEY];
    int n = candidates(c, sets);
    snprintf(ret_set, KERNEL_NAME_MAX, "%s", n ? sets[n - 1] : "auto");
    if (n < 2)
        return;
    key_of(c, key);
    if (c->cache)
        set = found_out(c, key, sets, n);
    if (set)
        snprintf(ret_set, KERNEL_NAME_MAX, "%s", set);
    else
        dr_log_line(DR_LOG_INFO, "engine",
                    "kernels %s, not timed, as the result could not be kept in %s", ret_set,
                    c->cache ? c->cache : "a cache folder");
}
