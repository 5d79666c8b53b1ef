/* kernel_choice.c - see kernel_choice.h. A line is the set, a tab, and what it was chosen for. */
#include "core/kernel_choice.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu/features.h"
#include "backend/cpu/peak.h"
#include "base/fs.h"

enum { LARGEST = 1 << 16, CANDIDATES = 16, KEY = 256 };

static const char first_line[] = "darkroom kernels 1\n";
static const double better = 1.1; /* by so much, or the later in the table stays */

static void key_of(const struct kernel_choice *c, char dst[KEY])
{
    snprintf(dst, KEY, "%s %d %x %.160s", precision_name(c->precision),
             backend_layout_version(NULL), cpu_features(), c->processor);
}

/* The sets to choose from; of those with the same matrix instruction the last. */
static int candidates(const struct kernel_choice *c, const char *ret[CANDIDATES])
{
    const char *name;
    bool usable;
    int n = 0;
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        enum precision p = backend_kernel_set_precision(i);
        if (!usable || (c->precision == PRECISION_AUTO ? p == PRECISION_INT8 : p != c->precision))
            continue;
        if (n && cpu_peak_family_of(ret[n - 1]) == cpu_peak_family_of(name))
            n--;
        if (n < CANDIDATES)
            ret[n++] = name;
    }
    return n;
}

static double measured(const char *set, int threads)
{
    struct backend_options options = { .kernels = set, .threads = threads };
    struct backend *be;
    if (backend_open_cpu(&options, &be, NULL))
        return 0;
    double rate = cpu_peak(be);
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

/* The lines after the first, or NULL. */
static const char *read_lines(const char *cache, struct buf *text)
{
    if (dr_read_file(cache, LARGEST, text, NULL) || text->len != strlen(buf_text(text)) ||
        strncmp(buf_text(text), first_line, sizeof first_line - 1))
        return NULL;
    return buf_text(text) + sizeof first_line - 1;
}

static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');
    return end ? end + 1 : line + strlen(line);
}

/* The line is for that key: its set's length, else 0. */
static size_t set_length(const char *line, const char *key)
{
    size_t set = strcspn(line, "\t\n"), n = strlen(key);
    bool same = line[set] == '\t' && !strncmp(line + set + 1, key, n) && line[set + 1 + n] == '\n';
    return same ? set : 0;
}

static const char *remembered(const char *cache, const char *key, const char *const *sets, int n)
{
    const char *found = NULL;
    struct buf text;
    buf_init(&text, DR_TAG_FILE, LARGEST);
    for (const char *line = read_lines(cache, &text); line && *line; line = next_line(line)) {
        size_t length = set_length(line, key);
        for (int i = 0; i < n && length; i++)
            if (strlen(sets[i]) == length && !strncmp(line, sets[i], length))
                found = sets[i];
    }
    buf_free(&text);
    return found;
}

static void remember(const char *cache, const char *key, const char *set)
{
    struct buf old, text;
    char dir[DR_PATH_MAX];
    buf_init(&old, DR_TAG_FILE, LARGEST);
    buf_init(&text, DR_TAG_FILE, LARGEST);
    int n = snprintf(dir, sizeof dir, "%.*s", (int)(dr_path_base(cache) - cache), cache);
    const char *line = read_lines(cache, &old);
    int r = n < 0 || (size_t)n >= sizeof dir ? DR_ELIMIT : 0;
    if (!r && n)
        r = dr_mkdirs(dir, NULL);
    if (!r)
        r = buf_printf(&text, "%s%s\t%s\n", first_line, set, key);
    for (; line && *line && !r; line = next_line(line))
        if (!set_length(line, key) && strchr(line, '\n'))
            r = buf_append(&text, line, (size_t)(next_line(line) - line));
    if (!r)
        (void)dr_write_file(cache, buf_text(&text), text.len, NULL); /* it is only a cache */
    buf_free(&old);
    buf_free(&text);
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
        set = remembered(c->cache, key, sets, n);
    if (!set) {
        set = fastest(c, sets, n);
        if (c->cache)
            remember(c->cache, key, set);
    }
    snprintf(ret_set, KERNEL_NAME_MAX, "%s", set);
}
