/* rule.h - which measurement of a case counts.
 *
 * The peak of the machine is sampled before and after each attempt, and the larger counts. Where
 * the two differ by more than a tenth the machine was not the same all the while: the attempt is
 * thrown away and repeated, a few times; then the steadiest is reported, marked noisy.
 */
#ifndef DR_BENCH_RULE_H
#define DR_BENCH_RULE_H

#include <stdbool.h>

#include <jansson.h>

struct bench_attempt {
    double seconds;
    double before, after; /* peaks, FLOP/s */
    double cores;         /* at work, on the mean: fewer than threads where others were on them */
};

enum { BENCH_ATTEMPTS = 4 };

bool bench_steady(const struct bench_attempt *a);
double bench_peak(const struct bench_attempt *a);

/* The attempt that counts among n > 0: the first steady one, else the one nearest to it. */
int bench_choose(const struct bench_attempt *a, int n);

struct bench_row {
    const char *name;
    double flops, executed; /* of one run, nominal and really multiplied */
    double first_seconds;   /* of the first run where that counts too; 0: it does not */
    struct bench_attempt attempt;
    int attempts, runs;
};

/* {"name", "seconds", "tflops", "executed_tflops", "fraction_of_peak", ...}; null for rates of a
 * case without FLOPs and fractions of a peak that was not measured. NULL when memory is short. */
json_t *bench_row_json(const struct bench_row *row);

#endif
