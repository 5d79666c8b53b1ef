/* op_check.h - every kernel against its op's reference, on this machine.
 *
 * Walks ops x kernel sets x cases. A case passes when, for 1, 2 and 3 threads, the result has the
 * same bits, is within the op's tolerance of the reference, leaves everything around dst untouched
 * (the gaps of a view with ld > c too), and when each sample has the bits it has alone. Above 0.5
 * GFLOP the reference computes 2,000 outputs drawn by seed, the corners, and the neighbourhood of
 * likely tile seams. A new op or kernel is covered by its line in the .def file.
 */
#ifndef DR_BACKEND_CHECK_OP_CHECK_H
#define DR_BACKEND_CHECK_OP_CHECK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/error.h"

struct check_options {
    const char *op;         /* one op's name, or NULL: all */
    const char *kernels;    /* one kernel set, or NULL: all that this machine can run */
    double most_flops;      /* costlier cases are left out; 0: no limit */
    double scalar_flops;    /* the scalar set skips cases above; 0: no limit */
    uint64_t seed;          /* of inputs and samples */
    const atomic_int *stop; /* may be NULL */
    /* Opens what is checked; NULL: backend_open. */
    int (*open)(const struct backend_options *opt, struct backend **ret, struct dr_error *err);
};

struct check_result {
    const char *op, *set, *name; /* set: "avx2", "avx2 fast"; name: of the case */
    bool narrow;                 /* with activations of the set's 16-bit type */
    double error;                /* relative L2 distance over the outputs compared */
    double worst;                /* largest distance over the root mean square of the reference */
    double tolerance;            /* of error; 0: equal bits */
    int64_t compared;            /* outputs */
    uint64_t digest;             /* FNV-1a of the bits of dst, the same for any compiler */
    double seconds;              /* of all runs of the case in this set */
    bool passed;
    char why[200]; /* what failed, "" when passed */
};

typedef void (*check_report)(void *ctx, const struct check_result *result);

/* 0 also when kernels fail; ret_failed counts the failures. Errors: no memory, stopped, no such op
 * or set. */
int backend_check(const struct check_options *opt, check_report report, void *ctx, int *ret_failed,
                  struct dr_error *err);

#endif
