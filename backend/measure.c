/* measure.c - see measure.h. */
#include "backend/measure.h"

int pass_run(struct exec *x, size_t workspace, pass_fn *fn, void *ctx, struct dr_error *err)
{
    int r = workspace_new(x->be, workspace, &x->ws, err);
    if (!r)
        r = fn(ctx, x, err);
    workspace_free(x->ws);
    x->ws = NULL;
    return r;
}

int pass_measure(struct backend *plan, pass_fn *fn, void *ctx, struct pass_need *ret,
                 struct dr_error *err)
{
    struct exec x = { .be = plan };
    backend_plan_reset(plan);
    int r = workspace_new(plan, SIZE_MAX, &x.ws, err);
    if (!r)
        r = fn(ctx, &x, err);
    if (!r)
        *ret = (struct pass_need){ workspace_peak(x.ws), backend_plan_totals(plan) };
    workspace_free(x.ws);
    return r;
}

int pass_run_measured(struct exec *x, pass_fn *fn, void *ctx, struct dr_error *err)
{
    struct backend *plan;
    struct pass_need need;
    int r = backend_open_plan(x->be, &plan, err);
    if (r < 0)
        return r;
    r = pass_measure(plan, fn, ctx, &need, err);
    backend_close(plan);
    return r ? r : pass_run(x, need.workspace, fn, ctx, err);
}
