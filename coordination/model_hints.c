/* model_hints.c - see model_hints.h. A reader of its own for a flat list of settings: the engine
 * links no YAML library, and nothing deeper has a meaning here. */
#include "coordination/model_hints.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/nearest.h"
#include "base/path_text.h"
#include "base/words.h"

enum { HINTS_BYTES = 64 << 10, LINE_BYTES = REQUEST_TEXT_BYTES + 64 };

static const char extension[] = ".darkroom.yaml";

/* What a model may suggest, and what of a request leaves it no say. */
enum { OF_SAMPLER = 1, OF_RECIPE = 2, OF_SIZE = 4 };
static const struct {
    enum field_id id;
    unsigned group;
} settings[] = {
    { FIELD_width, OF_SIZE },
    { FIELD_height, OF_SIZE },
    { FIELD_steps, OF_RECIPE },
    { FIELD_guidance_scale, OF_RECIPE },
    { FIELD_guidance_rescale, 0 },
    { FIELD_sampler, OF_SAMPLER | OF_RECIPE },
    { FIELD_schedule, OF_SAMPLER | OF_RECIPE },
    { FIELD_spacing, OF_SAMPLER | OF_RECIPE },
    { FIELD_eta, OF_SAMPLER | OF_RECIPE },
    { FIELD_clip_skip, 0 },
    { FIELD_negative_prompt, 0 },
    { FIELD_vae, 0 },
    { FIELD_prediction, 0 },
    { FIELD_zsnr, 0 },
};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* Where a model's file is: "" where it can have none. */
struct hints {
    char path[DR_PATH_MAX];
    int line;
    struct request said; /* what the file says */
};

/* ---- the file ---- */

static int find_path(const struct engine_model *model, struct hints *h, struct dr_error *err)
{
    size_t n = dr_path_trimmed(model->path);
    const char *end = dr_path_extension(model->path);
    if (!dr_is_dir(model->path))
        n -= strlen(end);
    int len = snprintf(h->path, sizeof h->path, "%.*s%s", (int)n, model->path, extension);
    return len < (int)sizeof h->path ? 0 : dr_fail(err, DR_ELIMIT, "model: the path is too long");
}

/* -1 with errno. */
static int open_hints(const struct engine_model *model, const struct hints *h)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    if (model->root.fd < 0)
        return open(h->path, flags);
    size_t n = strlen(model->root.folder);
    if (strncmp(h->path, model->root.folder, n) || h->path[n] != '/') {
        errno = ENOENT; /* the root itself is the model */
        return -1;
    }
    return dr_open_beneath(model->root.fd, h->path + n + 1, flags, 0);
}

static int fail_line(const struct hints *h, struct dr_error *err, const char *key, const char *what)
{
    return dr_fail(err, DR_EINVAL, "%s:%d: %.100s: %.300s", h->path, h->line, key, what);
}

/* ---- one line ---- */

/* "negative-prompt" and "negative_prompt" are one name. */
static bool same_name(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] && !((a[i] == '-' || a[i] == '_') && (b[i] == '-' || b[i] == '_')))
            return false;
    return !a[n] && strlen(a) == n;
}

static bool is_named(enum field_id id, const char *key)
{
    const struct field_info *f = field_info(id);
    struct dr_word rest = word_all(f->aliases), alias;
    size_t n = strlen(key);
    if (same_name(f->name, key, n) || same_name(f->option, key, n))
        return true;
    while (word_next(&rest, ' ', &alias))
        if (alias.n == n && !memcmp(alias.at, key, n))
            return true;
    return false;
}

static int fail_key(const struct hints *h, const char *key, struct dr_error *err)
{
    const char *names[SETTINGS + 1] = { "size" };
    char what[200];
    for (int i = 0; i < SETTINGS; i++)
        names[i + 1] = field_info(settings[i].id)->option;
    const char *near = dr_nearest(key, names, SETTINGS + 1);
    snprintf(what, sizeof what, "no such setting of a model%s%s%s", near ? " (nearest: " : "",
             near ? near : "", near ? ")" : "");
    return fail_line(h, err, key, what);
}

static int set(struct hints *h, enum field_id id, const char *key, const char *value,
               struct dr_error *err)
{
    struct dr_error inner = { 0 };
    char what[400];
    if (request_has(&h->said, id))
        return fail_line(h, err, key, "the same setting was there before");
    int r = request_set_text(&h->said, id, value, &inner);
    if (r == DR_ENOMEM)
        return dr_fail(err, r, "out of memory for %s", h->path);
    snprintf(what, sizeof what, "got %.100s, expected %.200s", inner.got, inner.expected);
    return r < 0 ? fail_line(h, err, key, what) : 0;
}

/* "WIDTHxHEIGHT". */
static int set_size(struct hints *h, const char *key, const char *value, struct dr_error *err)
{
    char width[LINE_BYTES];
    const char *x = strchr(value, 'x');
    if (!x)
        return fail_line(h, err, key, "expected WIDTHxHEIGHT");
    snprintf(width, sizeof width, "%.*s", (int)(x - value), value);
    int r = set(h, FIELD_width, key, width, err);
    return r ? r : set(h, FIELD_height, key, x + 1, err);
}

/* A file beside it, else a name that is looked for. */
static int set_file(struct hints *h, enum field_id id, const char *key, const char *value,
                    struct dr_error *err)
{
    char folder[DR_PATH_MAX], path[DR_PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", (int)(dr_path_base(h->path) - h->path), h->path);
    if (dr_path_join(path, sizeof path, folder, value))
        return fail_line(h, err, key, "the path is too long");
    return set(h, id, key, access(path, F_OK) ? value : path, err);
}

static int take(struct hints *h, const char *key, const char *value, struct dr_error *err)
{
    if (!strcmp(key, "size"))
        return set_size(h, key, value, err);
    for (int i = 0; i < SETTINGS; i++)
        if (is_named(settings[i].id, key))
            return field_is_part(settings[i].id) ? set_file(h, settings[i].id, key, value, err)
                                                 : set(h, settings[i].id, key, value, err);
    return fail_key(h, key, err);
}

/* Cuts blanks, a comment and quotes; false: quotes without end, or text behind them. */
static bool cut_value(char *v, char **ret)
{
    v += strspn(v, " \t");
    char quote = *v == '"' || *v == '\'' ? *v : 0;
    char *end = quote ? strchr(v + 1, quote) : NULL;
    *ret = quote ? v + 1 : v;
    if (quote) {
        if (!end)
            return false;
        char *after = end + 1 + strspn(end + 1, " \t\r");
        *end = '\0';
        return !*after || *after == '#';
    }
    for (end = v; *end && !(*end == '#' && (end == v || end[-1] == ' ' || end[-1] == '\t')); end++)
        ;
    while (end > v && strchr(" \t\r", end[-1]))
        end--;
    *end = '\0';
    return true;
}

static int read_line(struct hints *h, char *line, struct dr_error *err)
{
    char *value, *colon = strchr(line, ':');
    size_t first = strspn(line, " \t\r");
    if (!line[first] || line[first] == '#' || !strcmp(line, "---"))
        return 0;
    if (first || !colon || colon == line || (colon[1] && !strchr(" \t\r", colon[1])))
        return fail_line(h, err, line, "expected a line 'key: value' that begins at the margin");
    *colon = '\0';
    if (!cut_value(colon + 1, &value) || !*value)
        return fail_line(h, err, line, "expected one value, quotes closed");
    return take(h, line, value, err);
}

static int read_lines(struct hints *h, const char *text, struct dr_error *err)
{
    char line[LINE_BYTES];
    int r = 0;
    for (h->line = 1; !r && *text; h->line++) {
        size_t n = strcspn(text, "\n");
        if (n >= sizeof line)
            return fail_line(h, err, "a line", "too long");
        memcpy(line, text, n);
        line[n] = '\0';
        text += n + (text[n] == '\n');
        r = read_line(h, line, err);
    }
    return r;
}

/* h->path is "" without a file. request_free h->said in any case. */
static int hints_read(const struct engine_model *model, struct hints *h, struct dr_error *err)
{
    struct buf text;
    request_init(&h->said);
    int r = find_path(model, h, err);
    int fd = r ? -1 : open_hints(model, h);
    if (fd < 0) {
        bool none = !r && (errno == ENOENT || errno == ENOTDIR);
        if (!r && !none)
            r = dr_fail_errno(err, h->path, "open");
        h->path[0] = '\0';
        return r;
    }
    buf_init(&text, DR_TAG_BASE, 0);
    r = dr_read_fd(fd, h->path, HINTS_BYTES, &text, err);
    close(fd);
    if (!r)
        r = dr_check_utf8(buf_text(&text), text.len, h->path, err);
    if (!r && strlen(buf_text(&text)) != text.len)
        r = dr_fail(err, DR_EFORMAT, "%s: a zero byte inside text", h->path);
    if (!r)
        r = read_lines(h, buf_text(&text), err);
    buf_free(&text);
    return r;
}

/* ---- what becomes of it ---- */

/* Whether the request has something that such a setting belongs to. */
static unsigned settled(const struct request *q)
{
    unsigned groups = 0;
    if (request_has(q, FIELD_sampler) || request_has(q, FIELD_scheduler))
        groups |= OF_SAMPLER;
    if (request_has(q, FIELD_recipe) || request_has(q, FIELD_timesteps) ||
        request_has(q, FIELD_sigmas))
        groups |= OF_RECIPE;
    if (request_has(q, FIELD_width) || request_has(q, FIELD_height))
        groups |= OF_SIZE;
    return groups;
}

int model_hints_apply(const struct engine_model *model, struct request *q, struct dr_error *err)
{
    struct hints h;
    if (!request_flag(q, FIELD_hints) || request_has(q, FIELD_version)) /* off; a receipt */
        return 0;
    int r = hints_read(model, &h, err);
    unsigned groups = settled(q);
    for (int i = 0; !r && i < SETTINGS; i++) {
        enum field_id id = settings[i].id;
        if (!request_has(&h.said, id) || request_has(q, id) || (settings[i].group & groups))
            continue;
        q->value[id] = h.said.value[id];
        h.said.value[id] = (struct field_value){ .set = false };
    }
    request_free(&h.said);
    return r;
}

int model_hints_describe(const struct engine_model *model, json_t *o, struct dr_error *err)
{
    struct hints h;
    int r = hints_read(model, &h, err);
    if (!r && h.path[0] &&
        (jx_set(o, "hints", request_json(&h.said)) ||
         jx_set(o, "hints_from", path_text_json(h.path))))
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    request_free(&h.said);
    return r;
}
