/* convert.c - `darkroom convert --int8`: a copy of a model with 8-bit weights. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path_text.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"

enum { WORST = 20 };

static const char example[] = "darkroom convert --int8 -m MODEL -o COPY";

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static int worse_first(const void *a, const void *b)
{
    double x = number(*(const json_t *const *)a, "error");
    double y = number(*(const json_t *const *)b, "error");
    return x < y ? 1 : x > y ? -1 : 0;
}

static int put_layer(const json_t *layer, struct buf *out)
{
    char error[32] = "-"; /* never measured */
    if (json_is_number(json_object_get(layer, "error")))
        snprintf(error, sizeof error, "%.4f", number(layer, "error"));
    return buf_printf(out, "%-64s %12.0f %10s  %s\n", text(layer, "name"),
                      number(layer, "parameters"), error, text(layer, "why"));
}

/* The layers that stay float32, then the worst of the others. */
static int put_layers(const json_t *layers, struct buf *out)
{
    size_t n = json_array_size(layers);
    const json_t **sorted = dr_malloc(DR_TAG_BASE, (n + 1) * sizeof(json_t *));
    int r = sorted ? 0 : DR_ENOMEM, shown = 0;
    for (size_t i = 0; !r && i < n; i++)
        sorted[i] = json_array_get(layers, i);
    if (!r)
        qsort(sorted, n, sizeof(json_t *), worse_first);
    if (!r)
        r = buf_printf(out, "%-64s %12s %10s\n", "layer", "parameters", "error");
    for (size_t i = 0; !r && i < n; i++)
        if (!json_is_true(json_object_get(sorted[i], "int8")))
            r = put_layer(sorted[i], out);
    for (size_t i = 0; !r && i < n && shown < WORST; i++)
        if (json_is_true(json_object_get(sorted[i], "int8"))) {
            r = put_layer(sorted[i], out);
            shown++;
        }
    dr_free((void *)sorted);
    return r;
}

static int put_error(const json_t *answer, const char *key, const char *what, struct buf *out)
{
    const json_t *o = json_object_get(answer, key);
    if (!json_is_object(o))
        return 0;
    return buf_printf(out, "  %-10s %.5f  (%s)\n", what, number(o, "error"), text(o, "kernels"));
}

static int put_all(const json_t *answer, struct buf *out)
{
    int r = put_layers(json_object_get(answer, "layers"), out);
    if (!r)
        r = buf_printf(out,
                       "\nin 8 bits: %.0f of %.0f million parameters, mean error of a layer %.4f\n"
                       "relative error of predictions against float32:\n"
                       "  %-10s %.5f  (all of these layers in 8 bits)\n",
                       number(answer, "parameters_int8") / 1e6, number(answer, "parameters") / 1e6,
                       number(answer, "mean_layer_error"), "emulated",
                       number(answer, "emulated_error"));
    if (!r)
        r = put_error(answer, "int8", "int8", out);
    if (!r)
        r = put_error(answer, "wide", "16 bits", out);
    return r ? r
             : buf_printf(out, "written: %s\nall layers: %s\n", text(answer, "output"),
                          text(answer, "report"));
}

static void on_progress(void *ctx, const json_t *data)
{
    progress_say(ctx, text(data, "message"));
}

static int call_worker(struct cli_call *call, const char *output, json_t **ret,
                       struct dr_error *err)
{
    struct session s;
    struct progress progress;
    size_t folder = (size_t)(dr_path_base(output) - output);
    char *root = dr_strndup(DR_TAG_BASE, folder ? output : ".", folder ? folder : 1);
    struct session_options options = { .threads = call->value[OPT_threads], .root = root };
    const char *model = call->value[OPT_model];
    json_t *data = json_pack("{s:o*,s:o,s:b,s:b}", "model", model ? path_text_typed(model) : NULL,
                             "output", path_text_json(output), "int8", 1, "stream", 1);
    int r = !root || !data    ? dr_fail(err, DR_ENOMEM, "out of memory")
            : dr_is_dir(root) ? 0
                              : dr_fail(err, DR_ENOENT, "%s: no such folder", root);
    if (r < 0) {
        dr_free(root);
        json_decref(data);
        return r;
    }
    r = session_open(&s, &options, err);
    progress_init(&progress, call->value[OPT_quiet] != NULL);
    if (!r)
        r = session_call(&s, VERB_convert, data, on_progress, &progress, ret, err);
    else
        json_decref(data);
    progress_clear(&progress);
    session_close(&s);
    dr_free(root);
    return r;
}

static int convert(struct cli_call *call, struct dr_error *err)
{
    json_t *answer;
    struct buf out;
    const char *given = call->value[OPT_output];
    call->usage = !call->value[OPT_int8] || !given || !*given;
    if (!call->value[OPT_int8])
        return dr_fail_field(err, DR_EINVAL, "convert", "nothing to do",
                             "--int8: a copy of the model (-m) at -o with 8-bit weights where the "
                             "model tolerates them",
                             example);
    if (!given || !*given)
        return dr_fail_field(err, DR_EINVAL, "--output", "nothing",
                             "a path for the copy that does not exist yet", example);
    char *output = dr_strndup(DR_TAG_BASE, given, dr_path_trimmed(given));
    int r = output ? call_worker(call, output, &answer, err)
                   : dr_fail(err, DR_ENOMEM, "out of memory");
    dr_free(output);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    if (call->value[OPT_json])
        r = report_json(answer, err);
    else if ((r = put_all(answer, &out)) < 0)
        dr_fail(err, r, "out of memory for the report");
    else
        r = report_text(&out, err);
    buf_free(&out);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_convert = {
    .name = "convert",
    .synopsis = "--int8 -o PATH",
    .summary = "copy a model with 8-bit weights",
    .notes = "Measures the error that 8 bits make in each layer of the UNet on a few pictures, "
             "leaves the sensitive layers alone, and writes a model of the same layout with the "
             "others rounded, and a report. Such a model is computed in 8 bits if the processor "
             "can (AVX-512 VNNI); with --precision f32 only its weights are rounded.\n",
    .help = { [OPT_model] = "checkpoint or diffusers folder to convert; it is not changed "
                            "(default: the shipped small model)",
              [OPT_output] = "where the copy goes: a folder for a folder, a file for a file; "
                             "must not exist yet" },
    .takes = TAKES(int8) | TAKES(model) | TAKES(output) | TAKES(threads) | TAKES(quiet) |
             TAKES(json),
    .run = convert,
};
