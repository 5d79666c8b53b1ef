/* unet_fraction.c - which part of the machine's multiply-add rate the UNet reaches:
 *
 *     unet_fraction CHECKPOINT [EDGE [KERNELS [LEAST]]]
 *
 * One row of EDGE x EDGE pixels (512), twice: the first pass brings the weights in, the second
 * counts. The peak is measured before and after in the same process, on the same threads, and the
 * better is taken. Ends with 1 when the fraction is under LEAST (0.25).
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/device.h"
#include "backend/backend.h"
#include "base/clock.h"
#include "inference/pipeline_manager.h"
#include "models/unet.h"

enum { TOKENS = 77, PASSES = 2 };

struct measure {
    struct backend *be, *plan;
    struct pipeline *pipeline;
    int64_t edge; /* latents */
    float *latent, *pred, *text, *pooled, *ids;
    double flops, seconds, before, after;
};

static float *noise(int64_t n)
{
    float *v = dr_malloc(DR_TAG_TEST, (size_t)n * sizeof *v);
    uint32_t state = 1;
    for (int64_t i = 0; v && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        v[i] = (float)(state >> 8) * 0x1p-23f - 1;
    }
    return v;
}

/* One pass on the real or the planning backend. */
static int pass(struct measure *m, struct exec *x, struct dr_error *err)
{
    struct unet_context *context;
    struct unet *u = m->pipeline->unet;
    int r = unet_context_new(u, x, m->text, TOKENS, m->pooled, m->ids, &context, err);
    if (r < 0)
        return r;
    const struct unet_conditioning prompt = unet_prompt(context);
    struct unet_row row = {
        .latent = m->latent, .timestep = 500, .conditioning = &prompt, .pred = m->pred
    };
    backend_plan_reset(x->be);
    double start = dr_now();
    r = unet_forward(u, x, &row, 1, m->edge, m->edge, err);
    m->seconds = dr_now() - start;
    unet_context_free(context);
    return r;
}

static int run(struct measure *m, struct dr_error *err)
{
    struct exec planned = { .be = m->plan }, real = { .be = m->be };
    int r = params_acquire(m->pipeline->unet, unet_visit, err);
    if (!r)
        r = workspace_new(m->plan, SIZE_MAX, &planned.ws, err);
    if (!r)
        r = pass(m, &planned, err);
    if (!r) {
        m->flops = backend_plan_totals(m->plan).flops;
        r = workspace_new(m->be, workspace_peak(planned.ws), &real.ws, err);
    }
    m->before = backend_peak(m->be, backend_family(m->be)).flops;
    for (int i = 0; !r && i < PASSES; i++) {
        r = pass(m, &real, err);
        if (!r)
            printf("  pass %d: %.2f s\n", i + 1, m->seconds);
    }
    m->after = backend_peak(m->be, backend_family(m->be)).flops;
    workspace_free(planned.ws);
    workspace_free(real.ws);
    return r;
}

static int open_all(struct measure *m, const char *path, const char *kernels, struct dr_error *err)
{
    struct backend_options options = { .kernels = kernels };
    int r = backend_open(&options, &m->be, err);
    if (!r)
        r = backend_open_plan(m->be, &m->plan, err);
    if (!r)
        r = pipeline_open(path, m->be, NULL, &m->pipeline, err);
    if (!r)
        r = pipeline_load(m->pipeline, NULL, err);
    if (r < 0)
        return r;
    const struct unet_arch *a = unet_arch(m->pipeline->unet);
    m->latent = noise(a->in_channels * m->edge * m->edge);
    m->pred = noise(a->out_channels * m->edge * m->edge);
    m->text = noise(TOKENS * a->context);
    m->pooled = noise(a->pooled + 1);
    m->ids = noise(a->n_time_ids + 1);
    bool all = m->latent && m->pred && m->text && m->pooled && m->ids;
    return all ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
}

static void close_all(struct measure *m)
{
    dr_free(m->latent);
    dr_free(m->pred);
    dr_free(m->text);
    dr_free(m->pooled);
    dr_free(m->ids);
    pipeline_unref(m->pipeline);
    backend_close(m->plan);
    backend_close(m->be);
}

int main(int argc, char **argv)
{
    struct measure m = { .edge = 64 };
    struct dr_error err = { 0 };
    if (argc < 2) {
        fputs("usage: unet_fraction CHECKPOINT [EDGE [KERNELS [LEAST]]]\n", stderr);
        return 2;
    }
    if (argc > 2)
        m.edge = strtol(argv[2], NULL, 10) / 8;
    double least = argc > 4 ? strtod(argv[4], NULL) : 0.25;
    int r = open_all(&m, argv[1], argc > 3 ? argv[3] : "auto", &err);
    if (!r)
        r = run(&m, &err);
    if (r < 0) {
        fprintf(stderr, "unet_fraction: %s\n", err.text);
        close_all(&m);
        return 1;
    }
    double peak = m.before > m.after ? m.before : m.after, rate = m.flops / m.seconds;
    double fraction = peak > 0 ? rate / peak : 0;
    printf("  UNet %lldx%lld, %s, %d threads: %.1f GFLOP in %.2f s, %.1f GFLOP/s\n"
           "  peak %.1f GFLOP/s before, %.1f after: %.1f %% of peak\n",
           (long long)m.edge * 8, (long long)m.edge * 8, backend_kernel_set(m.be),
           backend_threads(m.be), m.flops / 1e9, m.seconds, rate / 1e9, m.before / 1e9,
           m.after / 1e9, 100 * fraction);
    close_all(&m);
    return fraction < least;
}
