/* cache.c - `darkroom cache`: lists and removes cached packed weights. */
#include "cli/cli.h"

#include <string.h>

#include "base/size_text.h"
#include "cli/report.h"
#include "cli/session.h"

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static int put_pack(const json_t *pack, bool removed, struct buf *out)
{
    char size[32];
    int r = buf_printf(out, "%s%9s  model %.12s  %-16s used %s  ", removed ? "removed " : "",
                       report_size(number(pack, "bytes"), size), text(pack, "model"),
                       text(pack, "kernels"), text(pack, "last_used"));
    if (!r)
        r = report_put(out, text(pack, "path"));
    return r ? r : buf_putc(out, '\n');
}

static int put_packs(const json_t *packs, bool removed, struct buf *out)
{
    size_t i;
    json_t *pack;
    int r = 0;
    json_array_foreach(packs, i, pack)
    {
        if (!r && json_is_true(json_object_get(pack, "removed")) == removed)
            r = put_pack(pack, removed, out);
    }
    return r;
}

static int put_answer(const json_t *answer, struct buf *out)
{
    char used[32], limit[32];
    const json_t *packs = json_object_get(answer, "packs");
    int r = put_packs(packs, false, out);
    if (!r)
        r = put_packs(packs, true, out);
    if (!r)
        r = buf_printf(out, "%s of at most %s in ", report_size(number(answer, "bytes"), used),
                       report_size(number(answer, "limit_bytes"), limit));
    if (!r)
        r = report_put(out, text(answer, "folder"));
    return r ? r : buf_putc(out, '\n');
}

static int fail_usage(struct cli_call *call, const char *got, const char *expected,
                      struct dr_error *err)
{
    call->usage = true;
    return dr_fail_field(err, DR_EINVAL, "cache", got, expected, NULL);
}

/* The data of the worker's request; NULL with err filled. */
static json_t *request_of(struct cli_call *call, struct dr_error *err)
{
    const char *action = call->arguments ? call->argument[0] : "list";
    bool prune = !strcmp(action, "prune");
    int64_t keep = 0;
    if (!prune && strcmp(action, "list") && strcmp(action, "clear")) {
        fail_usage(call, action, "list, clear or prune SIZE", err);
        return NULL;
    }
    if (!prune && call->arguments > 1) {
        fail_usage(call, call->argument[1], "nothing after list or clear", err);
        return NULL;
    }
    if (prune && call->arguments < 2) {
        fail_usage(call, "prune", "prune SIZE", err);
        return NULL;
    }
    if (prune && !size_text_read(call->argument[1], &keep)) {
        fail_usage(call, call->argument[1], SIZE_TEXT_EXPECTED, err);
        return NULL;
    }
    json_t *data = strcmp(action, "list") ? json_pack("{s:I}", "keep_bytes", (json_int_t)keep)
                                          : json_object();
    if (!data)
        dr_fail(err, DR_ENOMEM, "out of memory for a request");
    return data;
}

static int cache(struct cli_call *call, struct dr_error *err)
{
    json_t *answer, *data = request_of(call, err);
    struct buf out;
    struct session_options options = { .threads = "1",
                                       .cache = call->cache,
                                       .cache_limit = call->cache_limit };
    if (!data)
        return err->code;
    int r = session_ask(&options, VERB_cache, data, &answer, err);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    if (call->value[OPT_json])
        r = report_json(answer, err);
    else if ((r = put_answer(answer, &out)) < 0)
        dr_fail(err, r, "out of memory for the list");
    else
        r = report_text(&out, err);
    buf_free(&out);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_cache = {
    .name = "cache",
    .synopsis = "[list|clear|prune SIZE]",
    .summary = "list or remove cached packed weights",
    .notes =
        "list (the default) shows each file of packed weights: size, the model's digest, kernel "
        "set and last use. clear removes all of them; prune removes those used longest ago "
        "until the rest takes at most SIZE (64G, 500M, 20GB or bytes). Only files that are "
        "packed weights are removed, and the next start that needs one rebuilds it. The "
        "folder and its limit are cache and cache-limit in the configuration. darkroom check "
        "--cache verifies the files.\n",
    .most = 2,
    .settings = true,
    .strict = true,
    .takes = TAKES(json),
    .run = cache,
};
