/* lists.h - names that only the worker knows: samplers, schedules, presets, kernel sets, cases of
 * bench. They are read from its capabilities; this program has none compiled in. */
#ifndef DR_CLI_LISTS_H
#define DR_CLI_LISTS_H

#include <jansson.h>

struct list_info {
    const char *name;    /* "samplers", as `darkroom help` takes it */
    const char *option;  /* whose values they are: "sampler"; "": no option's, a topic of its own */
    const char *summary; /* half a line */
    const char *about;   /* what they are; "" for a topic of its own */
};

/* In the order of help; NULL past the end. */
const struct list_info *list_at(int i);

/* The array in the answer to `capabilities`: texts, or objects with name, title and aliases where
 * there are any. Borrowed; NULL if absent. */
const json_t *list_items(const struct list_info *list, const json_t *capabilities);

/* What the name means, in a few words; "" where nothing is known. */
const char *list_words(const struct list_info *list, const char *name);

/* The name of an item of it. */
const char *list_item_name(const json_t *item);

#endif
