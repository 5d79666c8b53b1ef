/* config_keys.h - a table of a config.json's keys, and checking a file against it. */
#ifndef DR_MODELS_FORMATS_CONFIG_KEYS_H
#define DR_MODELS_FORMATS_CONFIG_KEYS_H

#include "models/formats/config_arch.h"

struct config_key {
    const char *key;
    enum {
        CONFIG_READ,      /* by code, elsewhere */
        CONFIG_NO_EFFECT, /* on inference in float32 */
        CONFIG_NULL,      /* must be null */
        CONFIG_TEXT,
        CONFIG_NUMBER,
        CONFIG_FALSE, /* must be false; null will do */
        CONFIG_TRUE,
    } rule;
    const char *text; /* CONFIG_TEXT: the value; other spellings of it separated by '|' */
    double number;
    bool required; /* the class default is another value */
};

/* Ends with a key of NULL. */
int config_keys_check(const json_t *config, const struct config_key *keys, const char *file,
                      const struct config_unknown *unknown, struct dr_error *err);

/* "file: key: got VALUE, expected ..." with VALUE as in the file. */
int config_bad(const json_t *config, const char *file, const char *key, const char *expected,
               struct dr_error *err);

#endif
