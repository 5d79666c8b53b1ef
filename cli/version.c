/* version.c - `darkroom version`. */
#include "cli/cli.h"

#include "cli/report.h"
#include "core/communication/message.h"

static int version(struct cli_call *call, struct dr_error *err)
{
    struct buf out;
    if (call->value[OPT_json]) {
        json_t *object = json_pack("{s:s,s:i}", "version", DR_VERSION, "protocol",
                                   MESSAGE_PROTOCOL);
        int r = report_json(object, err);
        json_decref(object);
        return r;
    }
    buf_init(&out, DR_TAG_BASE, 0);
    int r = buf_puts(&out, "darkroom " DR_VERSION "\n");
    r = r < 0 ? dr_fail(err, r, "out of memory") : report_text(&out, err);
    buf_free(&out);
    return r;
}

const struct cli_verb cli_version = {
    .name = "version",
    .synopsis = "",
    .summary = "print the version",
    .takes = TAKES(json),
    .run = version,
};
