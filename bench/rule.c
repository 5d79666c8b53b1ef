/* rule.c - see rule.h. */
#include "bench/rule.h"

#include <math.h>

static const double DIFFERENCE = 0.1;

static double unsteadiness(const struct bench_attempt *a)
{
    double peak = bench_peak(a);
    return peak > 0 ? fabs(a->before - a->after) / peak : 0;
}

bool bench_steady(const struct bench_attempt *a)
{
    return unsteadiness(a) <= DIFFERENCE;
}

double bench_peak(const struct bench_attempt *a)
{
    return a->before > a->after ? a->before : a->after;
}

int bench_choose(const struct bench_attempt *a, int n)
{
    int best = 0;
    for (int i = 0; i < n; i++) {
        if (bench_steady(&a[i]))
            return i;
        if (unsteadiness(&a[i]) < unsteadiness(&a[best]))
            best = i;
    }
    return best;
}

/* What is not above zero was not counted or not measured: no number, in place of a false one. */
static json_t *number_or_null(double value)
{
    return value > 0 ? json_real(value) : json_null();
}

json_t *bench_row_json(const struct bench_row *row)
{
    const struct bench_attempt *a = &row->attempt;
    double seconds = a->seconds > 0 ? a->seconds : 1, peak = bench_peak(a);
    double rate = row->flops / seconds, executed = row->executed / seconds;
    return json_pack("{s:s,s:f,s:o*,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:i,s:i,s:b}", "name",
                     row->name, "seconds", a->seconds, "first_seconds",
                     row->first_seconds > 0 ? json_real(row->first_seconds) : NULL, "flops",
                     number_or_null(row->flops), "executed_flops", number_or_null(row->executed),
                     "tflops", number_or_null(rate * 1e-12), "executed_tflops",
                     number_or_null(executed * 1e-12), "fraction_of_peak",
                     number_or_null(peak > 0 ? rate / peak : 0), "executed_fraction",
                     number_or_null(peak > 0 ? executed / peak : 0), "peak_before",
                     number_or_null(a->before * 1e-12), "peak_after",
                     number_or_null(a->after * 1e-12), "cores", number_or_null(a->cores), "runs",
                     row->runs, "attempts", row->attempts, "noisy", !bench_steady(a));
}
