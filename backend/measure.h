/* measure.h - how much memory a pass of a network takes, found by running it on the plan backend.
 *
 * A pass is host code that calls ops; the same function is measured and run, so the measure is
 * exact by construction.
 *
 *     r = pass_measure(plan, pass, ctx, &need, err);            nothing is computed
 *     r = pass_run(&x, need.workspace, pass, ctx, err);         x.be: the real backend
 */
#ifndef DR_BACKEND_MEASURE_H
#define DR_BACKEND_MEASURE_H

#include "backend/backend.h"

typedef int pass_fn(void *ctx, struct exec *x, struct dr_error *err);

struct pass_need {
    size_t workspace; /* bytes */
    struct plan_totals totals;
};

/* plan: of backend_open_plan; its totals are reset. */
int pass_measure(struct backend *plan, pass_fn *fn, void *ctx, struct pass_need *ret,
                 struct dr_error *err);

/* Runs fn with a workspace of that size, which is x->ws meanwhile. */
int pass_run(struct exec *x, size_t workspace, pass_fn *fn, void *ctx, struct dr_error *err);

/* Measures fn for x->be, then runs it. */
int pass_run_measured(struct exec *x, pass_fn *fn, void *ctx, struct dr_error *err);

#endif
