/* check.c - `darkroom check`: the self-test on this machine.
 *
 * The protocol is tested from this side; the worker checks kernels and the golden picture. All
 * checks run even if earlier ones fail; the report names those that did.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "cli/check_matrix.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"

enum { DETAIL_BYTES = 600 };

/* Findings as they come: the protocol's as objects of name, passed, detail. */
struct report {
    json_t *protocol; /* array */
    json_t *engine;   /* the worker's answer; NULL when it failed */
    char engine_error[DETAIL_BYTES];
    int failed, done;
    bool lost; /* no memory for a finding */
};

static void add(struct report *p, const char *name, bool passed, const char *detail)
{
    p->done++;
    p->failed += !passed;
    p->lost |= jx_add(p->protocol, json_pack("{s:s,s:b,s:s}", "name", name, "passed", passed,
                                             "detail", detail)) < 0;
}

static void check_ready(struct report *p, const struct session *s)
{
    char detail[DETAIL_BYTES];
    const json_t *verbs = json_object_get(s->ready, "verbs");
    const char *version = json_string_value(json_object_get(s->ready, "version"));
    snprintf(detail, sizeof detail, "darkroom-worker %s, protocol %d, %zu verbs",
             version ? version : "?", MESSAGE_PROTOCOL, json_array_size(verbs));
    add(p, "ready", version && !strcmp(version, DR_VERSION), detail);
}

static void check_health(struct report *p, struct session *s)
{
    struct dr_error err = { 0 };
    json_t *answer = NULL;
    int r = session_call(s, VERB_health, json_object(), NULL, NULL, &answer, &err);
    const char *status = json_string_value(json_object_get(answer, "status"));
    add(p, "health", !r && status && !strcmp(status, "healthy"), r ? err.text : "answers");
    json_decref(answer);
}

static void check_unknown(struct report *p, struct session *s)
{
    struct dr_error err = { 0 };
    json_t *answer = NULL;
    json_t *message = json_pack("{s:s,s:s}", "type", "no_such_verb", "request_id", "unknown");
    int r = session_exchange(s, message, "unknown", NULL, NULL, &answer, &err);
    add(p, "unknown verb", r == DR_EPROTO, r ? err.text : "was accepted");
    json_decref(answer);
}

static void check_cancel(struct report *p, struct session *s)
{
    struct dr_error err = { 0 };
    json_t *answer = NULL;
    int r = session_call(s, VERB_cancel, json_pack("{s:s}", "target", "nothing"), NULL, NULL,
                         &answer, &err);
    bool none = json_is_false(json_object_get(answer, "cancelled"));
    add(p, "cancel of nothing", !r && none,
        r      ? err.text
        : none ? "finds nothing"
               : "found something");
    json_decref(answer);
}

/* "a red circle" in the built-in CLIP table. */
static void check_tokens(struct report *p, struct session *s)
{
    static const json_int_t expected[] = { 320, 736, 7117 };
    struct dr_error err = { 0 };
    json_t *answer = NULL;
    int r = session_call(s, VERB_tokens, json_pack("{s:s,s:b}", "text", "a red circle", "clip", 1),
                         NULL, NULL, &answer, &err);
    const json_t *ids = json_object_get(answer, "ids");
    bool same = json_array_size(ids) == sizeof expected / sizeof *expected;
    for (size_t i = 0; same && i < sizeof expected / sizeof *expected; i++)
        same = json_integer_value(json_array_get(ids, i)) == expected[i];
    add(p, "tokens", !r && same, r ? err.text : same ? "a red circle" : "other ids than CLIP's");
    json_decref(answer);
}

static int check_engine(struct report *p, struct session *s, bool quick, bool quiet,
                        struct dr_error *err)
{
    struct progress progress;
    struct dr_error found = { 0 };
    progress_init(&progress, quiet);
    progress_say(&progress, quick ? "drawing the reference picture"
                                  : "checking kernels against their references (about a minute; "
                                    "--quick skips them)");
    int r = session_call(s, VERB_check, json_pack("{s:b}", "quick", quick), progress_event,
                         &progress, &p->engine, &found);
    progress_clear(&progress);
    if (r == DR_ECANCELED) {
        *err = found;
        return r;
    }
    if (r < 0) {
        snprintf(p->engine_error, sizeof p->engine_error, "%s", found.text);
        p->failed++;
        p->done++;
        return 0;
    }
    p->failed += (int)json_integer_value(json_object_get(p->engine, "failed"));
    p->done += (int)json_array_size(json_object_get(p->engine, "kernels")) + 1;
    return 0;
}

static int put_line(struct buf *out, bool passed, const char *name, const char *detail)
{
    return buf_printf(out, "  %s %-26s %s\n", passed ? "✓" : "✗", name, detail);
}

static bool alike(const json_t *a, const json_t *b)
{
    return !strcmp(jx_text(a, "op"), jx_text(b, "op")) &&
           !strcmp(jx_text(a, "kernels"), jx_text(b, "kernels"));
}

/* One line for all cases of an op in a kernel set, printed at the first of them. */
static int put_group(struct buf *out, const json_t *cases, size_t first)
{
    const json_t *op = json_array_get(cases, first);
    double worst = 0;
    int passed = 0, count = 0;
    char name[64], detail[96];
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        if (!alike(one, op))
            continue;
        if (i < first)
            return 0;
        double tolerance = json_number_value(json_object_get(one, "tolerance"));
        double error = json_number_value(json_object_get(one, "error"));
        worst = tolerance > 0 && error / tolerance > worst ? error / tolerance : worst;
        passed += json_is_true(json_object_get(one, "passed"));
        count++;
    }
    snprintf(name, sizeof name, "%s %s", jx_text(op, "op"), jx_text(op, "kernels"));
    snprintf(detail, sizeof detail, "%d of %d cases, largest error %.0f %% of the tolerance",
             passed, count, 100 * worst);
    return put_line(out, passed == count, name, detail);
}

/* Ops and kernel sets, then the cases that failed. */
static int put_kernels(struct buf *out, const json_t *cases)
{
    size_t n = json_array_size(cases);
    int r = 0;
    for (size_t i = 0; !r && i < n; i++)
        r = put_group(out, cases, i);
    for (size_t i = 0; !r && i < n; i++) {
        const json_t *one = json_array_get(cases, i);
        if (!json_is_true(json_object_get(one, "passed")))
            r = buf_printf(out, "      %s %s, case %s: %s\n", jx_text(one, "op"),
                           jx_text(one, "kernels"), jx_text(one, "case"), jx_text(one, "why"));
    }
    return r;
}

static int put_picture(struct buf *out, const json_t *picture)
{
    char detail[DETAIL_BYTES];
    json_int_t largest = json_integer_value(json_object_get(picture, "largest_difference"));
    if (json_object_get(picture, "error"))
        snprintf(detail, sizeof detail, "%s", jx_text(picture, "error"));
    else if (largest < 0)
        snprintf(detail, sizeof detail, "the sizes differ");
    else
        snprintf(detail, sizeof detail,
                 "largest difference %" JSON_INTEGER_FORMAT " of 255, in %" JSON_INTEGER_FORMAT
                 " values (%s)",
                 largest, json_integer_value(json_object_get(picture, "bytes_differing")),
                 jx_text(picture, "prompt"));
    return put_line(out, json_is_true(json_object_get(picture, "passed")), "picture", detail);
}

static int put_report(struct buf *out, const struct report *p)
{
    size_t i;
    json_t *one;
    int r = buf_puts(out, "protocol\n");
    json_array_foreach(p->protocol, i, one)
    {
        if (!r)
            r = put_line(out, json_is_true(json_object_get(one, "passed")), jx_text(one, "name"),
                         jx_text(one, "detail"));
    }
    if (!r && !p->engine)
        r = buf_puts(out, "engine\n");
    if (!r && !p->engine)
        r = put_line(out, false, "check", p->engine_error);
    bool kernels = json_array_size(json_object_get(p->engine, "kernels")) > 0;
    if (!r && kernels)
        r = buf_puts(out, "kernels against their references\n");
    if (!r && kernels)
        r = put_kernels(out, json_object_get(p->engine, "kernels"));
    if (!r && p->engine)
        r = buf_puts(out, "picture against the reference's\n");
    if (!r && p->engine)
        r = put_picture(out, json_object_get(p->engine, "picture"));
    return r ? r : buf_printf(out, "%d checks, %d failed\n", p->done, p->failed);
}

static int print_json(const struct report *p, struct dr_error *err)
{
    json_t *o = json_pack("{s:b,s:i,s:i,s:O,s:O?,s:O?}", "passed", !p->failed, "checks", p->done,
                          "failed", p->failed, "protocol", p->protocol, "kernels",
                          json_object_get(p->engine, "kernels"), "picture",
                          json_object_get(p->engine, "picture"));
    int r = *p->engine_error ? jx_set(o, "error", json_string(p->engine_error)) : 0;
    r = r < 0 ? dr_fail(err, r, "out of memory for the report") : report_json(o, err);
    json_decref(o);
    return r;
}

static int print(const struct cli_call *call, const struct report *p, struct dr_error *err)
{
    struct buf out;
    if (p->lost)
        return dr_fail(err, DR_ENOMEM, "out of memory for the report");
    if (call->value[OPT_json])
        return print_json(p, err);
    buf_init(&out, DR_TAG_BASE, 0);
    int r = put_report(&out, p);
    r = r < 0 ? dr_fail(err, r, "out of memory for the report") : report_text(&out, err);
    buf_free(&out);
    return r;
}

/* ---- --cache ---- */

static int put_cache(struct buf *out, const json_t *answer)
{
    size_t i;
    json_t *one;
    const json_t *list = json_object_get(answer, "cache");
    int r = buf_printf(out, "packed weights in %s\n", jx_text(answer, "folder"));
    json_array_foreach(list, i, one)
    {
        char size[32], detail[DETAIL_BYTES];
        bool passed = json_is_true(json_object_get(one, "passed"));
        report_size(json_number_value(json_object_get(one, "bytes")), size);
        if (passed)
            snprintf(detail, sizeof detail, "%s, model %.12s, %s", size, jx_text(one, "model"),
                     jx_text(one, "kernels"));
        else
            snprintf(detail, sizeof detail, "%.400s%s", jx_text(one, "why"),
                     json_is_true(json_object_get(one, "removed"))
                         ? "; removed, the next start rebuilds it"
                         : "");
        if (!r)
            r = put_line(out, passed, dr_path_base(jx_text(one, "path")), detail);
    }
    return r ? r
             : buf_printf(out, "%zu file%s, %" JSON_INTEGER_FORMAT " damaged\n",
                          json_array_size(list), json_array_size(list) == 1 ? "" : "s",
                          json_integer_value(json_object_get(answer, "failed")));
}

static int check_cache(struct cli_call *call, const struct session_options *options,
                       struct dr_error *err)
{
    json_t *answer;
    struct buf out;
    int r = session_ask(options, VERB_check, json_pack("{s:b}", "cache", 1), &answer, err);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    if (call->value[OPT_json])
        r = report_json(answer, err);
    else if ((r = put_cache(&out, answer)) < 0)
        dr_fail(err, r, "out of memory for the report");
    else
        r = report_text(&out, err);
    call->status = json_integer_value(json_object_get(answer, "failed")) ? 1 : 0;
    buf_free(&out);
    json_decref(answer);
    return r;
}

static int check(struct cli_call *call, struct dr_error *err)
{
    struct session s;
    struct session_options options = { .threads = call->value[OPT_threads],
                                       .cache = call->cache,
                                       .cache_limit = call->cache_limit };
    const char *only = call->value[OPT_only];
    bool cache = call->value[OPT_cache], matrix = call->value[OPT_matrix];
    if (cache + matrix + (call->value[OPT_quick] != NULL) > 1 || (only && !matrix)) {
        call->usage = true;
        return only && !matrix
                   ? dr_fail(err, DR_EINVAL, "check: --only needs --matrix")
                   : dr_fail(err, DR_EINVAL, "check: expected one of --cache, --matrix, --quick");
    }
    if (matrix)
        return check_matrix(call, &options, err);
    if (call->value[OPT_cache])
        return check_cache(call, &options, err);
    struct report p = { .protocol = json_array() };
    int r = p.protocol ? session_open(&s, &options, err) : DR_ENOMEM;
    if (r == DR_ENOMEM && !p.protocol)
        return dr_fail(err, r, "out of memory for the report");
    if (!r) {
        check_ready(&p, &s);
        check_health(&p, &s);
        check_unknown(&p, &s);
        check_cancel(&p, &s);
        check_tokens(&p, &s);
        r = check_engine(&p, &s, call->value[OPT_quick] != NULL, call->value[OPT_quiet] != NULL,
                         err);
    }
    session_close(&s);
    if (!r)
        r = print(call, &p, err);
    call->status = p.failed ? 1 : 0;
    json_decref(p.protocol);
    json_decref(p.engine);
    return r;
}

const struct cli_verb cli_check = {
    .name = "check",
    .synopsis = "",
    .summary = "self-test: protocol, kernels and a reference picture",
    .notes = "Tests the protocol, every kernel of this processor against its reference, and a "
             "picture against the one that the reference implementation drew. This takes about a "
             "minute on two cores; --quick leaves the kernels out and takes a few seconds. "
             "--cache verifies every byte of the cached packed weights instead, as fast as the "
             "disk reads, and removes damaged files. --matrix draws with every sampler and "
             "schedule, on the shipped model, and looks whether each picture shows its prompt: + "
             "yes, . not expected to, - no; --only euler or --only euler/karras takes a part. Exit "
             "status 1 if anything failed.\n",
    .takes = TAKES(threads) | TAKES(cache) | TAKES(quick) | TAKES(matrix) | TAKES(only) |
             TAKES(quiet) | TAKES(json),
    .run = check,
};
