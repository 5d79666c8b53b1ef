/* plan.c - `darkroom plan`: what a request would cost, without computing it. */
#include "cli/cli.h"

#include <inttypes.h>

#include "cli/report.h"
#include "cli/request_call.h"

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static int put_stages(const json_t *plan, struct buf *out)
{
    size_t i;
    json_t *stage;
    char workspace[32], kept[32], mapped[32];
    int r = buf_printf(out, "%-14s %12s %12s %12s %14s\n", "stage", "workspace", "kept", "weights",
                       "GFLOP");
    json_array_foreach(json_object_get(plan, "stages"), i, stage)
    {
        if (r < 0)
            break;
        bool drops = json_is_true(json_object_get(stage, "drops_weights"));
        r = buf_printf(out, "%-14s %12s %12s %12s %14.3f%s\n", text(stage, "stage"),
                       report_size(number(stage, "workspace_bytes"), workspace),
                       report_size(number(stage, "kept_bytes"), kept),
                       report_size(number(stage, "mapped_bytes"), mapped),
                       number(stage, "flops") / 1e9, drops ? "  (weights dropped after)" : "");
    }
    return r;
}

static int put_plan(const json_t *plan, struct buf *out)
{
    char peak[32], limit[32], whole[32];
    const json_t *bound = json_object_get(plan, "limit");
    int r = buf_printf(out, "%.0fx%.0f, %.0f steps, %.0f row%s a forward, kernels %s\n\n",
                       number(plan, "width"), number(plan, "height"), number(plan, "steps"),
                       number(plan, "rows_per_forward"),
                       number(plan, "rows_per_forward") == 1 ? "" : "s", text(plan, "kernels"));
    if (!r)
        r = put_stages(plan, out);
    if (!r)
        r = buf_printf(out, "\npeak %s of %s%s, %.3f GFLOP in all\nlimit %s (%s)\n",
                       report_size(number(plan, "peak_bytes"), peak),
                       report_size(number(plan, "limit_bytes"), limit),
                       json_is_true(json_object_get(plan, "admitted")) ? "" : " (too much)",
                       number(plan, "flops") / 1e9, report_size(number(bound, "bytes"), whole),
                       text(bound, "source"));
    return r;
}

static int plan(struct cli_call *call, struct dr_error *err)
{
    json_t *answer;
    struct buf out;
    int r = request_call(call, VERB_plan, &answer, err);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    if (!call->value[OPT_json] && !call->value[OPT_quiet])
        report_warnings(answer);
    if (call->value[OPT_json])
        r = report_json(answer, err);
    else if ((r = put_plan(answer, &out)) < 0)
        dr_fail(err, r, "out of memory for the plan");
    else
        r = report_text(&out, err);
    buf_free(&out);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_plan = {
    .name = "plan",
    .synopsis = "[OPTION]...",
    .summary = "memory and work of a request, without computing it",
    .notes =
        "Takes the options of generate. Workspace and kept are private memory, weights are the "
        "mapped bytes of the model that the stage reads.\n",
    .request = true,
    .takes = TAKES(threads) | TAKES(quiet) | TAKES(json),
    .run = plan,
};
