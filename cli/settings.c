/* settings.c - see settings.h. */
#include "cli/settings.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/size_text.h"
#include "base/spec.h"
#include "cli/extra_model_paths.h"
#include "cli/from.h"
#include "cli/target.h"
#include "cli/report.h"
#include "core/communication/model_folders.h"
#include "core/communication/recipe.h"

/* Every field with an option, then threads and output; not the prompt, which belongs to one
 * picture.
 */
static bool configurable(enum field_id id)
{
    const struct field_info *f = field_info(id);
    return *f->option && f->type != FIELD_TYPE_MAP && id != FIELD_prompt && id != FIELD_prompt_2 &&
           id != FIELD_dump_stages;
}

/* Keys that are options of the worker only. */
enum {
    KEY_CACHE = FIELD_COUNT + OPT_COUNT,
    KEY_CACHE_LIMIT,
    KEY_MODELS,
    KEY_EXTRA_PATHS,
    KEY_FOLDERS, /* and the other kinds after it */
};

static const struct option_info worker_keys[] = {
    { .name = "models",
      .value = "FOLDERS",
      .help = "folders, with ':' between, in which models are looked for by name",
      .id = KEY_MODELS },
#define KIND(kind, word, variable, others, text)                                                   \
    { .name = "models." #kind,                                                                     \
      .value = "FOLDERS",                                                                          \
      .help = "the same for " text " alone",                                                       \
      .id = KEY_FOLDERS + FOLDER_##kind },
#include "core/communication/model_folders.def"
#undef KIND
    { .name = "models.extra_model_paths",
      .value = "FILE",
      .help = "ComfyUI's extra_model_paths.yaml (default: the one beside the configuration)",
      .id = KEY_EXTRA_PATHS },
    { .name = "cache",
      .value = "FOLDER",
      .help = "where packed weights are cached (default: ~/.cache/darkroom/weights)",
      .id = KEY_CACHE },
    { .name = "cache-limit",
      .value = "SIZE",
      .help = "most space they may take: 64G, 500M, 20GB or bytes (G is 2^30 bytes, GB 10^9); 0: "
              "no cache (default: 32G)",
      .id = KEY_CACHE_LIMIT },
};

int settings_keys(struct option_info ret[SETTINGS_KEYS])
{
    struct option_info options[CLI_OPTIONS];
    int n = 0, n_options = cli_options(&cli_generate, options);
    for (int i = 0; i < n_options; i++) {
        const struct option_info *o = &options[i];
        bool field = o->id < FIELD_COUNT;
        if (field ? !configurable((enum field_id)o->id)
                  : o->id != FIELD_COUNT + OPT_threads && o->id != FIELD_COUNT + OPT_output)
            continue;
        ret[n] = *o;
        if (field && !o->value) { /* not "no-" as on the command line */
            ret[n].name = field_info((enum field_id)o->id)->option;
            ret[n].value = "true|false";
            ret[n].help = field_info((enum field_id)o->id)->help;
            ret[n].dflt = field_info((enum field_id)o->id)->dflt;
        }
        n++;
    }
    for (size_t i = 0; i < sizeof worker_keys / sizeof *worker_keys; i++)
        ret[n++] = worker_keys[i];
    return n;
}

/* -1: no such key. */
static int find_key(const char *key)
{
    struct option_info keys[SETTINGS_KEYS];
    int n = settings_keys(keys);
    for (int i = 0; i < n; i++)
        if (option_has_name(&keys[i], key, strlen(key)))
            return keys[i].id;
    return -1;
}

static int fail_key(const struct config *c, const struct config_entry *e, struct dr_error *err)
{
    struct option_info keys[SETTINGS_KEYS];
    char near[OPTION_NAME_BYTES];
    bool found = option_nearest(keys, settings_keys(keys), e->key, near);
    return config_fail(c, e, err, "no such key (%s%s)", found ? "nearest: " : "see ",
                       found ? near : "darkroom help config");
}

/* A path of the file, made valid from the current folder. */
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
static bool is_name(const char *value, const char *path)
{
    struct stat st;
    return !strchr(value, '/') && lstat(path, &st);
}

/* The same of the path that begins a value with options, which may also be a name. */
static int spec_path_from(const struct config *c, const char *value, struct buf *dst,
                          struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct spec s;
    int r = spec_parse("", value, &s, err);
    if (r)
        return r;
    r = path_from(c, s.value, path, sizeof path, err);
    const char *kept = is_name(s.value, path) || !strncmp(s.value, "file://", 7) ? s.value : path;
    if (!r)
        r = spec_write(kept, dst);
    for (int i = 0; !r && i < s.n; i++) {
        r = buf_printf(dst, ",%s=", s.option[i].key);
        if (!r)
            r = spec_write(s.option[i].value, dst);
    }
    spec_release(&s);
    return r;
}

static int take_own(struct cli_call *call, int option, const char *value, struct dr_error *err)
{
    char **kept = option == OPT_threads ? &call->threads
                  : option == OPT_model ? &call->model
                                        : &call->output;
    if (!(call->verb->takes & (1u << option)) || call->value[option])
        return 0;
    *kept = dr_strdup(DR_TAG_BASE, value);
    call->value[option] = *kept;
    return *kept ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
}

static int take_cache(struct cli_call *call, const struct config *c, const struct config_entry *e,
                      int key, const char *value, struct dr_error *err)
{
    char bytes[32];
    int64_t n = 0;
    char **kept = key == KEY_CACHE ? &call->cache : &call->cache_limit;
    if (key == KEY_CACHE_LIMIT && !size_text_read(value, &n))
        return config_fail(c, e, err, "got %s, expected " SIZE_TEXT_EXPECTED, value);
    snprintf(bytes, sizeof bytes, "%" PRId64, n);
    dr_free(*kept);
    *kept = dr_strdup(DR_TAG_BASE, key == KEY_CACHE ? value : bytes);
    return *kept ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
}

/* Added to the variable that the worker inherits. */
static int take_folders(const struct config *c, const char *variable, const char *value,
                        struct dr_error *err)
{
    char one[MODEL_FOLDER_BYTES], path[DR_PATH_MAX];
    int r = 0;
    while (!r && model_folder_next(&value, one)) {
        r = path_from(c, one, path, sizeof path, err);
        if (!r)
            r = extra_model_paths_add(variable, path, err);
    }
    return r;
}

/* Folders, or a file that names them. */
static int take_places(const struct config *c, const struct config_entry *e, int key,
                       const char *value, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct dr_error inner = { 0 };
    if (key == KEY_MODELS)
        return take_folders(c, "DARKROOM_MODELS", value, err);
    if (key >= KEY_FOLDERS)
        return take_folders(c, model_folder((enum model_folder)(key - KEY_FOLDERS))->variable,
                            value, err);
    int r = path_from(c, value, path, sizeof path, err);
    if (r || !(r = extra_model_paths_read(path, &inner)))
        return r;
    return r == DR_ENOMEM ? dr_fail(err, r, "%s", inner.text)
                          : config_fail(c, e, err, "%s", inner.text);
}

static bool is_list(int key)
{
    return key >= 0 && key < FIELD_COUNT &&
           field_info((enum field_id)key)->type == FIELD_TYPE_SPECS;
}

/* A field of the request. */
static int take_field(struct cli_call *call, const struct config *c, const struct config_entry *e,
                      enum field_id id, const char *value, struct dr_error *err)
{
    bool more = is_list(id) && call->line[id]; /* the configuration has several */
    if (!call->verb->request || (request_has(&call->request, id) && !more))
        return 0;
    if (call->value[OPT_from] && from_settles(id))
        return 0;
    if (cli_typed(call, FIELD_recipe) && recipe_decides(id))
        return 0;
    const char *to = call->value[OPT_output];
    if (id == FIELD_format && to && to != call->output && *target_format_of(to))
        return 0; /* the command line names the format by the file's name */
    struct dr_error inner = { 0 };
    int r = request_set_text(&call->request, id, value, &inner);
    if (r == DR_ENOMEM)
        return dr_fail(err, r, "%s", inner.text);
    if (r < 0 && is_list(id))
        return config_fail(c, e, err, "%s", inner.text);
    if (r < 0)
        return config_fail(c, e, err, "got %s, expected %s", inner.got, inner.expected);
    call->line[id] = e->line;
    snprintf(call->config_path, sizeof call->config_path, "%s", c->path);
    return 0;
}

/* One of the values of a field that is a list. */
static int take_item(struct cli_call *call, const struct config *c, const struct config_entry *e,
                     enum field_id id, struct dr_error *err)
{
    struct dr_error inner = { 0 };
    struct buf value;
    buf_init(&value, DR_TAG_BASE, 0);
    int r = spec_path_from(c, e->value, &value, &inner);
    if (!r)
        r = take_field(call, c, e, id, buf_text(&value), err);
    else
        r = r == DR_EINVAL ? config_fail(c, e, err, "%s", inner.text)
                           : dr_fail(err, r, "%s: out of memory", c->path);
    buf_free(&value);
    return r;
}

/* A file of a model, which may also be a name. */
static bool is_model_key(int key)
{
    return key == FIELD_model || (key < FIELD_COUNT && field_is_part((enum field_id)key));
}

static bool is_path_key(int key)
{
    return is_model_key(key) || key == FIELD_COUNT + OPT_output || key == KEY_CACHE;
}

static int take_entry(struct cli_call *call, const struct config *c, const struct config_entry *e,
                      int key, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    const char *value = e->value;
    if (key < 0)
        return fail_key(c, e, err);
    if (e->null)
        return 0;
    if (e->listed && !is_list(key))
        return config_fail(c, e, err, "got a list, expected one value");
    if (is_list(key))
        return take_item(call, c, e, (enum field_id)key, err);
    if (!*value && (is_path_key(key) || key >= KEY_MODELS))
        return config_fail(c, e, err, "empty path");
    if (is_path_key(key)) {
        int r = path_from(c, value, path, sizeof path, err);
        if (r < 0)
            return r;
        bool kept = is_model_key(key) && (is_name(value, path) || !strncmp(value, "file://", 7));
        value = kept ? value : path;
    }
    if (key >= KEY_MODELS)
        return take_places(c, e, key, value, err);
    if (key >= KEY_CACHE)
        return take_cache(call, c, e, key, value, err);
    if (key >= FIELD_COUNT)
        return take_own(call, key - FIELD_COUNT, value, err);
    if (key == FIELD_model && call->verb->settings)
        return take_own(call, OPT_model, value, err);
    return take_field(call, c, e, (enum field_id)key, value, err);
}

/* A verb that draws fails, as half of the settings would give another picture; other verbs
 * continue. */
static bool lenient(const struct cli_call *call)
{
    return !call->verb->request && !call->verb->strict;
}

static int forgive(const struct cli_call *call, int key, int code, struct dr_error *err)
{
    bool used = key >= KEY_CACHE || key == FIELD_COUNT + OPT_threads;
    if (code == DR_ENOMEM || !lenient(call) || used)
        return error_list_go_on(call->errors, code, err);
    report_line("warning: %s", err->text);
    return 0;
}

/* Of one list: two lists for one key have different lines, or a key that comes twice. */
static bool same_list(const struct config_entry *a, const struct config_entry *b)
{
    return a->listed && b->listed && a->line == b->line;
}

int settings_take(struct cli_call *call, const struct config *config, struct dr_error *err)
{
    int keys[CONFIG_MAX_ENTRIES], r = 0;
    for (size_t i = 0; !r && i < config->count; i++) {
        const struct config_entry *e = &config->entries[i];
        size_t k = 0;
        keys[i] = find_key(e->key);
        while (k < i && (keys[i] < 0 || keys[k] != keys[i] || same_list(&config->entries[k], e)))
            k++;
        if (k < i)
            r = config_fail(config, e, err, "the same key as %s in line %d", config->entries[k].key,
                            config->entries[k].line);
        else
            r = take_entry(call, config, e, keys[i], err);
        if (r < 0)
            r = forgive(call, keys[i], r, err);
    }
    return r;
}

/* The file beside the configuration, if there is one. */
static int take_extra_paths(const struct cli_call *call, const struct config *c,
                            struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct stat st;
    if (path_from(c, "extra_model_paths.yaml", path, sizeof path, NULL) || lstat(path, &st))
        return 0;
    int r = extra_model_paths_read(path, err);
    return r < 0 ? forgive(call, -1, r, err) : 0;
}

bool settings_used(const struct cli_verb *verb)
{
    return verb->request || verb->settings || (verb->takes & TAKES(threads));
}

int settings_apply(struct cli_call *call, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct config config;
    struct stat st; /* an existing file must be readable; only a missing one is ignored */
    const char *named = call->value[OPT_config];
    if (!settings_used(call->verb) || (named && !strcmp(named, "/dev/null")))
        return 0;
    if (!named && (dr_config_path(path, sizeof path, "config.yaml", NULL) < 0 || lstat(path, &st)))
        return 0;
    int r = config_load(named ? named : path, &config, err);
    if (r == DR_ENOENT && named)
        return dr_fail_field(err, DR_EINVAL, "--config", named, "a file", "no such file");
    if (r < 0)
        return named ? r : forgive(call, -1, r, err);
    r = settings_take(call, &config, err);
    if (!r && !config_find(&config, "models.extra_model_paths"))
        r = take_extra_paths(call, &config, err);
    config_free(&config);
    return r;
}
