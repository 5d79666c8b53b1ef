/* message.h - one line of the worker protocol, read and written.
 *
 * A request is {"type": VERB, "request_id": ID, "data": {...}}. The spellings of older hosts are
 * accepted: the verb under message_type, command or action (with workerType before it: "inference"
 * + "text2img"), the id under correlationId or in data. Answers echo every id that was given, under
 * the name it came by.
 *
 *     ready     {"success":true,"status":"ready","protocol":1, ...}
 *     progress  {"success":true,"request_id":ID,
 *                "data":{"type":"progress","step":3,"total_steps":30, ...}}
 *     result    {"success":true,"request_id":ID,"data":{...}}
 *     failure   {"success":false,"request_id":ID,"error":TEXT,"error_code":CODE,
 *                "details":[{path,got,expected,hint}]}
 */
#ifndef DR_CORE_COMMUNICATION_MESSAGE_H
#define DR_CORE_COMMUNICATION_MESSAGE_H

#include <stdbool.h>

#include "base/error_list.h"
#include "base/json.h"

enum { MESSAGE_PROTOCOL = 1, MESSAGE_ID_BYTES = 256, MESSAGE_LINE_BYTES = 64 << 20 };

enum verb {
#define VERB(name, mode, spellings) VERB_##name,
#include "core/communication/message_verbs.def"
#undef VERB
    VERB_COUNT
};

const char *verb_name(enum verb v);
bool verb_immediate(enum verb v); /* NOW in the table */

/* Ids as they came; "" when not given. An integer id is echoed as text. */
struct message_ids {
    char request_id[MESSAGE_ID_BYTES];
    char correlation_id[MESSAGE_ID_BYTES];
};

/* The id that names the job: request_id, else correlation_id, else "". */
const char *message_id(const struct message_ids *ids);

struct message {
    enum verb verb;
    struct message_ids ids;
    json_t *data; /* object, owned; an empty one when absent */
};

/* One line without its newline. On failure ret->ids holds what could be read (for the answer), of a
 * line that is no JSON by id_scan, and data is NULL. */
int message_parse(const char *line, size_t n, struct message *ret, struct dr_error *err);
void message_free(struct message *m);

/* Members of `data` other than these (NULL ends them) and message_ids_in_data are an error. */
int message_only(const json_t *data, const char *const *names, struct dr_error *err);

/* Members that belong to the envelope and that older hosts send in data; NULL ends them. */
extern const char *const message_ids_in_data[];

/* A request line for the other side; new reference, takes over data. NULL when memory is short. */
json_t *message_request(enum verb verb, const char *request_id, json_t *data);

/* Answers; new references, `data` taken over; NULL when memory is short. The envelope carries
 * worker_info and timestamp. */
json_t *message_result(const struct message_ids *ids, json_t *data);
json_t *message_progress(const struct message_ids *ids, json_t *data);
json_t *message_failure(const struct message_ids *ids, const struct dr_error *error);

/* A failure without the envelope, as `darkroom --json` prints it. */
json_t *message_error(const struct dr_error *error);

/* The errors found by `validate`: [{error, error_code, path}]. */
json_t *message_errors(const struct error_list *list);

/* One of them, read back. */
void message_error_of(const json_t *item, struct dr_error *ret);

/* Reads an answer: 0 and *ret_data borrowed when success is true; else the dr_code of error_code,
 * err filled. */
int message_answer(const json_t *answer, json_t **ret_data, struct dr_error *err);

/* Whether an event is about a job that goes on: its data has the type "progress". */
bool message_is_progress(const json_t *event);

#endif
