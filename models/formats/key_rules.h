/* key_rules.h - the tables behind key_map.h, for key_map.c and, read backwards, key_names.c. */
#ifndef DR_MODELS_FORMATS_KEY_RULES_H
#define DR_MODELS_FORMATS_KEY_RULES_H

#include "models/formats/key_names.h"

/* What the marks in a pattern and in its result stand for is said in key_map.c. */
struct rule {
    const char *from, *to;
    const struct rule *rest;
    /* SHIFTED: the first number counts one thing more than in the result */
    enum { PLAIN, INPUT_BLOCK, OUTPUT_BLOCK, STACKED, TRANSPOSED, SHIFTED, IGNORED } how;
};

/* Of a component of a single file, without the prefix; ends with .from NULL. */
const struct rule *key_rules(enum key_form form);

#endif
