/* inspect.c - `darkroom inspect`: describes a model file or a picture. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "base/path_text.h"
#include "base/utf8.h"
#include "cli/report.h"
#include "cli/session.h"

enum { DEPTH_MOST = 8, KEY_COLUMNS = 22, METADATA_SHOWN = 300 };

static int put_value(const char *key, const json_t *value, int depth, struct buf *out);

/* Further lines of a text are indented to the first. */
static int put_text(const char *text, struct buf *out)
{
    int r = 0;
    for (bool more = true; !r && more;) {
        char line[1024];
        size_t n = strcspn(text, "\n"), part = n < sizeof line - 1 ? n : sizeof line - 1;
        snprintf(line, sizeof line, "%.*s", (int)part, text);
        r = report_put(out, line);
        text += part;
        more = *text != '\0';
        if (!r && *text == '\n') {
            r = buf_printf(out, "\n%*s", KEY_COLUMNS + 1, "");
            text++;
        }
    }
    return r;
}

static bool is_bytes(const char *key)
{
    size_t n = strlen(key);
    return !strcmp(key, "size") || (n > 5 && !strcmp(key + n - 5, "bytes"));
}

static int put_scalar(const char *key, const json_t *value, struct buf *out)
{
    char size[32];
    if (json_is_integer(value) && is_bytes(key))
        return buf_puts(out, report_size((double)json_integer_value(value), size));
    if (json_is_integer(value) && !strcmp(key, "parameters"))
        return buf_puts(out, report_count((double)json_integer_value(value), size));
    switch (json_typeof(value)) {
    case JSON_STRING:
        return put_text(json_string_value(value), out);
    case JSON_INTEGER:
        return buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    case JSON_REAL:
        return buf_printf(out, "%g", json_real_value(value));
    case JSON_TRUE:
        return buf_puts(out, "yes");
    case JSON_FALSE:
        return buf_puts(out, "no");
    default:
        return buf_puts(out, "-");
    }
}

static bool is_flat(const json_t *array)
{
    size_t i;
    json_t *item;
    json_array_foreach(array, i, item)
    {
        if (json_is_object(item) || json_is_array(item))
            return false;
    }
    return true;
}

/* "1, 2, 3" on the key's line. */
static int put_list(const char *key, const json_t *array, struct buf *out)
{
    size_t i;
    json_t *item;
    int r = 0;
    json_array_foreach(array, i, item)
    {
        if (!r && i)
            r = buf_puts(out, ", ");
        if (!r)
            r = put_scalar(key, item, out);
    }
    return r;
}

/* Metadata: what some tools store is longer than the rest together; --json has all of it. */
static int put_metadata(const json_t *metadata, int depth, struct buf *out)
{
    const char *key;
    json_t *item;
    int r = 0;
    json_object_foreach((json_t *)metadata, key, item)
    {
        char text[METADATA_SHOWN + 40];
        const char *all = json_string_value(item);
        size_t n = json_string_length(item);
        json_t *shown = NULL;
        if (all && n > METADATA_SHOWN) {
            n = utf8_valid_prefix(all, METADATA_SHOWN);
            snprintf(text, sizeof text, "%.*s ... (%zu bytes)", (int)n, all, strlen(all));
            shown = json_string(text);
        }
        if (!r)
            r = put_value(key, shown ? shown : item, depth, out);
        json_decref(shown);
    }
    return r;
}

static int put_members(const json_t *value, int depth, struct buf *out)
{
    const char *key;
    json_t *item;
    size_t i;
    int r = 0;
    json_object_foreach((json_t *)value, key, item)
    {
        if (!r)
            r = put_value(key, item, depth, out);
    }
    json_array_foreach(value, i, item)
    {
        if (!r)
            r = put_value("-", item, depth, out);
    }
    return r;
}

static int put_value(const char *key, const json_t *value, int depth, struct buf *out)
{
    bool inner = depth < DEPTH_MOST &&
                 (json_is_object(value) || (json_is_array(value) && !is_flat(value)));
    int columns = KEY_COLUMNS - 2 * depth;
    int r = buf_printf(out, "%*s", 2 * depth, "");
    size_t before = out->len;
    if (!r)
        r = report_put(out, key);
    int left = columns - (int)(out->len - before);
    if (!r && left > 0 && !inner)
        r = buf_printf(out, "%*s", left, "");
    if (!r && inner)
        r = buf_putc(out, '\n');
    if (!r && inner)
        return (strcmp(key, "metadata") ? put_members : put_metadata)(value, depth + 1, out);
    if (!r)
        r = buf_putc(out, ' ');
    if (!r)
        r = json_is_array(value) ? put_list(key, value, out) : put_scalar(key, value, out);
    return r ? r : buf_putc(out, '\n');
}

static int inspect(struct cli_call *call, struct dr_error *err)
{
    json_t *answer;
    struct buf out;
    call->usage = !*call->argument[0];
    if (call->usage)
        return dr_fail(err, DR_EINVAL, "inspect: empty path");
    json_t *data = json_pack("{s:o}", "path", path_text_typed(call->argument[0]));
    int r = data && cli_add_parts(call, data) < 0 ? dr_fail(err, DR_ENOMEM, "out of memory") : 0;
    if (r < 0) {
        json_decref(data);
        return r;
    }
    r = session_ask(&(struct session_options){ .threads = "1" }, VERB_inspect, data, &answer, err);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    if (call->value[OPT_json])
        r = report_json(answer, err);
    else if ((r = put_members(answer, 0, &out)) < 0)
        dr_fail(err, r, "out of memory for the description");
    else
        r = report_text(&out, err);
    buf_free(&out);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_inspect = {
    .name = "inspect",
    .synopsis = "FILE",
    .summary = "describe a model file, a model folder or a picture",
    .notes =
        "Of a model: kind, architecture, parameters of each part, dtypes, metadata and "
        "sha256. Of a PNG, JPEG or WebP picture: its size, infotext and receipt (see generate "
        "--from). Of a LoRA or a relative of it: its kind, spelling, rank and alpha, the models it "
        "fits, tensors that nothing can use, what its trainer wrote (base model, resolution) "
        "and its trigger words. Of an embedding: how many vectors, for which encoders. "
        "Of a part of a model (a UNet, a text encoder, a VAE): what it is and which "
        "option takes it. With such options: the model with these parts.\n",
    .parts = true,
    .least = 1,
    .most = 1,
    .takes = TAKES(json),
    .settings = true,
    .run = inspect,
};
