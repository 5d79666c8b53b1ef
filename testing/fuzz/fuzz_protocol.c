/* fuzz_protocol.c - libFuzzer target: any bytes as a line that a host writes to the worker.
 *
 * A message that is read is the same after it was printed and read again, and the scanner that
 * finds ids in lines that are no JSON finds the same ids in one that is. A request that is read
 * prints as JSON that reads as the same request. */
#include "testing/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/communication/id_scan.h"
#include "core/communication/message.h"
#include "core/communication/request.h"

static void dump(const json_t *value, struct buf *dst)
{
    buf_init(dst, DR_TAG_TEST, 0);
    FUZZ_MUST(value && !jx_dump(value, dst));
}

static void check_request(const json_t *data)
{
    struct request request, again;
    struct dr_error err = { 0 };
    struct buf first, second;
    int r = request_parse(data, "data", NULL, &request, &err);
    if (r) {
        fuzz_must_name(r, &err);
        return;
    }
    json_t *printed = request_json(&request);
    dump(printed, &first);
    r = request_parse(printed, "data", NULL, &again, &err);
    FUZZ_MUST_SAY(!r, err.text);
    json_t *twice = request_json(&again);
    dump(twice, &second);
    FUZZ_MUST_SAY(!strcmp(buf_text(&first), buf_text(&second)), buf_text(&second));
    for (int i = 0; i < FIELD_COUNT; i++)
        FUZZ_MUST(request.value[i].set == again.value[i].set);
    json_decref(printed);
    json_decref(twice);
    buf_free(&first);
    buf_free(&second);
    request_free(&request);
    request_free(&again);
}

static void must_survive(const struct message *m)
{
    struct message again;
    struct dr_error err = { 0 };
    struct buf line, first, second;
    json_t *sent = message_request(m->verb, message_id(&m->ids), json_incref(m->data));
    dump(sent, &line);
    int r = message_parse(buf_text(&line), line.len, &again, &err);
    FUZZ_MUST_SAY(!r, err.text);
    FUZZ_MUST(again.verb == m->verb && !strcmp(message_id(&again.ids), message_id(&m->ids)));
    dump(m->data, &first);
    dump(again.data, &second);
    FUZZ_MUST_SAY(!strcmp(buf_text(&first), buf_text(&second)), buf_text(&second));
    message_free(&again);
    json_decref(sent);
    buf_free(&line);
    buf_free(&first);
    buf_free(&second);
}

static void check_answer(const struct message_ids *ids, const struct dr_error *error)
{
    struct buf line;
    struct dr_error read = { 0 };
    json_t *ignored, *answer = message_failure(ids, error);
    dump(answer, &line);
    FUZZ_MUST(!strchr(buf_text(&line), '\n'));
    FUZZ_MUST(message_answer(answer, &ignored, &read) == error->code);
    FUZZ_MUST_SAY(!strcmp(read.text, error->text), read.text);
    json_decref(answer);
    buf_free(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct message m;
    struct message_ids ids;
    struct dr_error err = { 0 };
    char *line = fuzz_text(bytes, n);
    id_scan(line, n, &ids);
    FUZZ_MUST(strlen(ids.request_id) < MESSAGE_ID_BYTES);
    int r = message_parse(line, n, &m, &err);
    if (r) {
        fuzz_must_explain(r, &err);
        FUZZ_MUST(!m.data);
        check_answer(&m.ids, &err);
    } else {
        FUZZ_MUST_SAY(!strcmp(m.ids.request_id, ids.request_id), ids.request_id);
        FUZZ_MUST_SAY(!strcmp(m.ids.correlation_id, ids.correlation_id), ids.correlation_id);
        must_survive(&m);
        check_request(m.data);
    }
    message_free(&m);
    free(line);
    fuzz_must_be_clean();
    return 0;
}
