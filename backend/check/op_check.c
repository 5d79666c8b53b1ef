/* op_check.c - see op_check.h. */
#include "backend/check/op_check.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/check/check_data.h"
#include "backend/device.h"
#include "backend/ops/int8.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/nearest.h"

enum { THREAD_COUNTS = 3, SETS_MAX = 16, SAMPLES = 2000, SEAMS = 800 };

static const double SAMPLE_ABOVE = 0.5e9; /* flops */
static const double WORST_FACTOR = 60;    /* largest single error allowed, in tolerances */

/* An output and what the reference says of it. */
struct sample {
    int64_t n, h, w, c;
    double value;
};

struct checker {
    const struct check_options *opt;
    check_report report;
    void *ctx;
    int failed;
    struct backend *scalar; /* all threads, for references */
    /* Fast or exact; 1, 2, 3 threads; NULL: set not wanted, or never exact. */
    struct backend *backends[SETS_MAX][2][THREAD_COUNTS];
    /* The case at hand. */
    const struct op_info *info;
    struct check_data data;
    struct check_weights weights; /* on scalar */
    float *full;                  /* the reference's output, guarded, or NULL */
    struct sample *samples;
    int n_samples;
};

static double case_flops(const struct checker *k)
{
    struct op op = check_dense_op(&k->data, &k->weights);
    return k->info->flops ? k->info->flops(&op) : 0;
}

/* What a case costs, in flops: an output of an op that has none counts for 40. */
static bool too_costly(const struct checker *k)
{
    const struct act *dst = &k->data.setup.op.dst;
    double cost = case_flops(k);
    if (!cost)
        cost = 40.0 * (double)(dst->n * dst->h * dst->w * dst->c);
    return k->opt->most_flops > 0 && cost > k->opt->most_flops;
}

/* ---- references ---- */

/* A coordinate near a multiple of a likely tile edge. */
static int64_t near_seam(uint64_t r, int64_t size)
{
    static const int64_t edges[] = { 4, 6, 8, 12, 14, 16, 24, 32, 48, 64, 128, 256 };
    int64_t edge = edges[r % (sizeof edges / sizeof *edges)];
    int64_t at = (int64_t)(r >> 8 & 0xffff) % (size / edge + 1) * edge - (int64_t)(r >> 32 & 1);
    return at < 0 ? 0 : at >= size ? size - 1 : at;
}

static struct sample place_sample(const struct act *dst, uint64_t seed, int i, int random)
{
    int64_t pixels = dst->h * dst->w;
    uint64_t a = check_random(seed, (uint64_t)i * 2), b = check_random(seed, (uint64_t)i * 2 + 1);
    struct sample s = { .n = (int64_t)(a >> 48) % dst->n };
    int64_t p = (int64_t)(a & 0xffffffffffff) % pixels;
    if (i < 8) { /* corners */
        s.n = i & 1 ? dst->n - 1 : 0;
        p = i & 2 ? pixels - 1 : 0;
        s.c = i & 4 ? dst->c - 1 : 0;
    } else if (i < random) {
        s.c = (int64_t)(b % (uint64_t)dst->c);
    } else {
        p = near_seam(a, pixels);
        s.c = near_seam(b, dst->c);
    }
    s.h = p / dst->w;
    s.w = p % dst->w;
    return s;
}

/* `at` for the corners, drawn outputs and seams, about as many as half a GFLOP pays for. */
static int sample_reference(struct checker *k, struct dr_error *err)
{
    struct op op = check_dense_op(&k->data, &k->weights);
    struct op_args args = check_dense_args(&k->data, &op);
    double each = case_flops(k) / (double)(op.dst.n * op.dst.h * op.dst.w * op.dst.c);
    bool all = case_flops(k) > SAMPLE_ABOVE || each * (SAMPLES + SEAMS) < 2e7;
    int random = all ? SAMPLES : 100, count = all ? SAMPLES + SEAMS : 150;
    k->samples = dr_malloc(DR_TAG_TEST, (size_t)count * sizeof *k->samples);
    if (!k->samples)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    for (int i = 0; i < count; i++) {
        struct sample *s = &k->samples[i];
        if (k->opt->stop && atomic_load(k->opt->stop))
            return dr_fail(err, DR_ECANCELED, "stopped");
        *s = place_sample(&op.dst, k->opt->seed, i, random);
        s->value = k->info->at(&args, s->n, s->h, s->w, s->c);
    }
    k->n_samples = count;
    return 0;
}

static int full_reference(struct checker *k, struct dr_error *err)
{
    struct check_part all = { .count = k->data.setup.op.dst.n };
    struct check_out out;
    int r = check_data_run(k->scalar, &k->data, &k->weights, all, k->opt->stop, &out, err);
    if (r)
        return r;
    k->full = out.dst; /* references give no moments */
    return 0;
}

/* ---- comparisons ---- */

struct distance {
    double difference, reference, largest;
    int64_t count;
    bool unequal;
};

static void measure(struct distance *d, double got, double want)
{
    double diff = got - want;
    d->count++;
    d->unequal |= (float)got != (float)want;
    d->reference += want * want;
    /* A NaN must not get lost in comparisons that are false. */
    if (!(diff * diff < INFINITY)) {
        d->difference = INFINITY;
        return;
    }
    d->difference += diff * diff;
    if (fabs(diff) > d->largest)
        d->largest = fabs(diff);
}

static const float *output(const struct act *dst, const float *out, int64_t row)
{
    return out + (CHECK_GUARD + row) * dst->ld;
}

static struct distance compare(const struct checker *k, const float *out, bool sampled)
{
    const struct act *dst = &k->data.setup.op.dst;
    struct distance d = { 0, 0, 0, 0, false };
    if (sampled) {
        for (int i = 0; i < k->n_samples; i++) {
            const struct sample *s = &k->samples[i];
            int64_t row = (s->n * dst->h + s->h) * dst->w + s->w;
            measure(&d, output(dst, out, row)[s->c], s->value);
        }
        return d;
    }
    for (int64_t row = 0; row < dst->n * dst->h * dst->w; row++)
        for (int64_t c = 0; c < dst->c; c++)
            measure(&d, output(dst, out, row)[c], output(dst, k->full, row)[c]);
    return d;
}

/* Rows around dst and the gaps beside it hold what they held. */
static bool guards_whole(const struct act *dst, const float *out)
{
    int64_t rows = dst->n * dst->h * dst->w;
    uint32_t guard;
    memset(&guard, CHECK_GUARD_BYTE, sizeof guard);
    for (int64_t row = -CHECK_GUARD; row < rows + CHECK_GUARD; row++) {
        const float *p = output(dst, out, row);
        for (int64_t c = row < 0 || row >= rows ? 0 : dst->c; c < dst->ld; c++)
            if (memcmp(p + c, &guard, sizeof guard))
                return false;
    }
    return true;
}

static bool same_bits(const struct act *dst, const float *a, const float *b, int64_t first_row,
                      int64_t rows)
{
    for (int64_t row = 0; row < rows; row++)
        if (memcmp(output(dst, a, first_row + row), output(dst, b, row),
                   (size_t)dst->c * sizeof *a))
            return false;
    return true;
}

static uint64_t digest_bits(const struct act *dst, const float *out)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (int64_t row = 0; row < dst->n * dst->h * dst->w; row++) {
        const unsigned char *bytes = (const unsigned char *)output(dst, out, row);
        for (int64_t i = 0; i < dst->c * (int64_t)sizeof *out; i++)
            hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

/* ---- a case in a set ---- */

/* What errors are measured against, squared: the reference; but a few sums may all but cancel whose
 * terms, of size 1 and rounded by the kernel, did not. */
static double scale_of(const struct checker *k, const struct distance *d, double tolerance)
{
    enum { FEW = 16 };
    bool rounds = k->info->tolerance > 0 && tolerance > 10 * k->info->tolerance;
    double least = rounds && d->count < FEW ? (double)d->count : 0;
    return d->reference > least ? d->reference : least;
}

static void judge(const struct checker *k, const float *out, bool sampled, struct check_result *r)
{
    struct distance d = compare(k, out, sampled);
    d.reference = scale_of(k, &d, r->tolerance);
    double rms = sqrt(d.reference / (double)d.count);
    r->compared = d.count;
    r->error = d.reference > 0 ? sqrt(d.difference / d.reference) : sqrt(d.difference);
    r->worst = rms > 0 ? d.largest / rms : d.largest;
    if (r->tolerance > 0 ? !(r->error <= r->tolerance) : d.unequal)
        snprintf(r->why, sizeof r->why, "relative error %.3g, allowed %.3g", r->error,
                 r->tolerance);
    else if (r->tolerance > 0 && !(r->worst <= WORST_FACTOR * r->tolerance))
        snprintf(r->why, sizeof r->why, "largest error %.3g of the mean, allowed %.3g", r->worst,
                 WORST_FACTOR * r->tolerance);
}

static bool same_moments(const struct check_out *together, int64_t first,
                         const struct check_out *some, int64_t samples)
{
    size_t each = together->sample_moments;
    return each == some->sample_moments &&
           (!each || !memcmp((const char *)together->moments + (size_t)first * each, some->moments,
                             (size_t)samples * each));
}

/* Each sample alone has the bits it has among the others. */
static int check_alone(const struct checker *k, struct backend *be, const struct check_weights *w,
                       bool narrow, const struct check_out *together, struct check_result *r,
                       struct dr_error *err)
{
    const struct act *dst = &k->data.setup.op.dst;
    int64_t rows = dst->h * dst->w;
    for (int64_t i = 0; i < dst->n && dst->n > 1; i++) {
        struct check_out alone;
        struct check_part one = { .first = i, .count = 1, .narrow = narrow };
        int e = check_data_run(be, &k->data, w, one, k->opt->stop, &alone, err);
        if (e)
            return e;
        if (!same_bits(dst, together->dst, alone.dst, i * rows, rows) && !r->why[0])
            snprintf(r->why, sizeof r->why, "sample %" PRId64 " alone has other bits", i);
        if (!same_moments(together, i, &alone, 1) && !r->why[0])
            snprintf(r->why, sizeof r->why, "sample %" PRId64 " alone has other moments", i);
        check_out_free(&alone);
    }
    return 0;
}

/* One backend (a set and a thread count): *first is what the first thread count wrote. */
static int check_threads(const struct checker *k, struct backend *be, bool narrow, bool sampled,
                         struct check_out *first, struct check_result *r, struct dr_error *err)
{
    const struct act *dst = &k->data.setup.op.dst;
    struct check_weights w;
    struct check_out out = { .dst = NULL };
    int e = check_weights_new(be, &k->data, &w, err);
    if (e)
        return e;
    struct check_part all = { .count = dst->n, .narrow = narrow };
    e = check_data_run(be, &k->data, &w, all, k->opt->stop, &out, err);
    if (!e && !first->dst) {
        judge(k, out.dst, sampled, r);
        r->digest = digest_bits(dst, out.dst);
        e = check_alone(k, be, &w, narrow, &out, r, err);
    }
    check_weights_free(&w);
    if (e) {
        check_out_free(&out);
        return e;
    }
    if (!guards_whole(dst, out.dst) && !r->why[0])
        snprintf(r->why, sizeof r->why, "writes outside dst with %d threads", backend_threads(be));
    if (!first->dst) {
        *first = out;
        return 0;
    }
    if ((!same_bits(dst, first->dst, out.dst, 0, dst->n * dst->h * dst->w) ||
         !same_moments(first, 0, &out, dst->n)) &&
        !r->why[0])
        snprintf(r->why, sizeof r->why, "%d threads give other bits", backend_threads(be));
    check_out_free(&out);
    return 0;
}

/* One way of running a case: a set, exact or fast, with 16-bit activations or without. */
struct way {
    int set;
    bool exact, narrow;
};

static struct kernel_facts kernel_in(const struct checker *k, int set, bool exact)
{
    struct weight_desc d = k->data.setup.weight;
    struct kernel_set_facts s;
    d.int8 = k->data.setup.weight_dtype == DTYPE_I8;
    if (!kernel_set_facts(set, &s))
        return (struct kernel_facts){ .identity = NULL };
    return s.device->kernel(s.index, k->data.setup.op.kind, &d, exact);
}

static bool same_kernel(const struct checker *k, struct way a, struct way b)
{
    return kernel_in(k, a.set, a.exact).identity == kernel_in(k, b.set, b.exact).identity;
}

/* What results may be off by. */
static double tolerance_of(const struct checker *k, struct way way)
{
    static const double rounding = 6e-3; /* an 8-bit mantissa, three times */
    struct kernel_facts kernel = kernel_in(k, way.set, way.exact);
    bool activated = k->data.setup.op.activation != ACT_NONE;
    double t = activated ? kernel.activated_tolerance : 0;
    if (!(t > 0))
        t = kernel.tolerance;
    if (!(t > 0))
        t = way.exact || !(k->info->fast_tolerance > 0) ? k->info->tolerance
                                                        : k->info->fast_tolerance;
    return way.narrow && t < rounding ? rounding : t;
}

static int check_way(struct checker *k, struct way way, const struct op_case *c,
                     struct dr_error *err)
{
    double start = dr_now();
    struct check_out first = { .dst = NULL };
    int e = 0;
    char name[48];
    struct dr_error broken = { 0 };
    struct check_result r = { .op = k->info->name,
                              .set = name,
                              .name = c->name,
                              .narrow = way.narrow,
                              .tolerance = tolerance_of(k, way) };
    bool only = !k->backends[way.set][true][0]; /* such a set has one way */
    snprintf(name, sizeof name, "%s%s", backend_kernel_set_name(way.set, NULL),
             way.exact || only ? "" : " fast");
    bool sampled = k->n_samples && (way.set == 0 || !k->full);
    for (int t = 0; t < THREAD_COUNTS && !e; t++)
        e = check_threads(k, k->backends[way.set][way.exact][t], way.narrow, sampled, &first, &r,
                          &broken);
    check_out_free(&first);
    if (e == DR_ENOMEM || e == DR_ECANCELED)
        return dr_fail(err, e, "%s", broken.text);
    if (e)
        snprintf(r.why, sizeof r.why, "%.180s", broken.text);
    r.passed = !r.why[0];
    r.seconds = dr_now() - start;
    k->failed += !r.passed;
    k->report(k->ctx, &r);
    return 0;
}

/* The way's kernel is not that of a set before it, where it is checked already. */
static bool has_own(const struct checker *k, struct way way)
{
    for (int set = 0; set < way.set; set++)
        if (same_kernel(k, way, (struct way){ .set = set, .exact = way.exact }))
            return false;
    return true;
}

static bool wanted(const struct checker *k, struct way way)
{
    struct backend *be = k->backends[way.set][way.exact][0];
    if (!be || (way.narrow &&
                (!k->info->operands || backend_operand(be, k->data.setup.op.kind) == DTYPE_F32)))
        return false;
    if (way.set == 0)
        return way.exact && !(k->opt->scalar_flops > 0 && case_flops(k) > k->opt->scalar_flops);
    bool same = !way.exact && k->backends[way.set][true][0] &&
                same_kernel(k, way, (struct way){ .set = way.set, .exact = true });
    return !same && has_own(k, way);
}

/* What a kernel that rounds its source to 8 bits sees of the case's, which it may get in type t. */
static float *rounded_source(const struct checker *k, enum dtype t)
{
    struct op op = check_dense_op(&k->data, &k->weights);
    int64_t n = op.src.n * op.src.h * op.src.w * op.src.c;
    float *copy = dr_malloc(DR_TAG_TEST, (size_t)n * sizeof *copy);
    for (int64_t i = 0; copy && i < n; i++) {
        char value[sizeof(double)];
        dtype_from_f32(value, t, (const float *)k->data.values[ROLE_SRC] + i, 1);
        dtype_to_f32(&copy[i], value, t, 1);
    }
    if (copy)
        int8_round_source(&op, copy);
    return copy;
}

/* The references of the case; for kernels that round, from a source that is rounded already: both
 * then compute the same, and the op's own tolerance holds. */
static int make_references(struct checker *k, bool rounded, enum dtype t, struct dr_error *err)
{
    float *plain = k->data.values[ROLE_SRC], *copy = rounded ? rounded_source(k, t) : NULL;
    int r = 0;
    if (rounded && !copy)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    if (rounded)
        k->data.values[ROLE_SRC] = copy;
    if (k->info->at)
        r = sample_reference(k, err);
    if (!r && (!k->info->at || case_flops(k) <= SAMPLE_ABOVE))
        r = full_reference(k, err);
    k->data.values[ROLE_SRC] = plain;
    dr_free(copy);
    return r;
}

static void forget_references(struct checker *k)
{
    dr_free(k->samples);
    dr_free(k->full);
    k->samples = NULL;
    k->full = NULL;
    k->n_samples = 0;
}

/* All ways from references that hold for all of them; those that round have each their own. */
static int check_ways(struct checker *k, const struct op_case *c, bool rounded,
                      struct dr_error *err)
{
    bool made = false;
    int r = 0;
    for (int i = 0; i < 4 * SETS_MAX && !r; i++) {
        struct way way = { .set = i / 4, .exact = i / 2 % 2 == 0, .narrow = i % 2 };
        if (!wanted(k, way) || kernel_in(k, way.set, way.exact).int8 != rounded)
            continue;
        struct backend *be = k->backends[way.set][way.exact][0];
        if (!made)
            r = make_references(k, rounded,
                                way.narrow ? backend_operand(be, k->data.setup.op.kind) : DTYPE_F32,
                                err);
        made = !rounded;
        if (!r)
            r = check_way(k, way, c, err);
        if (rounded)
            forget_references(k);
    }
    forget_references(k);
    return r;
}

static int check_case(struct checker *k, enum op_kind kind, const struct op_case *c,
                      struct dr_error *err)
{
    k->info = op_info(kind);
    int r = check_data_new(k->info, kind, c, k->opt->seed, &k->data, err);
    if (!r)
        r = check_weights_new(k->scalar, &k->data, &k->weights, err);
    bool affordable = !r && !too_costly(k);
    if (affordable)
        r = check_ways(k, c, false, err);
    if (affordable && !r)
        r = check_ways(k, c, true, err);
    check_weights_free(&k->weights);
    check_data_free(&k->data);
    return r ? dr_while(err, r, "checking %s, %s", k->info->name, c->name) : 0;
}

/* ---- everything ---- */

/* The number of the set that alone is wanted, -1: all. */
static int wanted_set(const struct checker *k, int *ret, struct dr_error *err)
{
    const char *name;
    char known[200] = "";
    bool usable;
    *ret = -1;
    for (int i = 0; k->opt->kernels && (name = backend_kernel_set_name(i, &usable)); i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", name);
        if (strcmp(name, k->opt->kernels))
            continue;
        *ret = i;
        return usable ? 0
                      : dr_fail_field(err, DR_EUNSUPPORTED, "kernels", name,
                                      "a kernel set that this machine can run", NULL);
    }
    return k->opt->kernels ? dr_fail_field(err, DR_EINVAL, "kernels", k->opt->kernels, known, NULL)
                           : 0;
}

/* On 1, 2, 3 threads. */
static int open_set(struct checker *k, const struct kernel_set_facts *set, int i, bool exact,
                    struct dr_error *err)
{
    int r = 0;
    for (int t = 0; t < THREAD_COUNTS && !r; t++) {
        struct backend_options o = { .kernels = set->name,
                                     .threads = t + 1,
                                     .precision = exact ? PRECISION_F32 : PRECISION_AUTO };
        r = (k->opt->open ? k->opt->open : backend_open)(&o, &k->backends[i][exact][t], err);
    }
    return r;
}

static int open_backends(struct checker *k, struct dr_error *err)
{
    struct kernel_set_facts set;
    int only = -1;
    int r = backend_open(&(struct backend_options){ .kernels = "scalar" }, &k->scalar, err);
    if (!r)
        r = wanted_set(k, &only, err);
    for (int i = 0; i < SETS_MAX && !r && kernel_set_facts(i, &set); i++) {
        if (!set.usable || (only >= 0 && i != only))
            continue;
        r = open_set(k, &set, i, false, err);
        if (!r && set.precision == PRECISION_F32)
            r = open_set(k, &set, i, true, err);
    }
    return r;
}

static int op_named(const char *name, struct dr_error *err)
{
    const char *names[OP_KIND_COUNT];
    for (int i = 0; i < OP_KIND_COUNT; i++) {
        names[i] = op_info((enum op_kind)i)->name;
        if (!strcmp(name, names[i]))
            return i;
    }
    return dr_fail_field(err, DR_EINVAL, "op", name, "an op's name",
                         dr_nearest(name, names, OP_KIND_COUNT));
}

int backend_check(const struct check_options *opt, check_report report, void *ctx, int *ret_failed,
                  struct dr_error *err)
{
    struct checker *k = dr_calloc(DR_TAG_TEST, 1, sizeof *k);
    if (!k)
        return dr_fail(err, DR_ENOMEM, "out of memory for the checker");
    k->opt = opt;
    k->report = report;
    k->ctx = ctx;
    int only = opt->op ? op_named(opt->op, err) : OP_KIND_COUNT;
    int r = only < 0 ? only : open_backends(k, err);
    for (int kind = 0; kind < OP_KIND_COUNT && !r; kind++) {
        const struct op_info *info = op_info((enum op_kind)kind);
        for (int i = 0; i < info->n_cases && !r && (!opt->op || kind == only); i++)
            r = check_case(k, (enum op_kind)kind, &info->cases[i], err);
    }
    for (int set = 0; set < SETS_MAX; set++)
        for (int i = 0; i < 2 * THREAD_COUNTS; i++)
            backend_close(k->backends[set][i % 2][i / 2]);
    backend_close(k->scalar);
    if (!r)
        *ret_failed = k->failed;
    dr_free(k);
    return r;
}
