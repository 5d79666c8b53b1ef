/* config.h - the configuration file: YAML of one mapping, at most one level of mappings inside.
 *
 *     model: ~/models/sdxl.safetensors
 *     generate:
 *       steps: 20
 *
 * reads as model, generate.steps. Values stay text; whoever owns the key parses it and reports a
 * bad one with the entry's line. A list of values is one entry for each, with the same key and
 * line. Anchors, aliases, tags, deeper lists, a second document and duplicate keys are errors.
 */
#ifndef DR_CLI_CONFIG_H
#define DR_CLI_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { CONFIG_MAX_BYTES = 64 << 10, CONFIG_MAX_ENTRIES = 1024 };

struct config_entry {
    char *key;   /* "model", "generate.steps" */
    char *value; /* text; a YAML null is "" */
    int line;    /* the key's, from 1 */
    bool quoted; /* written in quotes, so a string whatever it looks like */
    bool listed; /* one of a list */
    bool null;   /* no value, or one of YAML's words for none */
};

struct config {
    char *path; /* for messages */
    struct config_entry *entries;
    size_t count;
};

/* Release with config_free. A file that does not exist is DR_ENOENT. */
int config_load(const char *path, struct config *ret_config, struct dr_error *err);
int config_parse(const char *text, size_t n, const char *name, struct config *ret_config,
                 struct dr_error *err);
void config_free(struct config *c);

/* NULL when the key is absent. */
const struct config_entry *config_find(const struct config *c, const char *key);

/* Records "PATH:LINE: KEY: <text>"; returns DR_EINVAL. */
int config_fail(const struct config *c, const struct config_entry *e, struct dr_error *err,
                const char *fmt, ...) DR_PRINTF(4, 5);

#endif
