/* engine_bench.c - the verb that measures this machine: peaks of its instruction families, then ops
 * and networks as fractions of the one that the kernel set uses.
 *
 * A case runs once uncounted, which brings in weights and workspace, then as often as fits into
 * LEAST_SECONDS, at least once; the fastest run counts. See bench/rule.h for the peaks around it.
 * Loads run once. Pictures are drawn twice from the request on: first with a model that nobody has
 * opened yet, then with the same model.
 */
#include "coordination/engine.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backend/device.h"
#include "bench/ops.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/nearest.h"
#include "base/path_text.h"
#include "bench/random_folder.h"
#include "bench/networks.h"
#include "bench/pictures.h"
#include "bench/rule.h"

enum { NAMES_MOST = 128, RUNS_MOST = 200, LOADS = 2 };

static const double LEAST_SECONDS = 1;

/* Both open the model in a fresh process; they differ in what the cache holds. They run only when
 * requested by name. */
static const char *const load_names[LOADS] = { "load_first", "load_second" };

struct bench_run {
    struct engine *engine;
    struct worker_job *job;
    struct backend *be;
    const char *only, *kernels; /* only: "" is all */
    const char *precision_name;
    enum precision precision;
    struct engine_spec spec; /* path NULL: random weights */
    char made[DR_PATH_MAX];  /* the path of a random model */
    bool stream;
    int family; /* of the kernel set */
    int done, total;
    json_t *rows;
    struct bench_model model;
    /* The case at hand: one of these, or a load. */
    struct bench_op *op;
    struct bench_network *network;
};

/* ---- the report ---- */

static int tell(struct bench_run *b, const char *key, json_t *value, struct dr_error *err)
{
    json_t *data = value ? json_pack("{s:o}", key, value) : NULL;
    if (!data)
        return dr_fail(err, DR_ENOMEM, "out of memory for progress");
    worker_progress(b->job, b->done, b->total, b->stream, data);
    return 0;
}

/* {"peaks": {family: TFLOP/s}, "clocks": {family: {ghz, instructions and FLOPs a cycle}}, ...} */
static json_t *machine_json(const struct bench_run *b)
{
    const char *name, *own = backend_family_name(b->be, b->family);
    json_t *peaks = json_object(), *clocks = json_object();
    int r = 0;
    for (int i = 0; (name = backend_family_name(b->be, i)) && !r; i++) {
        struct device_peak p = backend_peak(b->be, i);
        if (!(p.flops > 0))
            continue;
        r = jx_set(peaks, name, json_real(p.flops * 1e-12));
        if (!r)
            r = jx_set(clocks, name,
                       json_pack("{s:f,s:f,s:f}", "ghz", p.hz * 1e-9, "instructions_per_cycle",
                                 p.instructions, "flops_per_cycle", p.per_cycle));
    }
    json_t *o = json_pack("{s:s,s:s,s:i,s:o,s:o}", "kernel_set", backend_kernel_set(b->be),
                          "family", own ? own : "", "threads", backend_threads(b->be), "peaks",
                          peaks, "clocks", clocks);
    if (r < 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* ---- one case ---- */

static int run_once(struct bench_run *b, double *ret_seconds, struct dr_error *err)
{
    if (b->op)
        return bench_op_run(b->op, b->job->stop, ret_seconds, err);
    return bench_network_run(b->network, ret_seconds, err);
}

static double peak_now(const struct bench_run *b)
{
    return backend_peak(b->be, b->family).flops;
}

/* Processor time of the whole process. */
static double process_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int attempt(struct bench_run *b, struct bench_attempt *a, int *runs, struct dr_error *err)
{
    double total = 0, seconds;
    *a = (struct bench_attempt){ .before = peak_now(b) };
    for (*runs = 0; !*runs || (total < LEAST_SECONDS && *runs < RUNS_MOST); ++*runs) {
        double busy = process_seconds();
        int r = run_once(b, &seconds, err);
        if (r)
            return r;
        total += seconds;
        if (*runs && seconds >= a->seconds)
            continue;
        a->seconds = seconds;
        a->cores = seconds > 0 ? (process_seconds() - busy) / seconds : 0;
    }
    a->after = peak_now(b);
    return 0;
}

static int measure(struct bench_run *b, struct bench_row *row, struct dr_error *err)
{
    struct bench_attempt attempts[BENCH_ATTEMPTS];
    int runs[BENCH_ATTEMPTS], n = 0;
    double first;
    int r = run_once(b, &first, err);
    while (!r && n < BENCH_ATTEMPTS) {
        r = attempt(b, &attempts[n], &runs[n], err);
        if (!r && bench_steady(&attempts[n++]))
            break;
    }
    if (r)
        return r;
    int chosen = bench_choose(attempts, n);
    row->attempt = attempts[chosen];
    row->runs = runs[chosen];
    row->attempts = n;
    return 0;
}

static int measure_op(struct bench_run *b, int i, struct bench_row *row, struct dr_error *err)
{
    int r = bench_op_new(b->be, i, &b->op, err);
    if (r)
        return r;
    row->flops = bench_op_need(b->op).flops;
    row->executed = bench_op_need(b->op).executed;
    r = measure(b, row, err);
    bench_op_free(b->op);
    b->op = NULL;
    return r;
}

static int measure_network(struct bench_run *b, int i, struct bench_row *row, struct dr_error *err)
{
    int r = bench_network_new(&b->model, i, b->job->stop, &b->network, err);
    if (r)
        return r;
    row->flops = bench_network_need(b->network).flops;
    row->executed = bench_network_need(b->network).executed;
    r = measure(b, row, err);
    bench_network_free(b->network);
    b->network = NULL;
    return r;
}

/* A model on disk. Without one that is given, one in the cache folder, which is made where there is
 * none. */
static int need_folder(struct bench_run *b, struct dr_error *err)
{
    struct model_spec *spec = &b->spec.spec;
    if (spec->model.path)
        return 0;
    if (backend_precision(b->be) == PRECISION_INT8)
        return dr_fail_field(err, DR_EINVAL, "model", "nothing",
                             "a model with 8-bit weights (darkroom convert --int8)",
                             "the random one has none");
    int r = dr_cache_path(b->made, sizeof b->made, "random-model", err);
    if (!r)
        r = bench_file_write(b->made, b->job->stop, err);
    if (!r)
        spec->model.path = b->made;
    return r;
}

/* From a path to weights that the first forward of the UNet can use. */
static int measure_load(struct bench_run *b, int i, struct bench_row *row, struct dr_error *err)
{
    struct pipeline *p;
    struct pipeline_options how = { .stop = b->job->stop };
    (void)i;
    int r = need_folder(b, err);
    if (r)
        return r;
    pipeline_manager_clear(b->engine->pipelines);
    double start = dr_now();
    r = engine_pipeline(b->engine, &b->spec.spec, b->kernels, b->precision, how.stop, &p, err);
    if (r)
        return r;
    r = engine_load(b->engine, p, NULL, &how, err);
    if (!r)
        r = params_acquire(p->unet, unet_visit, err);
    row->attempt.seconds = dr_now() - start;
    row->attempts = row->runs = 1;
    if (!r)
        params_release(p->unet, unet_visit, false);
    pipeline_unref(p);
    return r;
}

/* From the request to the encoded file. */
static int draw(struct bench_run *b, json_t *data, double *ret_seconds, double *ret_cores,
                struct dr_error *err)
{
    struct worker_job job = *b->job;
    json_t *answer = NULL;
    double busy = process_seconds(), start = dr_now();
    job.data = data;
    int r = engine_generate(b->engine, &job, &answer, err);
    *ret_seconds = dr_now() - start;
    *ret_cores = *ret_seconds > 0 ? (process_seconds() - busy) / *ret_seconds : 0;
    json_decref(answer);
    return r;
}

/* The FLOPs of a picture, by its plan. */
static int plan_flops(struct bench_run *b, json_t *data, double *ret, struct dr_error *err)
{
    struct worker_job job = *b->job;
    json_t *answer = NULL;
    job.data = data;
    int r = engine_plan(b->engine, &job, &answer, err);
    *ret = json_number_value(json_object_get(answer, "flops"));
    json_decref(answer);
    return r;
}

/* With the parts that replace the model's own. */
static json_t *picture_request(const struct bench_run *b, int i)
{
    const struct model_spec *spec = &b->spec.spec;
    json_t *data = bench_picture_request(i, spec->model.path, b->kernels, b->precision_name);
    for (int c = 0; data && c < COMPONENT_COUNT; c++) {
        if (spec->part[c].path && jx_set(data, component_name((enum component)c),
                                         path_text_json(spec->part[c].path)) < 0) {
            json_decref(data);
            data = NULL;
        }
    }
    return data;
}

static int measure_picture(struct bench_run *b, int i, struct bench_row *row, struct dr_error *err)
{
    double cores;
    int r = need_folder(b, err);
    if (r)
        return r;
    json_t *data = picture_request(b, i);
    if (!data)
        return dr_fail(err, DR_ENOMEM, "out of memory for a request");
    bench_model_release(&b->model); /* what other cases left is memory */
    pipeline_manager_clear(b->engine->pipelines);
    row->attempt.before = peak_now(b);
    r = draw(b, data, &row->first_seconds, &cores, err);
    if (!r)
        r = draw(b, data, &row->attempt.seconds, &row->attempt.cores, err);
    if (!r)
        r = plan_flops(b, data, &row->flops, err);
    row->attempt.after = peak_now(b);
    row->attempts = row->runs = 1;
    json_decref(data);
    return r;
}

/* ---- all cases ---- */

static const char *load_name(int i)
{
    return i < LOADS ? load_names[i] : NULL;
}

static const struct group {
    const char *(*name)(int i);
    int (*measure)(struct bench_run *b, int i, struct bench_row *row, struct dr_error *err);
    bool by_name_only;
} groups[] = {
    { bench_op_name, measure_op, false },
    { bench_network_name, measure_network, false },
    { load_name, measure_load, true },
    { bench_picture_name, measure_picture, true },
};
enum { GROUPS = sizeof groups / sizeof *groups };

static bool wanted(const struct bench_run *b, const struct group *g, const char *name)
{
    return *b->only ? !strcmp(b->only, name) : !g->by_name_only;
}

json_t *engine_bench_cases_json(void)
{
    const char *name;
    json_t *list = json_array();
    for (int g = 0; list && g < GROUPS; g++)
        for (int i = 0; list && (name = groups[g].name(i)); i++)
            if (jx_add(list, json_string(name)) < 0) {
                json_decref(list);
                list = NULL;
            }
    return list;
}

/* How many cases there will be; an unknown name is an error. */
static int count_cases(struct bench_run *b, struct dr_error *err)
{
    const char *names[NAMES_MOST], *name;
    size_t n = 0;
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; (name = groups[g].name(i)) && n < NAMES_MOST; i++) {
            names[n++] = name;
            b->total += wanted(b, &groups[g], name);
        }
    return b->total
               ? 0
               : dr_fail_nearest(err, DR_EINVAL, "only", b->only,
                                 "a case of `darkroom help cases`, such as unet_512", names, n);
}

static int run_case(struct bench_run *b, const struct group *g, int i, struct dr_error *err)
{
    struct bench_row row = { .name = g->name(i) };
    int r = tell(b, "running", json_string(row.name), err);
    if (!r)
        r = g->measure(b, i, &row, err);
    if (r)
        return r;
    json_t *json = bench_row_json(&row);
    if (jx_add(b->rows, json_incref(json)) < 0)
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    b->done++;
    if (!r)
        return tell(b, "case", json, err);
    json_decref(json);
    return r;
}

static int run_all(struct bench_run *b, json_t **ret, struct dr_error *err)
{
    json_t *machine = machine_json(b);
    int r = tell(b, "machine", json_incref(machine), err);
    for (int g = 0; g < GROUPS && !r; g++)
        for (int i = 0; groups[g].name(i) && !r; i++)
            if (wanted(b, &groups[g], groups[g].name(i)))
                r = run_case(b, &groups[g], i, err);
    if (!r && jx_set(machine, "cases", json_incref(b->rows)) < 0)
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    if (r)
        json_decref(machine);
    else
        *ret = machine;
    return r;
}

static int read_fields(struct bench_run *b, struct dr_error *err)
{
    static const char *const keys[] = { "model",  "kernels",    "precision", "only",
                                        "stream", ENGINE_PARTS, NULL };
    bool given = false;
    const json_t *data = b->job->data;
    const char *precision = "auto";
    int r = message_only(data, keys, err);
    if (!r)
        r = engine_read_spec(b->engine, data, keys, 1, &b->spec, &given, err);
    if (!given)
        b->spec.spec.model.path = NULL;
    if (!r)
        r = jx_opt_string(data, "data", "kernels", &b->kernels, err);
    if (!r)
        r = jx_opt_string(data, "data", "precision", &precision, err);
    if (!r)
        r = precision_find(precision, &b->precision, err);
    b->precision_name = precision;
    if (!r)
        r = jx_opt_string(data, "data", "only", &b->only, err);
    return r ? r : jx_opt_bool(data, "data", "stream", &b->stream, err);
}

int engine_bench(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    struct bench_run b = { .engine = engine, .job = job, .only = "", .kernels = "auto" };
    int r = read_fields(&b, err);
    const struct model_spec *spec = b.spec.spec.model.path ? &b.spec.spec : NULL;
    if (!r)
        r = count_cases(&b, err);
    if (!r)
        r = spec ? engine_backend(engine, spec, b.kernels, b.precision, job->stop, &b.be, err)
                 : device_manager_backend(b.engine->devices, b.kernels, b.precision, &b.be, err);
    if (r)
        return r;
    b.family = backend_family(b.be);
    bench_model_init(&b.model, b.be, spec);
    pipeline_manager_clear(b.engine->pipelines); /* a model that lies about is memory */
    b.rows = json_array();
    r = b.rows ? run_all(&b, ret_data, err) : dr_fail(err, DR_ENOMEM, "out of memory");
    bench_model_release(&b.model);
    json_decref(b.rows);
    return r;
}
