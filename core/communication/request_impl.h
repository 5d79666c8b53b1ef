/* request_impl.h - what request.c, request_parse.c and request_specs.c share. */
#ifndef DR_CORE_COMMUNICATION_REQUEST_IMPL_H
#define DR_CORE_COMMUNICATION_REQUEST_IMPL_H

#include "core/communication/request.h"

enum { REQUEST_NAME_BYTES = 128, REQUEST_NUMBERS = 1001 };

void request_value_clear(struct field_value *v);

/* Fills *v; `path` names the field in errors. */
int request_value_from_json(const struct field_info *f, const char *path, const json_t *value,
                            struct field_value *v, struct dr_error *err);
int request_value_from_text(const struct field_info *f, const char *path, const char *text,
                            struct field_value *v, struct dr_error *err);
json_t *request_value_json(const struct field_info *f, const struct field_value *v);
/* A field's text, which may be a path. */
json_t *request_text_json(const struct field_info *f, const char *text);

/* SPECS: all of them from JSON, one more from text, and back. */
int request_specs_from_json(const struct field_info *f, const char *path, const json_t *value,
                            struct field_value *v, struct dr_error *err);
int request_specs_add_text(const struct field_info *f, const char *path, const char *text,
                           struct field_value *v, struct dr_error *err);
json_t *request_specs_json(const struct field_info *f, const struct field_value *v);

/* NUMBERS fields: into v->text, and back as an array (NULL: out of memory). */
int request_numbers_from_text(const char *path, const char *text, struct field_value *v,
                              struct dr_error *err);
int request_numbers_from_json(const char *path, const json_t *array, struct field_value *v,
                              struct dr_error *err);
json_t *request_numbers_json(const struct field_value *v);

/* neutral.def: a member of other programs' requests that asks for nothing at certain values. */
struct neutral {
    const char *name;
    const char *values; /* JSON texts, with '|' between them; "*": any */
    const char *hint;   /* what to use instead, "" if there is nothing */
};

/* NULL: no such member. */
const struct neutral *neutral_find(const char *name);
/* 0 when the value asks for nothing, DR_EUNSUPPORTED when it does. */
int neutral_check(const struct neutral *n, const char *path, const json_t *value,
                  struct dr_error *err);

#endif
