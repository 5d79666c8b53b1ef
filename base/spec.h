/* spec.h - a value with options of its own, as text: "VALUE[,key=value]...". A comma inside a value
 * is doubled. In JSON it is the same text, or an object with one member for VALUE.
 */
#ifndef DR_BASE_SPEC_H
#define DR_BASE_SPEC_H

#include "base/json.h"

enum { SPEC_OPTIONS = 32 };

struct spec {
    char *text; /* what the others point into; owned */
    const char *value;
    int n;
    struct {
        const char *key, *value;
    } option[SPEC_OPTIONS];
};

/* `field` begins the paths of errors: DR_EINVAL for an option that is not key=value or is given
 * twice, DR_ELIMIT for more than SPEC_OPTIONS. */
int spec_parse(const char *field, const char *text, struct spec *ret, struct dr_error *err);
void spec_release(struct spec *spec);

/* Appends a value as a spec's text has it: commas doubled. 0, or as buf_append. */
int spec_write(const char *value, struct buf *dst);

/* An object as text. Its member `main_key` is VALUE; the others are texts, numbers or booleans. */
int spec_from_json(const char *field, const char *main_key, const json_t *object, struct buf *dst,
                   struct dr_error *err);

/* Whether two texts that spec_parse accepts mean the same: options in any order, numbers by value.
 * Out of memory, they are compared as they are. */
bool spec_equal(const char *a, const char *b);

#endif
