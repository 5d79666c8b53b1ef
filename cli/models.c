/* models.c - `darkroom models`: the files that can be called by name. */
#include "cli/cli.h"

#include <string.h>

#include "cli/report.h"
#include "cli/session.h"
#include "core/communication/model_folders.h"

enum { NAME_COLUMNS = 31 };

/* The files of a kind; a kind without any is left out. */
static int put_kind(const json_t *answer, enum model_folder kind, struct buf *out)
{
    bool models = kind == FOLDER_checkpoints;
    const char *key = models ? "models" : model_folder(kind)->name;
    const json_t *list = json_object_get(answer, key);
    size_t i;
    json_t *item;
    int r = json_array_size(list) ? buf_printf(out, "%s:\n", model_folder(kind)->name) : 0;
    json_array_foreach(list, i, item)
    {
        if (!r)
            r = buf_puts(out, "  ");
        size_t before = out->len;
        if (!r)
            r = report_put(out, jx_text(item, "name"));
        int left = NAME_COLUMNS - (int)(out->len - before);
        if (!r)
            r = buf_printf(out, "%*s ", left > 0 ? left : 0, "");
        if (!r)
            r = report_put(out, jx_text(item, "path"));
        if (!r)
            r = buf_putc(out, '\n');
    }
    return r;
}

static int put_folders(const json_t *answer, struct buf *out)
{
    size_t i;
    json_t *item;
    int r = buf_puts(out, "folders:\n");
    json_array_foreach(json_object_get(answer, "folders"), i, item)
    {
        const char *kind = json_string_value(json_object_get(item, "kind"));
        bool exists = json_is_true(json_object_get(item, "exists"));
        if (!r)
            r = buf_printf(out, "  %-14s ", kind ? kind : "of any kind");
        if (!r)
            r = report_put(out, jx_text(item, "path"));
        if (!r)
            r = buf_puts(out, exists ? "\n" : " (does not exist)\n");
    }
    return r;
}

static int models(struct cli_call *call, struct dr_error *err)
{
    json_t *answer;
    struct buf out;
    int r = session_ask(&(struct session_options){ .threads = "1" }, VERB_models, json_object(),
                        &answer, err);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    for (int i = 0; !r && i < MODEL_FOLDERS; i++)
        r = put_kind(answer, (enum model_folder)i, &out);
    if (!r)
        r = put_folders(answer, &out);
    if (r < 0)
        dr_fail(err, r, "out of memory for the list");
    else
        r = call->value[OPT_json] ? report_json(answer, err) : report_text(&out, err);
    buf_free(&out);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_models = {
    .name = "models",
    .synopsis = "",
    .summary = "list models, LoRAs and other files that can be called by name",
    .notes = "Wherever a path of such a file is taken, its name is too: that of the file, with or "
             "without its extension, or of a folder of a model, in one of these folders. The "
             "configuration (see help config) and variables add folders.\n",
    .takes = TAKES(json),
    .settings = true,
    .run = models,
};
