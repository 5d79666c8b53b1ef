/* fast_error.c - what kernels that trade accuracy for speed cost a whole network:
 *
 *     fast_error CHECKPOINT [EDGE [KERNELS [MOST]]]
 *
 * One forward of the UNet and one decode at EDGE x EDGE pixels (512) on two backends, an exact one
 * and one of the same kernel set that may use FAST kernels; the relative L2 distance of their
 * results. Ends with 1 when one is above MOST (5e-5). The set is KERNELS, or what the exact one
 * chooses among those of float32.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/device.h"
#include "backend/backend.h"
#include "base/clock.h"
#include "inference/pipeline_manager.h"
#include "models/unet.h"
#include "models/vae.h"

enum { TOKENS = 77, NETWORKS = 2 };
static const char *const names[NETWORKS] = { "UNet", "decoder" };

struct results {
    float *values[NETWORKS];
    int64_t n[NETWORKS];
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

static int forward(struct pipeline *p, struct exec *x, int64_t edge, const float *latent,
                   float *pred, struct dr_error *err)
{
    const struct unet_arch *a = unet_arch(p->unet);
    float *text = noise(TOKENS * a->context), *pooled = noise(a->pooled + 1);
    float *ids = noise(a->n_time_ids + 1);
    struct unet_context *context = NULL;
    int r = text && pooled && ids ? 0 : DR_ENOMEM;
    if (!r)
        r = unet_context_new(p->unet, x, text, TOKENS, pooled, ids, &context, err);
    if (!r) {
        const struct unet_conditioning prompt = unet_prompt(context);
        struct unet_row row = {
            .latent = latent, .timestep = 500, .conditioning = &prompt, .pred = pred
        };
        r = unet_forward(p->unet, x, &row, 1, edge, edge, err);
    }
    unet_context_free(context);
    dr_free(text);
    dr_free(pooled);
    dr_free(ids);
    return r;
}

/* A network's pass on x. */
static int pass(struct pipeline *p, int network, struct exec *x, int64_t edge, const float *latent,
                float *result, struct dr_error *err)
{
    return network ? vae_decode(p->vae, x, latent, 1, edge, edge, result, err)
                   : forward(p, x, edge, latent, result, err);
}

static int run(struct pipeline *p, struct backend *plan, int network, int64_t edge, float *result,
               struct dr_error *err)
{
    struct exec planned = { .be = plan }, real = { .be = p->backend };
    float *latent = noise(unet_arch(p->unet)->in_channels * edge * edge);
    int r = latent ? workspace_new(plan, SIZE_MAX, &planned.ws, err) : DR_ENOMEM;
    if (!r)
        r = network ? params_acquire(p->vae, vae_visit, err)
                    : params_acquire(p->unet, unet_visit, err);
    if (!r)
        r = pass(p, network, &planned, edge, latent, result, err);
    if (!r)
        r = workspace_new(p->backend, workspace_peak(planned.ws), &real.ws, err);
    double start = dr_now();
    if (!r)
        r = pass(p, network, &real, edge, latent, result, err);
    printf("  %s: %.2f s\n", names[network], dr_now() - start);
    workspace_free(planned.ws);
    workspace_free(real.ws);
    dr_free(latent);
    return r;
}

/* kernels: "auto" becomes the name of the set, for the run after this. */
static int run_all(const char *path, char kernels[32], bool exact, int64_t edge,
                   struct results *ret, struct dr_error *err)
{
    struct backend_options options = { .kernels = kernels,
                                       .precision = exact ? PRECISION_F32 : PRECISION_AUTO };
    struct backend *be = NULL, *plan = NULL;
    struct pipeline *p = NULL;
    int r = backend_open(&options, &be, err);
    if (!r) {
        snprintf(kernels, 32, "%s", backend_kernel_set(be));
        printf("  %s, %s\n", exact ? "exact" : "fast", kernels);
        r = backend_open_plan(be, &plan, err);
    }
    if (!r)
        r = pipeline_open(path, be, NULL, &p, err);
    if (!r)
        r = pipeline_load(p, NULL, err);
    for (int i = 0; !r && i < NETWORKS; i++) {
        ret->n[i] = i ? vae_arch(p->vae)->out_channels * edge * edge * p->latent_factor *
                            p->latent_factor
                      : unet_arch(p->unet)->out_channels * edge * edge;
        ret->values[i] = dr_malloc(DR_TAG_TEST, (size_t)ret->n[i] * sizeof(float));
        r = ret->values[i] ? run(p, plan, i, edge, ret->values[i], err) : DR_ENOMEM;
    }
    pipeline_unref(p);
    backend_close(plan);
    backend_close(be);
    return r;
}

static double distance(const float *a, const float *b, int64_t n)
{
    double difference = 0, whole = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        whole += (double)b[i] * b[i];
    }
    return sqrt(difference / whole);
}

int main(int argc, char **argv)
{
    struct results exact = { { NULL }, { 0 } }, fast = exact;
    struct dr_error err = { 0 };
    if (argc < 2) {
        fputs("usage: fast_error CHECKPOINT [EDGE [KERNELS [MOST]]]\n", stderr);
        return 2;
    }
    int64_t edge = argc > 2 ? strtol(argv[2], NULL, 10) / 8 : 64;
    char kernels[32];
    snprintf(kernels, sizeof kernels, "%s", argc > 3 ? argv[3] : "auto");
    double most = argc > 4 ? strtod(argv[4], NULL) : 5e-5;
    int r = run_all(argv[1], kernels, true, edge, &exact, &err);
    if (!r)
        r = run_all(argv[1], kernels, false, edge, &fast, &err);
    if (r)
        fprintf(stderr, "fast_error: %s\n", err.text[0] ? err.text : "no memory");
    for (int i = 0; i < NETWORKS; i++) {
        if (!r) {
            double d = distance(fast.values[i], exact.values[i], exact.n[i]);
            printf("  %s: fast is %.2e from exact\n", names[i], d);
            r = d <= most ? 0 : 1; /* a NaN is too far */
        }
        dr_free(exact.values[i]);
        dr_free(fast.values[i]);
    }
    return r != 0;
}
