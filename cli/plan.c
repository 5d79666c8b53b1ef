/* plan.c - `darkroom plan`: what a request would cost, without computing it. */
#include "cli/cli.h"

#include <stdio.h>

#include "cli/report.h"
#include "cli/request_call.h"

enum { LONG_SECONDS = 3600 };

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* "40 seconds", "12 minutes", "3.5 hours", "6 days" */
static const char *spoken(double seconds, char dst[32])
{
    static const struct {
        double seconds;
        const char *name;
    } units[] = { { 86400, "days" }, { 3600, "hours" }, { 60, "minutes" }, { 1, "seconds" } };
    int u = 0;
    while (u < 3 && seconds < 1.95 * units[u].seconds)
        u++;
    double n = seconds / units[u].seconds;
    snprintf(dst, 32, n < 9.95 ? "%.1f %s" : "%.0f %s", n, units[u].name);
    return dst;
}

/* An open number of evaluations is null. */
static const char *work(const json_t *o, char dst[32])
{
    bool known = json_is_number(json_object_get(o, "flops"));
    return known ? report_flops(number(o, "flops"), dst) : "unknown";
}

static int put_stages(const json_t *plan, struct buf *out)
{
    size_t i;
    json_t *stage;
    char workspace[32], kept[32], mapped[32], flops[32];
    int r = buf_printf(out, "%-14s %12s %12s %12s %12s\n", "stage", "workspace", "kept", "weights",
                       "work");
    json_array_foreach(json_object_get(plan, "stages"), i, stage)
    {
        if (r < 0)
            break;
        bool drops = json_is_true(json_object_get(stage, "drops_weights"));
        r = buf_printf(out, "%-14s %12s %12s %12s %12s%s\n", jx_text(stage, "stage"),
                       report_size(number(stage, "workspace_bytes"), workspace),
                       report_size(number(stage, "kept_bytes"), kept),
                       report_size(number(stage, "mapped_bytes"), mapped), work(stage, flops),
                       drops ? "  (weights dropped after)" : "");
    }
    return r;
}

/* Of layers that LoRAs change. */
static int put_variants(const json_t *variants, struct buf *out)
{
    char all[32], made[32];
    double bytes = number(variants, "bytes"), missing = number(variants, "missing_bytes");
    if (bytes <= 0)
        return 0;
    int r = buf_printf(out, "%-14s %38s  (%.0f layers", "LoRA weights", report_size(bytes, all),
                       number(variants, "layers"));
    if (!r && missing < bytes)
        r = buf_printf(out, ", %s made already", report_size(bytes - missing, made));
    return r ? r : buf_puts(out, ")\n");
}

static int put_plan(const json_t *plan, struct buf *out)
{
    char peak[32], limit[32], whole[32], flops[32], time[32];
    const json_t *bound = json_object_get(plan, "limit");
    double seconds = number(plan, "estimated_seconds");
    bool known = json_is_number(json_object_get(plan, "flops"));
    int r = buf_printf(out, "%.0fx%.0f, %.0f steps, %.0f row%s per UNet call, kernels %s\n\n",
                       number(plan, "width"), number(plan, "height"), number(plan, "steps"),
                       number(plan, "rows_per_forward"),
                       number(plan, "rows_per_forward") == 1 ? "" : "s", jx_text(plan, "kernels"));
    if (!r)
        r = put_stages(plan, out);
    if (!r)
        r = put_variants(json_object_get(plan, "variants"), out);
    if (!r)
        r = buf_printf(out, "\npeak %s of %s%s, %s%s\nlimit %s (%s)\n",
                       report_size(number(plan, "peak_bytes"), peak),
                       report_size(number(plan, "limit_bytes"), limit),
                       json_is_true(json_object_get(plan, "admitted")) ? "" : " (too much)",
                       work(plan, flops), known ? " in total" : " amount of work",
                       report_size(number(bound, "bytes"), whole), jx_text(bound, "source"));
    if (!r && seconds > 0)
        r = buf_printf(out, "about %s on this machine (from the speed of earlier pictures)\n",
                       spoken(seconds, time));
    else if (!r && known)
        r = buf_puts(out, "time unknown: no picture of comparable size was drawn here yet\n");
    return r;
}

static void warn(const json_t *plan)
{
    char time[32];
    double seconds = number(plan, "estimated_seconds");
    report_warnings(plan);
    if (seconds > LONG_SECONDS)
        report_line("warning: this takes about %s on this machine", spoken(seconds, time));
}

static int plan(struct cli_call *call, struct dr_error *err)
{
    json_t *answer;
    struct buf out;
    int r = 0;
    if (!request_has(&call->request, FIELD_prompt)) /* what it costs does not depend on the words */
        r = request_set_text(&call->request, FIELD_prompt, "", err);
    if (!r)
        r = request_call(call, VERB_plan, &answer, err);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    if (!call->value[OPT_json] && !call->value[OPT_quiet])
        warn(answer);
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
    .summary = "show what a request needs: memory, work and time",
    .notes =
        "Takes the options of generate and computes nothing. workspace and kept are private "
        "memory, weights the mapped bytes of the model that the stage reads, work its "
        "floating-point operations. The time is known once this machine has drawn a picture of "
        "comparable size (an eighth of the work of an evaluation, or more); above an hour it is a "
        "warning.\n"
        "\n"
        "peak is the most memory that the whole program takes, and stands beside what it may take "
        "now; limit is the memory of this machine or of what confines the program, as named. "
        "Memory that other programs use, and a part that is kept free, are the difference. -o and "
        "--count are checked as generate does it; the plan is that of one request.\n",
    .request = true,
    .takes = TAKES(threads) | TAKES(output) | TAKES(quiet) | TAKES(json) | TAKES(count) |
             TAKES(from),
    .help = { [OPT_quiet] = "print the plan without warnings" },
    .run = plan,
};
