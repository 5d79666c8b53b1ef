/* settings.c - see settings.h. */
#include "cli/settings.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/nearest.h"
#include "cli/from.h"
#include "cli/output.h"

/* Every field with an option, then threads and output. A picture's own words are no configuration.
 */
static bool configurable(enum field_id id)
{
    const struct field_info *f = field_info(id);
    return *f->option && f->type != FIELD_TYPE_MAP && id != FIELD_prompt && id != FIELD_prompt_2 &&
           id != FIELD_dump_stages;
}

/* Keys that are no options: of the worker. */
enum { KEY_CACHE = FIELD_COUNT + OPT_COUNT, KEY_CACHE_LIMIT };

static int find_key(const char *key)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        if (configurable((enum field_id)i) && !strcmp(field_info((enum field_id)i)->option, key))
            return i;
    return !strcmp(key, "threads")       ? FIELD_COUNT + OPT_threads
           : !strcmp(key, "output")      ? FIELD_COUNT + OPT_output
           : !strcmp(key, "cache")       ? KEY_CACHE
           : !strcmp(key, "cache-limit") ? KEY_CACHE_LIMIT
                                         : -1;
}

static int fail_key(const struct config *c, const struct config_entry *e, struct dr_error *err)
{
    const char *names[FIELD_COUNT + 4];
    size_t n = 0;
    for (int i = 0; i < FIELD_COUNT; i++)
        if (configurable((enum field_id)i))
            names[n++] = field_info((enum field_id)i)->option;
    names[n++] = "threads";
    names[n++] = "output";
    names[n++] = "cache";
    names[n++] = "cache-limit";
    const char *near = dr_nearest(e->key, names, n);
    return config_fail(c, e, err, "no such key%s%s%s", near ? " (nearest: " : "", near ? near : "",
                       near ? ")" : "");
}

/* A path of the file as one that holds from here. */
static int path_from(const struct config *c, const char *value, char *dst, size_t n,
                     struct dr_error *err)
{
    char folder[DR_PATH_MAX];
    const char *home = getenv("HOME");
    int r;
    if (!strncmp(value, "~/", 2) && home) {
        r = dr_path_join(dst, n, home, value + 2);
    } else {
        size_t len = (size_t)(dr_path_base(c->path) - c->path);
        snprintf(folder, sizeof folder, "%.*s", (int)len, c->path);
        r = dr_path_join(dst, n, folder, value);
    }
    return r < 0 ? dr_fail(err, r, "%s: a path is too long", c->path) : 0;
}

/* A model may also be a name, which the worker looks for. */
static bool is_name(enum field_id key, const char *value, const char *path)
{
    struct stat st;
    return key == FIELD_model && !strchr(value, '/') && lstat(path, &st);
}

static int take_own(struct cli_call *call, int option, const char *value, struct dr_error *err)
{
    char **kept = option == OPT_threads ? &call->threads : &call->output;
    if (!(call->verb->takes & (1u << option)) || call->value[option])
        return 0;
    *kept = dr_strdup(DR_TAG_BASE, value);
    call->value[option] = *kept;
    return *kept ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
}

/* "64G", "500M", "0" as bytes in text; false when it is none of these. */
static bool size_text(const char *value, char dst[32])
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(value, &end, 10);
    int shift = *end == 'G' ? 30 : *end == 'M' ? 20 : 0;
    if (end == value || *value == '-' || errno || end[shift != 0] ||
        n > (uint64_t)INT64_MAX >> shift)
        return false;
    snprintf(dst, 32, "%llu", n << shift);
    return true;
}

static int take_cache(struct cli_call *call, const struct config *c, const struct config_entry *e,
                      const char *value, struct dr_error *err)
{
    char bytes[32];
    char **kept = strcmp(e->key, "cache") ? &call->cache_limit : &call->cache;
    if (kept == &call->cache_limit && !size_text(value, bytes))
        return config_fail(c, e, err, "got %s, expected bytes, such as 64G, 500M or 0", value);
    dr_free(*kept);
    *kept = dr_strdup(DR_TAG_BASE, kept == &call->cache ? value : bytes);
    return *kept ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
}

static int take_entry(struct cli_call *call, const struct config *c, const struct config_entry *e,
                      struct dr_error *err)
{
    char path[DR_PATH_MAX];
    const char *value = e->value;
    int key = find_key(e->key);
    if (key < 0)
        return fail_key(c, e, err);
    if (key == FIELD_model || key == FIELD_COUNT + OPT_output || key == KEY_CACHE) {
        int r = path_from(c, value, path, sizeof path, err);
        if (r < 0)
            return r;
        value = is_name(key, value, path) ? value : path;
    }
    if (key >= KEY_CACHE)
        return take_cache(call, c, e, value, err);
    if (key >= FIELD_COUNT)
        return take_own(call, key - FIELD_COUNT, value, err);
    if (!call->verb->request || request_has(&call->request, (enum field_id)key))
        return 0;
    if (call->value[OPT_from] && from_settles((enum field_id)key))
        return 0;
    const char *to = call->value[OPT_output];
    if (key == FIELD_format && to && to != call->output && *output_format_of(to))
        return 0; /* the command line says a format by the name of the file */
    struct dr_error inner = { 0 };
    int r = request_set_text(&call->request, (enum field_id)key, value, &inner);
    if (r == DR_ENOMEM)
        return dr_fail(err, r, "%s", inner.text);
    return r < 0 ? config_fail(c, e, err, "got %s, expected %s", inner.got, inner.expected) : 0;
}

int settings_take(struct cli_call *call, const struct config *config, struct dr_error *err)
{
    int r = 0;
    for (size_t i = 0; !r && i < config->count; i++)
        if ((r = take_entry(call, config, &config->entries[i], err)) < 0)
            r = error_list_go_on(call->errors, r, err);
    return r;
}

int settings_apply(struct cli_call *call, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct config config;
    if (!call->verb->request && !(call->verb->takes & TAKES(threads)))
        return 0;
    struct stat st; /* what is there must be readable: only absence is silent */
    if (dr_config_path(path, sizeof path, "config.yaml", NULL) < 0 || lstat(path, &st))
        return 0;
    int r = config_load(path, &config, err);
    if (r < 0)
        return r;
    r = settings_take(call, &config, err);
    config_free(&config);
    return r;
}
