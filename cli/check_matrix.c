/* check_matrix.c - see check_matrix.h. The worker checks a sampler a message, so a line appears as
 * soon as its pictures are drawn, and an interrupt loses only the last. */
#include "cli/check_matrix.h"

#include <stdio.h>
#include <string.h>

#include "cli/progress.h"
#include "cli/report.h"

enum { NAME_BYTES = 64 };

struct matrix {
    json_t *samplers;         /* array of the worker's answers */
    char sampler[NAME_BYTES]; /* of --only; "": all */
    const char *schedule;     /* of --only; NULL: all */
    int failed, pairs;
    bool json;
};

static int print(struct buf *out, int r, struct dr_error *err)
{
    r = r < 0 ? dr_fail(err, r, "out of memory for the report") : report_text(out, err);
    buf_free(out);
    return r;
}

/* The columns: schedules by number. */
static int print_head(const json_t *answer, struct dr_error *err)
{
    struct buf out;
    size_t i;
    json_t *one;
    buf_init(&out, DR_TAG_BASE, 0);
    int r = buf_printf(&out, "%s: + shows it, . is not expected to, - does not\n",
                       jx_text(answer, "prompt"));
    json_array_foreach(json_object_get(answer, "schedules"), i, one)
    {
        if (!r)
            r = buf_printf(&out, "  %2zu %s\n", i + 1, jx_text(one, "schedule"));
    }
    return print(&out, r, err);
}

static char mark_of(const json_t *pair)
{
    const char *result = jx_text(pair, "result");
    return !strcmp(result, "shows") ? '+' : !strcmp(result, "expected") ? '.' : '-';
}

/* A line of marks, then a line for each that failed, and the reason of those that were expected. */
static int print_sampler(const json_t *answer, struct dr_error *err)
{
    struct buf out;
    size_t i;
    json_t *one;
    const char *reason = "";
    buf_init(&out, DR_TAG_BASE, 0);
    int r = buf_printf(&out, "%-20s", jx_text(answer, "sampler"));
    json_array_foreach(json_object_get(answer, "schedules"), i, one)
    {
        if (!r)
            r = buf_printf(&out, "%s%c", i % 5 ? "" : " ", mark_of(one));
    }
    if (!r)
        r = buf_puts(&out, "\n");
    json_array_foreach(json_object_get(answer, "schedules"), i, one)
    {
        const char *why = jx_text(one, "why");
        char mark = mark_of(one);
        if (r || mark == '+' || (mark == '.' && !strcmp(why, reason)))
            continue;
        reason = mark == '.' ? why : reason;
        r = mark == '.' ? buf_printf(&out, "    .: %s\n", why)
                        : buf_printf(&out, "    %s: %s\n", jx_text(one, "schedule"), why);
    }
    return print(&out, r, err);
}

static int check_one(struct matrix *m, struct session *s, const char *sampler,
                     struct progress *progress, struct dr_error *err)
{
    json_t *answer = NULL;
    json_t *data = json_pack("{s:s,s:s*}", "matrix", sampler, "schedule", m->schedule);
    progress_say(progress, sampler);
    int r = session_call(s, VERB_check, data, progress_event, progress, &answer, err);
    progress_clear(progress);
    if (r < 0)
        return r;
    m->failed += (int)json_integer_value(json_object_get(answer, "failed"));
    m->pairs += (int)json_array_size(json_object_get(answer, "schedules"));
    if (!m->json && !json_array_size(m->samplers))
        r = print_head(answer, err);
    if (!r && !m->json)
        r = print_sampler(answer, err);
    if (!r && jx_add(m->samplers, json_incref(answer)) < 0)
        r = dr_fail(err, DR_ENOMEM, "out of memory for the report");
    json_decref(answer);
    return r;
}

static int check_all(struct matrix *m, struct session *s, struct progress *progress,
                     struct dr_error *err)
{
    size_t i;
    json_t *one;
    int r = 0;
    if (*m->sampler)
        return check_one(m, s, m->sampler, progress, err);
    json_array_foreach(json_object_get(s->ready, "samplers"), i, one)
    {
        if (!r)
            r = check_one(m, s, jx_text(one, "name"), progress, err);
    }
    return r;
}

static int print_end(const struct matrix *m, struct dr_error *err)
{
    if (m->json) {
        json_t *o = json_pack("{s:b,s:i,s:i,s:O}", "passed", !m->failed, "pairs", m->pairs,
                              "failed", m->failed, "samplers", m->samplers);
        int r = o ? report_json(o, err) : dr_fail(err, DR_ENOMEM, "out of memory for the report");
        json_decref(o);
        return r;
    }
    struct buf out;
    buf_init(&out, DR_TAG_BASE, 0);
    return print(&out, buf_printf(&out, "%d pairs, %d failed\n", m->pairs, m->failed), err);
}

int check_matrix(struct cli_call *call, const struct session_options *options, struct dr_error *err)
{
    struct matrix m = { .samplers = json_array(), .json = call->value[OPT_json] };
    struct session s;
    struct progress progress;
    const char *only = call->value[OPT_only];
    if (only) {
        size_t n = strcspn(only, "/");
        snprintf(m.sampler, sizeof m.sampler, "%.*s", (int)(n < NAME_BYTES ? n : NAME_BYTES - 1),
                 only);
        m.schedule = only[n] ? only + n + 1 : NULL;
    }
    progress_init(&progress, call->value[OPT_quiet] != NULL);
    int r = session_open(&s, options, err);
    if (!r)
        r = check_all(&m, &s, &progress, err);
    session_close(&s);
    if (!r)
        r = print_end(&m, err);
    call->status = m.failed ? 1 : 0;
    json_decref(m.samplers);
    return r;
}
