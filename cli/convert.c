/* convert.c - `darkroom convert`: a copy of a model with weights of another type; --int8 measures
 * which layers tolerate 8 bits. */
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

static const char example[] = "darkroom convert MODEL -o COPY --type f16";

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
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
    return buf_printf(out, "%-64s %12.0f %10s  %s\n", jx_text(layer, "name"),
                      number(layer, "parameters"), error, jx_text(layer, "why"));
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
    return buf_printf(out, "  %-10s %.5f  (%s)\n", what, number(o, "error"), jx_text(o, "kernels"));
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
        r = put_error(answer, "16_bit", "16 bits", out);
    return r ? r
             : buf_printf(out, "written: %s\nall layers: %s\n", jx_text(answer, "output"),
                          jx_text(answer, "report"));
}

/* How many tensors of each type, and what a pickle had beside tensors. */
static int put_types(const json_t *answer, struct buf *out)
{
    const char *type;
    json_t *n;
    int r = buf_printf(out, "%.0f tensors:", number(answer, "tensors"));
    json_object_foreach(json_object_get(answer, "dtypes"), type, n)
    {
        if (!r)
            r = buf_printf(out, " %.0f %s", json_number_value(n), type);
    }
    if (!r && number(answer, "left_out") > 0)
        r = buf_printf(out, "\nleft out, no tensors: %.0f values", number(answer, "left_out"));
    if (!r)
        r = buf_printf(out, "\nwritten: %s\n", jx_text(answer, "output"));
    size_t i;
    json_array_foreach(json_object_get(answer, "warnings"), i, n)
    {
        if (!r)
            r = buf_printf(out, "warning: %s\n", json_string_value(n));
    }
    return r;
}

static void on_progress(void *ctx, const json_t *data)
{
    progress_say(ctx, jx_text(data, "message"));
}

static int call_worker(struct cli_call *call, const char *output, json_t **ret,
                       struct dr_error *err)
{
    struct session s;
    struct progress progress;
    size_t folder = (size_t)(dr_path_base(output) - output);
    char *root = dr_strndup(DR_TAG_BASE, folder ? output : ".", folder ? folder : 1);
    struct session_options options = { .threads = call->value[OPT_threads], .root = root };
    const char *model = call->arguments ? call->argument[0] : call->value[OPT_model];
    json_t *data = json_pack("{s:o*,s:o,s:b,s:s*,s:s*,s:b}", "model",
                             model ? path_text_typed(model) : NULL, "output",
                             path_text_json(output), "int8", call->value[OPT_int8] != NULL, "type",
                             call->value[OPT_type], "layout", call->value[OPT_layout], "stream", 1);
    if (data && cli_add_parts(call, data)) {
        json_decref(data);
        data = NULL;
    }
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

static bool parts_given(const struct cli_call *call)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        if (field_is_part((enum field_id)i) && request_has(&call->request, (enum field_id)i))
            return true;
    return false;
}

static int convert(struct cli_call *call, struct dr_error *err)
{
    json_t *answer;
    struct buf out;
    const char *given = call->value[OPT_output];
    bool model = call->arguments || call->value[OPT_model];
    call->usage = true;
    if (!call->value[OPT_int8] && !call->value[OPT_layout] && !model)
        return dr_fail_field(err, DR_EINVAL, "convert", "nothing to do",
                             "a file to copy with weights of another --type, another --layout, "
                             "or --int8",
                             example);
    if (call->value[OPT_int8] && call->value[OPT_layout])
        return dr_fail_field(err, DR_EINVAL, "--layout", call->value[OPT_layout],
                             "nothing beside --int8", NULL);
    if (!call->value[OPT_layout] && parts_given(call))
        return dr_fail_field(err, DR_EINVAL, "convert", "parts of a model",
                             "--layout, of the model that they are put into", NULL);
    if (call->arguments && call->value[OPT_model])
        return dr_fail_field(err, DR_EINVAL, "--model", call->value[OPT_model],
                             "the model once: as an argument, or so", NULL);
    if (call->value[OPT_int8] && call->value[OPT_type])
        return dr_fail_field(err, DR_EINVAL, "--type", call->value[OPT_type],
                             "nothing beside --int8", NULL);
    if (!given || !*given)
        return dr_fail_field(err, DR_EINVAL, "--output", "nothing",
                             "a path for the copy that does not exist yet", example);
    call->usage = false;
    char *output = dr_strndup(DR_TAG_BASE, given, dr_path_trimmed(given));
    int r = output ? call_worker(call, output, &answer, err)
                   : dr_fail(err, DR_ENOMEM, "out of memory");
    dr_free(output);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    if (call->value[OPT_json])
        r = report_json(answer, err);
    else if ((r = (call->value[OPT_int8] ? put_all : put_types)(answer, &out)) < 0)
        dr_fail(err, r, "out of memory for the report");
    else
        r = report_text(&out, err);
    buf_free(&out);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_convert = {
    .name = "convert",
    .synopsis = "[FILE] -o PATH [--layout NAME] [--type NAME]",
    .summary = "copy a model in another layout or with weights of another type",
    .notes =
        "FILE is a safetensors or GGUF file, or a pickle of PyTorch (.ckpt, .pt, .bin), whose "
        "tensors are read and nothing of it is run. The copy is a safetensors file, or GGUF "
        "with --type q8_0 or q4_k. Names stay; scales of 8-bit weights are applied.\n"
        "--layout writes a single file or a diffusers folder of a model of either layout, or a "
        "file of one of its parts. With --unet, --vae, --text-encoder and --text-encoder-2 these "
        "parts take the place of the model's own. Numbers stay what they are unless --type is "
        "given. What the other layout cannot say is an error that names it.\n"
        "--int8 measures the error that 8 bits make in each layer of the UNet on a few pictures, "
        "leaves the sensitive layers alone, and writes a model of the same layout with the "
        "others rounded, and a report. Such a model is computed in 8 bits if the processor "
        "can (AVX-512 VNNI); with --precision f32 only its weights are rounded.\n",
    .help = { [OPT_model] = "checkpoint or diffusers folder to convert; it is not changed "
                            "(default: the shipped small model)",
              [OPT_output] = "where the copy goes: a folder for a folder, a file for a file; "
                             "must not exist yet" },
    .most = 1,
    .parts = true,
    .takes = TAKES(int8) | TAKES(type) | TAKES(layout) | TAKES(model) | TAKES(output) |
             TAKES(threads) | TAKES(quiet) | TAKES(json),
    .run = convert,
};
