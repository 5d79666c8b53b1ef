/* devices.c - `darkroom devices`: processor, memory, kernel sets and cache of this machine. */
#include "cli/cli.h"

#include <string.h>

#include "cli/report.h"
#include "cli/session.h"

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static int put_device(const json_t *device, struct buf *out)
{
    size_t i;
    json_t *set;
    char memory[32], available[32], limit[32];
    const json_t *bound = json_object_get(device, "limit");
    const char *chosen = text(device, "default_kernels");
    double bytes = json_number_value(json_object_get(device, "memory_bytes"));
    int r = buf_printf(
        out,
        "%s\n  kind     %s\n  threads  %" JSON_INTEGER_FORMAT
        "\n  memory   %s, %s available: limit %s (%s)\n  kernels  layout %" JSON_INTEGER_FORMAT
        "\n",
        text(device, "name"), text(device, "kind"),
        json_integer_value(json_object_get(device, "threads")), report_size(bytes, memory),
        report_size(json_number_value(json_object_get(device, "available_bytes")), available),
        report_size(json_number_value(json_object_get(bound, "bytes")), limit),
        text(bound, "source"), json_integer_value(json_object_get(device, "layout")));
    json_array_foreach(json_object_get(device, "kernel_sets"), i, set)
    {
        bool usable = json_is_true(json_object_get(set, "usable"));
        if (!r)
            r = buf_printf(out, "    %-16s %s\n", text(set, "name"),
                           !usable                              ? "not on this processor"
                           : !strcmp(text(set, "name"), chosen) ? "the default"
                                                                : "usable");
    }
    return r;
}

static int put_cache(const json_t *cache, struct buf *out)
{
    char used[32], limit[32];
    double most = json_number_value(json_object_get(cache, "limit_bytes"));
    if (most <= 0)
        return buf_puts(out, "packed weights are not cached (cache-limit: 0)\n");
    report_size(json_number_value(json_object_get(cache, "bytes")), used);
    return buf_printf(out, "packed weights\n  folder   %s\n  used     %s of at most %s\n",
                      text(cache, "folder"), used, report_size(most, limit));
}

static int devices(struct cli_call *call, struct dr_error *err)
{
    json_t *answer, *device;
    size_t i;
    struct buf out;
    struct session_options options = { .threads = call->value[OPT_threads],
                                       .cache = call->cache,
                                       .cache_limit = call->cache_limit };
    int r = session_ask(&options, VERB_devices, json_object(), &answer, err);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    json_array_foreach(json_object_get(answer, "devices"), i, device)
    {
        if (!r)
            r = put_device(device, &out);
    }
    if (!r)
        r = put_cache(json_object_get(answer, "cache"), &out);
    if (r < 0)
        dr_fail(err, r, "out of memory for the list");
    else
        r = call->value[OPT_json] ? report_json(answer, err) : report_text(&out, err);
    buf_free(&out);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_devices = {
    .name = "devices",
    .synopsis = "",
    .summary = "show processor, memory, kernel sets and the cache",
    .takes = TAKES(threads) | TAKES(json),
    .run = devices,
};
