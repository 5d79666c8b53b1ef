/* bench.c - `darkroom bench`: the speed of this machine, as a table or as JSON.
 *
 * The worker measures; rows are printed as they come. Loading is measured by two separate workers
 * with one cache folder, empty for the first.
 */
#include "cli/cli.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path_text.h"
#include "base/fs.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"

static const char *const loads[] = { "load_first", "load_second" };

struct bench_call {
    const struct cli_call *call;
    struct progress progress;
    json_t *answer;        /* of the first session; cases of the others are added */
    bool headed, reported; /* the table has begun; the present session's rows belong to it */
};

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* ---- the table ---- */

static int put_machine(struct buf *out, const json_t *machine)
{
    const char *family;
    json_t *peak;
    int r = buf_printf(
        out,
        "kernels %s, %" JSON_INTEGER_FORMAT " threads; fractions are of %s\n"
        "%-24s %9s %6s %12s %12s\n",
        jx_text(machine, "kernel_set"), json_integer_value(json_object_get(machine, "threads")),
        jx_text(machine, "family"), "peak", "TFLOP/s", "GHz", "instr/cycle", "FLOP/cycle");
    json_object_foreach(json_object_get(machine, "peaks"), family, peak)
    {
        const json_t *clock = json_object_get(json_object_get(machine, "clocks"), family);
        if (!r)
            r = buf_printf(out, "%-24s %9.4f %6.2f %12.3f %12.1f\n", family,
                           json_number_value(peak), number(clock, "ghz"),
                           number(clock, "instructions_per_cycle"),
                           number(clock, "flops_per_cycle"));
    }
    return r ? r
             : buf_printf(out, "\n%-24s %11s %6s %9s %9s %9s\n", "case", "seconds", "cores",
                          "TFLOP/s", "executed", "of peak");
}

static int put_case(struct buf *out, const json_t *row)
{
    int r = buf_printf(out, "%-24s %11.6f", jx_text(row, "name"), number(row, "seconds"));
    if (!r && number(row, "cores") > 0) /* loading does not depend on cores */
        r = buf_printf(out, " %6.2f", number(row, "cores"));
    if (!r && number(row, "executed_flops") > 0)
        r = buf_printf(out, " %9.4f %9.4f", number(row, "tflops"), number(row, "executed_tflops"));
    else if (!r && number(row, "flops") > 0)
        r = buf_printf(out, " %9.4f %9s", number(row, "tflops"), "");
    if (!r && json_is_number(json_object_get(row, "fraction_of_peak")))
        r = buf_printf(out, " %7.1f %%", 100 * number(row, "fraction_of_peak"));
    if (!r && number(row, "first_seconds") > 0)
        r = buf_printf(out, "  first %.3f s", number(row, "first_seconds"));
    if (!r && json_is_true(json_object_get(row, "noisy")))
        r = buf_puts(out, "  noisy");
    return r ? r : buf_putc(out, '\n');
}

static int print_event(struct bench_call *b, const json_t *data, struct buf *out)
{
    const json_t *machine = json_object_get(data, "machine"), *row = json_object_get(data, "case");
    if (machine && !b->headed) {
        b->headed = true;
        return put_machine(out, machine);
    }
    return row && b->reported ? put_case(out, row) : 0;
}

static void on_event(void *ctx, const json_t *data)
{
    struct bench_call *b = ctx;
    struct buf out;
    progress_clear(&b->progress);
    if (!b->call->value[OPT_json]) {
        buf_init(&out, DR_TAG_BASE, 0);
        if (!print_event(b, data, &out) && out.len)
            (void)report_text(&out, NULL);
        buf_free(&out);
    }
    if (*jx_text(data, "running"))
        progress_say(&b->progress, jx_text(data, "running"));
}

/* ---- the workers ---- */

static json_t *request(const struct cli_call *call, const char *only)
{
    const struct {
        const char *key, *value;
    } fields[] = { { "only", only },
                   { "model", call->value[OPT_model] },
                   { "kernels", call->value[OPT_kernels] },
                   { "precision", call->value[OPT_precision] } };
    json_t *data = json_pack("{s:b}", "stream", 1);
    for (size_t i = 0; data && i < sizeof fields / sizeof *fields; i++)
        if (fields[i].value && jx_set(data, fields[i].key, path_text_typed(fields[i].value)) < 0) {
            json_decref(data);
            data = NULL;
        }
    if (data && cli_add_parts(call, data) < 0) {
        json_decref(data);
        data = NULL;
    }
    return data;
}

static int keep(struct bench_call *b, json_t *answer, struct dr_error *err)
{
    json_t *rows = json_object_get(answer, "cases");
    int r = 0;
    if (!b->answer)
        b->answer = json_incref(answer);
    else if (json_array_extend(json_object_get(b->answer, "cases"), rows) < 0)
        r = dr_fail(err, DR_ENOMEM, "out of memory for the report");
    json_decref(answer);
    return r;
}

/* reported: its rows are part of the report. */
static int ask(struct bench_call *b, const char *only, const struct session_options *options,
               bool reported, struct dr_error *err)
{
    struct session s;
    json_t *answer;
    int r = session_open(&s, options, err);
    b->reported = reported;
    if (!r)
        r = session_call(&s, VERB_bench, request(b->call, only), on_event, b, &answer, err);
    progress_clear(&b->progress);
    session_close(&s);
    if (!r && reported)
        return keep(b, answer, err);
    if (!r)
        json_decref(answer);
    return r;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* An empty folder in the cache folder, so on the same disk. configured: the cache folder, or NULL
 * for the usual one. */
static int make_cache(const char *configured, char *path, size_t n, struct dr_error *err)
{
    char usual[DR_PATH_MAX];
    int r = configured ? dr_path_join(usual, sizeof usual, "", configured)
                       : dr_cache_path(usual, sizeof usual, "", err);
    if (!r)
        r = dr_mkdirs(usual, err);
    if (!r)
        r = dr_path_join(path, n, usual, "bench-XXXXXX");
    return r || mkdtemp(path) ? r : dr_fail_errno(err, usual, "make a folder in");
}

/* The first opening with an empty cache, the second with what the first has cached. Each worker
 * only loads; both use the same cache folder, whatever is configured. only: one of the two, or NULL
 * for both. */
static int ask_loads(struct bench_call *b, const char *only, const struct session_options *options,
                     struct dr_error *err)
{
    static const char variable[] = "XDG_CACHE_HOME";
    char path[DR_PATH_MAX];
    struct session_options own = *options;
    const char *before = getenv(variable);
    int r = make_cache(options->cache, path, sizeof path, err);
    own.cache = NULL; /* in `path`, by the variable */
    if (r)
        return r;
    before = before ? dr_strdup(DR_TAG_BASE, before) : NULL;
    setenv(variable, path, 1);
    bool second = !only || strcmp(only, loads[0]) != 0, reported = !only || !second;
    r = ask(b, loads[0], &own, reported, err);
    if (!r && second)
        r = ask(b, loads[1], &own, true, err);
    if (before)
        setenv(variable, before, 1);
    else
        unsetenv(variable);
    dr_free((char *)before);
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return r;
}

static bool is_load(const char *name)
{
    return name && (!strcmp(name, loads[0]) || !strcmp(name, loads[1]));
}

static int bench(struct cli_call *call, struct dr_error *err)
{
    struct bench_call b = { .call = call };
    struct session_options options = { .threads = call->value[OPT_threads],
                                       .cache = call->cache,
                                       .cache_limit = call->cache_limit };
    progress_init(&b.progress, call->value[OPT_quiet] != NULL);
    const char *only = call->value[OPT_only];
    int r = is_load(only) ? 0 : ask(&b, only, &options, true, err);
    if (!r && is_load(only))
        r = ask_loads(&b, only, &options, err);
    if (!r && !only && ask_loads(&b, only, &options, err) < 0) {
        /* a full disk must not lose what was measured */
        r = err->code == DR_ECANCELED ? err->code : 0;
        if (!r)
            report_line("loading is not measured: %s", err->text);
    }
    if (!r && call->value[OPT_json])
        r = report_json(b.answer, err);
    json_decref(b.answer);
    return r;
}

const struct cli_verb cli_bench = {
    .name = "bench",
    .synopsis = "",
    .summary = "measure speed, and what fraction of the processor's peak it reaches",
    .notes =
        "First the peak of each family of instructions, on all threads and random data, with "
        "the clock during the measurement. Then operations at SDXL's shapes, then whole "
        "networks: seconds, TFLOP/s by the definition's count, TFLOP/s really multiplied, and "
        "the fraction of the peak of the kernel set's own matrix instruction. The peak is "
        "sampled before and after each case; if it changed by more than a tenth the case is "
        "repeated, and marked noisy if that does not help.\n"
        "A picture_ case is drawn twice, from the request to the encoded file: the first with "
        "a model that is opened for it, whose seconds stand apart, then with that model. These "
        "and the loads of a first and a second start take a model on disk.\n"
        "Without a model the weights are random, of SDXL's size and 16 bits: up to 6 GB of "
        "memory and, while loading or pictures are measured, 7 GB of disk in the cache folder. All "
        "cases "
        "take several minutes.\n"
        "  darkroom bench --only unet_512 --json\n",
    .help = { [OPT_model] = "model whose networks are measured (default: random weights)",
              [OPT_only] = "measure one case only, see `darkroom help cases`" },
    .takes = TAKES(threads) | TAKES(model) | TAKES(only) | TAKES(kernels) | TAKES(precision) |
             TAKES(quiet) | TAKES(json),
    .parts = true,
    .run = bench,
};
