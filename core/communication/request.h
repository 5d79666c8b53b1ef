/* request.h - a generation request: the table of fields, and values for some of them.
 *
 * Both sides share it: the command line fills a request from options and sends it as JSON; the
 * worker parses the JSON. A field that was not given stays unset, so defaults that depend on the
 * model are applied where the model is known; fixed defaults come from the table. Values of NAME
 * fields are checked by the worker.
 */
#ifndef DR_CORE_COMMUNICATION_REQUEST_H
#define DR_CORE_COMMUNICATION_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error_list.h"
#include "base/json.h"

enum field_id {
#define FIELD(name, ...) FIELD_##name,
#include "core/communication/request.def"
#undef FIELD
    FIELD_COUNT
};

enum field_type {
    FIELD_TYPE_TEXT,
    FIELD_TYPE_INT,
    FIELD_TYPE_SEED, /* -1, or 0 to 2^64-1, in JSON also as text */
    FIELD_TYPE_REAL,
    FIELD_TYPE_FLAG,
    FIELD_TYPE_CHOICE,
    FIELD_TYPE_NAME,
    FIELD_TYPE_SPEC,
    FIELD_TYPE_SIZE,
    FIELD_TYPE_PAIR,
    FIELD_TYPE_MAP,
    FIELD_TYPE_SPECS,
    FIELD_TYPE_NUMBERS /* a list; text has it with commas */
};

struct field_info {
    const char *name;
    enum field_type type;
    const char *option; /* long option, "" when it has none */
    char letter;        /* short option, 0 when it has none */
    const char *aliases;
    int64_t lo, hi;
    const char *dflt, *choices, *unit, *help;
};

struct field_value {
    bool set;
    int64_t i, j; /* INT; SIZE: width, height; PAIR: top, left; FLAG: i; SEED: i has its 64 bits, j
                     is 1 for -1 */
    double real;
    char *text;  /* TEXT, CHOICE (canonical spelling), NAME, SPEC, NUMBERS; owned */
    json_t *map; /* MAP: an object. SPECS: an array of objects, canonical keys. Owned */
};

struct request {
    struct field_value value[FIELD_COUNT];
};

enum { REQUEST_PROMPT_BYTES = 16384, REQUEST_TEXT_BYTES = 4096 };

const struct field_info *field_info(enum field_id id);
/* Key i of a SPECS field, the first is what stands before the first comma; NULL past the end. */
const struct field_info *field_key(enum field_id id, int i);
/* A file that replaces a part of the model. */
bool field_is_part(enum field_id id);

/* All unset. request_free takes partially filled ones and leaves an empty one. */
void request_init(struct request *r);
void request_free(struct request *r);

/* Whether request_parse takes a member of this name: a field, another spelling of one, a group of
 * them, or what is skipped. */
bool request_knows(const char *name);

/* Whether it is a field of other programs that Darkroom has no counterpart for. */
bool request_unsupported(const char *name);

/* `data` as the protocol has it: canonical names and aliases, nested groups. Unknown field: an
 * error with the nearest name. Two spellings of one field with different values: an error. `path`
 * ("data") begins the paths in errors. On failure *ret is empty. `ignored`: members of the
 * envelope to skip (NULL-terminated; NULL: none). */
int request_parse(const json_t *data, const char *path, const char *const *ignored,
                  struct request *ret, struct dr_error *err);

/* The same, but with a list it continues after an error and *ret holds the valid fields. */
int request_parse_all(const json_t *data, const char *path, const char *const *ignored,
                      struct error_list *list, struct request *ret, struct dr_error *err);

/* One value from text, as an option gives it. MAP takes NAME=VALUE and adds, SPECS adds one. FLAG
 * takes true and false. */
int request_set_text(struct request *r, enum field_id id, const char *text, struct dr_error *err);

/* The set fields as canonical JSON; new reference, NULL when memory is short. */
json_t *request_json(const struct request *r);

bool request_has(const struct request *r, enum field_id id);
void request_unset(struct request *r, enum field_id id);
/* Value, else the table's default (0, "" when it has none). Text is the request's. */
int64_t request_int(const struct request *r, enum field_id id);
/* False: a random one is wanted. */
bool request_seed(const struct request *r, uint64_t *ret_seed);
double request_real(const struct request *r, enum field_id id);
bool request_flag(const struct request *r, enum field_id id);
const char *request_text(const struct request *r, enum field_id id);

/* SPECS: how many there are, and of one of them a key's value, else the table's default. */
int request_count(const struct request *r, enum field_id id);
bool request_item_has(const struct request *r, enum field_id id, int item, const char *key);
bool request_item_flag(const struct request *r, enum field_id id, int item, const char *key);
double request_item_real(const struct request *r, enum field_id id, int item, const char *key);
const char *request_item_text(const struct request *r, enum field_id id, int item, const char *key);

/* JSON Schema (draft 2020-12) of `data`; new reference, NULL when memory is short. */
json_t *request_schema(void);

#endif
