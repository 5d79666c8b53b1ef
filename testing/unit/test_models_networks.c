/* test_models_networks.c - the text encoders, the UNet and the autoencoder against diffusers, and
 * the rules that every network keeps: rows and threads do not change bits, a plan run is exact,
 * nothing is left behind. Vectors: testing/golden/odd, made by tools/golden/networks.py. */
#include "testing/helpers/odd_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ops/op.h"
#include "base/alloc.h"
#include "base/rng.h"
#include "models/vae_manager.h"
#include "testing/helpers/base_files.h"

#define TOLERANCE 1e-5
#define TOLERANCE_16 2e-2
/* Of one prediction of so small a UNet: one rounding that falls the other way changes it by a
 * third, so the mean of many is what counts. */
#define UNET_16 4e-2
#define UNET_MEAN_16 2.3e-2
enum { ROWS = 3, TEXT = 19 };

static void must(int r, const struct dr_error *err)
{
    if (r)
        fail_msg("%s", err->text);
}

static float *floats(int64_t n)
{
    float *p = dr_calloc(DR_TAG_TEST, (size_t)n, sizeof *p);
    assert_non_null(p);
    return p;
}

/* Compares with a vector and frees what was computed. */
/* What the set under test may be off by: it rounds the operands of products, or not. */
static double tolerance = TOLERANCE;

static void close_to(const char *kernels, const char *name, float *got)
{
    struct npy want = odd_vector(name);
    double d = test_rel_l2(got, want.data, (size_t)want.count);
    print_message("  %-8s %-20s %.2e\n", kernels, name, d);
    if (!(d <= tolerance))
        fail_msg("%s: %s is off by %g", kernels, name, d);
    npy_free(&want);
    dr_free(got);
}

static void for_each_set(void (*check)(struct odd *g, const char *kernels))
{
    const char *name;
    bool usable;
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        if (!usable)
            continue;
        struct odd g;
        odd_must(&g, ODD_CPU, name, 2);
        tolerance = backend_operand(g.be, OP_LINEAR) == DTYPE_F32 ? TOLERANCE : TOLERANCE_16;
        check(&g, name);
        assert_int_equal(workspace_used(g.ws), 0);
        odd_close(&g);
    }
}

/* ---- text encoders ---- */

static void check_text(struct odd *g, const char *kernels)
{
    struct npy ids = odd_vector("clip_ids");
    struct dr_error err = { 0 };
    for (int which = 0; which < 2; which++)
        for (int skip = 1; skip <= 3; skip++) {
            char name[32];
            float *hidden = floats(2 * 77 * (which ? 40 : 28));
            float *pooled = floats(2 * ODD_POOLED);
            must(clip_text_encode(g->clip[which], &g->x, ids.data, 2, 77,
                                  (struct clip_state){ skip, false }, hidden,
                                  skip == 2 ? pooled : NULL, &err),
                 &err);
            snprintf(name, sizeof name, "clip%d_hidden%d", which + 1, skip);
            close_to(kernels, name, hidden);
            if (which && skip == 2)
                close_to(kernels, "clip2_pooled", pooled);
            else
                dr_free(pooled);
        }
    npy_free(&ids);
}

static void text_encoders_agree(void **state)
{
    (void)state;
    for_each_set(check_text);
}

/* The same weights with another end token. */
static void check_pooled(struct odd *g, int64_t eos, const char *name)
{
    struct clip_arch arch = *clip_text_arch(g->clip[1]);
    struct npy ids = odd_vector("clip_ids");
    struct dr_error err = { 0 };
    float *hidden = floats(2 * 77 * 40), *pooled = floats(2 * ODD_POOLED);
    arch.eos_id = eos;
    clip_text_free(g->clip[1]);
    g->clip[1] = NULL;
    must(clip_text_new(&arch, &g->clip[1], &err), &err);
    must(checkpoint_load(g->ckpt, COMPONENT_TEXT_ENCODER_2, g->clip[1], clip_text_visit, &err),
         &err);
    must(params_prepare(g->clip[1], clip_text_visit, g->be, NULL, &err), &err);
    must(params_acquire(g->clip[1], clip_text_visit, &err), &err);
    must(clip_text_encode(g->clip[1], &g->x, ids.data, 2, 77, (struct clip_state){ .skip = 4 },
                          hidden, pooled, &err),
         &err);
    close_to("scalar", name, pooled);
    dr_free(hidden);
    npy_free(&ids);
}

static void pooled_at_the_first_end_token(void **state)
{
    (void)state;
    struct odd g;
    odd_must(&g, ODD_CPU, "scalar", 2);
    check_pooled(&g, 612, "clip2_pooled_eos");
    check_pooled(&g, 0, "clip2_pooled_first");
    odd_close(&g);
}

/* ---- UNet ---- */

struct conditioning {
    struct npy text, pooled, time_ids, timesteps;
    struct unet_context *context[ROWS];
    struct unet_conditioning prompt[ROWS];
};

static void conditioning_open(struct conditioning *c, struct odd *g)
{
    static const int64_t tokens[ROWS] = { TEXT, TEXT, 7 };
    struct dr_error err = { 0 };
    c->text = odd_vector("unet_text");
    c->pooled = odd_vector("unet_pooled");
    c->time_ids = odd_vector("unet_time_ids");
    c->timesteps = odd_vector("unet_timesteps");
    for (int i = 0; i < ROWS; i++) {
        must(unet_context_new(g->unet, &g->x, (float *)c->text.data + i * TEXT * ODD_CONTEXT,
                              tokens[i], (float *)c->pooled.data + i * ODD_POOLED,
                              (float *)c->time_ids.data + i * ODD_IDS, &c->context[i], &err),
             &err);
        c->prompt[i] = unet_prompt(c->context[i]);
    }
}

static void conditioning_close(struct conditioning *c)
{
    for (int i = 0; i < ROWS; i++)
        unet_context_free(c->context[i]);
    npy_free(&c->text);
    npy_free(&c->pooled);
    npy_free(&c->time_ids);
    npy_free(&c->timesteps);
}

static void rows_of(struct unet_row rows[ROWS], const struct conditioning *c, const float *latents,
                    float *pred, int64_t size)
{
    for (int i = 0; i < ROWS; i++)
        rows[i] = (struct unet_row){
            .latent = latents + i * size,
            .timestep = ((float *)c->timesteps.data)[i],
            .conditioning = &c->prompt[i],
            .pred = pred + i * size,
        };
}

static void check_unet_size(struct odd *g, const char *kernels, int64_t w, int64_t h)
{
    char name[32];
    struct conditioning c;
    struct unet_row rows[ROWS];
    struct dr_error err = { 0 };
    conditioning_open(&c, g);
    snprintf(name, sizeof name, "unet_%dx%d_latents", (int)w, (int)h);
    struct npy latents = odd_vector(name);
    float *pred = floats(latents.count);
    rows_of(rows, &c, latents.data, pred, 4 * h * w);
    must(unet_forward(g->unet, &g->x, rows, ROWS, h, w, &err), &err);
    snprintf(name, sizeof name, "unet_%dx%d_pred", (int)w, (int)h);
    close_to(kernels, name, pred);
    npy_free(&latents);
    conditioning_close(&c);
}

static void check_unet(struct odd *g, const char *kernels)
{
    if (tolerance == TOLERANCE_16)
        tolerance = UNET_16;
    check_unet_size(g, kernels, 13, 9);
    check_unet_size(g, kernels, 6, 8);
}

static void unet_agrees(void **state)
{
    (void)state;
    for_each_set(check_unet);
}

enum { DRAWS = 64, DRAW = ROWS * 4 * 8 * 6 };

/* Predictions of DRAWS times ROWS drawn latents of 6x8. */
static void predict_drawn(struct odd *g, float *ret)
{
    struct conditioning c;
    struct unet_row rows[ROWS];
    struct dr_error err = { 0 };
    struct dr_rng rng;
    float *latents = floats(DRAW);
    conditioning_open(&c, g);
    dr_rng_seed(&rng, DR_RNG_CPU, 1);
    for (int i = 0; i < DRAWS; i++, ret += DRAW) {
        dr_rng_normal(&rng, latents, DRAW);
        rows_of(rows, &c, latents, ret, DRAW / ROWS);
        must(unet_forward(g->unet, &g->x, rows, ROWS, 8, 6, &err), &err);
    }
    conditioning_close(&c);
    dr_free(latents);
}

static void check_drawn(struct odd *g, const char *kernels)
{
    struct odd plain;
    float *got = floats(DRAWS * DRAW), *want = floats(DRAWS * DRAW);
    double sum = 0;
    if (tolerance == TOLERANCE_16) {
        odd_must(&plain, ODD_CPU, "scalar", 2);
        predict_drawn(&plain, want);
        odd_close(&plain);
        predict_drawn(g, got);
        for (int i = 0; i < DRAWS; i++)
            sum += test_rel_l2(got + i * DRAW, want + i * DRAW, DRAW);
        print_message("  %-8s mean of %d %.2e\n", kernels, DRAWS, sum / DRAWS);
        assert_true(sum / DRAWS <= UNET_MEAN_16);
    }
    dr_free(got);
    dr_free(want);
}

static void rounding_is_small_on_average(void **state)
{
    (void)state;
    for_each_set(check_drawn);
}

/* Three rows in one forward, then each alone: the same bits. */
static void check_rows(struct odd *g, const char *kernels)
{
    enum { SIZE = 4 * 5 * 7 };
    struct conditioning c;
    struct unet_row rows[ROWS];
    struct dr_error err = { 0 };
    struct npy latents = odd_vector("unet_13x9_latents");
    float *together = floats(ROWS * SIZE), *alone = floats(ROWS * SIZE);
    conditioning_open(&c, g);
    rows_of(rows, &c, latents.data, together, SIZE);
    must(unet_forward(g->unet, &g->x, rows, ROWS, 5, 7, &err), &err);
    rows_of(rows, &c, latents.data, alone, SIZE);
    for (int i = 0; i < ROWS; i++)
        must(unet_forward(g->unet, &g->x, &rows[i], 1, 5, 7, &err), &err);
    if (memcmp(together, alone, ROWS * SIZE * sizeof *alone))
        fail_msg("%s: a row's bits depend on its company", kernels);
    conditioning_close(&c);
    npy_free(&latents);
    dr_free(together);
    dr_free(alone);
}

static void rows_do_not_meet(void **state)
{
    (void)state;
    for_each_set(check_rows);
}

/* A text of zeros: as a text whose keys and values are as good as zero, and a text of its own among
 * others, with the bits that it has alone. */
static void check_zero_text(struct odd *g, const char *kernels)
{
    enum { SIZE = 4 * 5 * 7 };
    struct conditioning c;
    struct unet_row rows[ROWS];
    struct dr_error err = { 0 };
    struct npy latents = odd_vector("unet_13x9_latents");
    float *together = floats(ROWS * SIZE), *alone = floats(ROWS * SIZE), *full = floats(SIZE);
    float *text = floats(TEXT * ODD_CONTEXT);
    conditioning_open(&c, g);
    size_t bytes = unet_context_bytes(c.context[1]);
    rows_of(rows, &c, latents.data, together, SIZE);
    unet_context_free(c.context[1]);
    for (int zero = 0; zero < 2; zero++) {
        if (zero)
            unet_context_free(c.context[1]);
        text[TEXT * ODD_CONTEXT - 1] = zero ? 0 : 1e-20f;
        must(unet_context_new(g->unet, &g->x, text, TEXT, (float *)c.pooled.data + ODD_POOLED,
                              (float *)c.time_ids.data + ODD_IDS, &c.context[1], &err),
             &err);
        c.prompt[1] = unet_prompt(c.context[1]);
        rows[1].pred = zero ? together + SIZE : full;
        assert_int_equal(unet_context_bytes(c.context[1]) < bytes, zero);
        must(unet_forward(g->unet, &g->x, rows, ROWS, 5, 7, &err), &err);
    }
    double d = test_rel_l2(together + SIZE, full, SIZE);
    print_message("  %-8s a text of zeros is off by %.2e\n", kernels, d);
    assert_true(d <= 1e-6);
    for (int i = 0; i < ROWS; i++) {
        rows[i].pred = alone + i * SIZE;
        must(unet_forward(g->unet, &g->x, &rows[i], 1, 5, 7, &err), &err);
    }
    if (memcmp(together, alone, ROWS * SIZE * sizeof *alone))
        fail_msg("%s: a row's bits depend on its company", kernels);
    conditioning_close(&c);
    npy_free(&latents);
    dr_free(together);
    dr_free(alone);
    dr_free(full);
    dr_free(text);
}

static void a_text_of_zeros_is_not_attended(void **state)
{
    (void)state;
    for_each_set(check_zero_text);
}

/* ---- autoencoder ---- */

static void check_vae(struct odd *g, const char *kernels)
{
    struct dr_error err = { 0 };
    struct npy latents = odd_vector("vae_latents"), image = odd_vector("vae_encode_image");
    struct npy wide = odd_vector("vae_tiled_latents");
    float *decoded = floats(3 * 72 * 104), *moments = floats(8 * 6 * 9);
    float *tiled = floats(3 * 104 * 136);
    must(vae_decode(g->vae, &g->x, latents.data, 1, 9, 13, decoded, &err), &err);
    close_to(kernels, "vae_image", decoded);
    must(vae_encode(g->vae, &g->x, image.data, 1, 48, 72, moments, &err), &err);
    close_to(kernels, "vae_moments", moments);
    must(vae_manager_decode(g->vae, &g->x, (struct vae_tiling){ VAE_TILING_ON, 8 }, wide.data, 1,
                            13, 17, tiled, &err),
         &err);
    close_to(kernels, "vae_tiled_image", tiled);
    npy_free(&latents);
    npy_free(&image);
    npy_free(&wide);
}

static void autoencoder_agrees(void **state)
{
    (void)state;
    for_each_set(check_vae);
}

/* ---- rules ---- */

/* Everything once, small; results into out if it is there. */
enum { OUT = 2 * 20 * 40 + 2 * ODD_POOLED + ROWS * 4 * 3 * 5 + 3 * 24 * 40 };

static int run_unet(struct odd *g, const float *noise, float *out, struct dr_error *err)
{
    struct unet_context *context = NULL;
    struct unet_row rows[ROWS];
    int r = unet_context_new(g->unet, &g->x, noise, 11, noise, noise, &context, err);
    if (r)
        return r;
    const struct unet_conditioning prompt = unet_prompt(context);
    for (int i = 0; i < ROWS; i++)
        rows[i] = (struct unet_row){ noise + i, 100.0 * i, &prompt, out + i * 60, NULL };
    r = unet_forward(g->unet, &g->x, rows, ROWS, 3, 5, err);
    unet_context_free(context);
    return r;
}

static int run_all(struct odd *g, float *out, struct dr_error *err)
{
    static float noise[11 * ODD_CONTEXT + 3 * 32 * 40];
    int32_t ids[40];
    int r;
    uint32_t seed = 1;
    for (size_t i = 0; i < sizeof noise / sizeof *noise; i++)
        noise[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) / 8388608.0f - 1;
    for (int i = 0; i < 40; i++)
        ids[i] = i * 13 % 613;
    if ((r = clip_text_encode(g->clip[1], &g->x, ids, 2, 20, (struct clip_state){ .skip = 2 }, out,
                              out + 1600, err)) ||
        (r = clip_text_encode(g->clip[0], &g->x, ids, 1, 20, (struct clip_state){ .skip = 1 }, out,
                              NULL, err)) ||
        (r = run_unet(g, noise, out + 1600 + 2 * ODD_POOLED, err)) ||
        (r = vae_encode(g->vae, &g->x, noise, 1, 32, 40, out, err)))
        return r;
    return vae_decode(g->vae, &g->x, noise, 1, 3, 5, out + 1600 + 2 * ODD_POOLED + ROWS * 60, err);
}

static void threads_do_not_change_bits(void **state)
{
    (void)state;
    const char *name;
    bool usable;
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        float *first = floats(OUT), *out = floats(OUT);
        for (int threads = 1; threads <= 3 && usable; threads++) {
            struct odd g;
            struct dr_error err = { 0 };
            odd_must(&g, ODD_CPU, name, threads);
            must(run_all(&g, threads == 1 ? first : out, &err), &err);
            odd_close(&g);
            if (threads > 1 && memcmp(first, out, OUT * sizeof *out))
                fail_msg("%s: %d threads give other bits than one", name, threads);
        }
        dr_free(first);
        dr_free(out);
    }
}

static void a_plan_is_exact(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        struct odd real, plan;
        struct dr_error err = { 0 };
        float *out = floats(OUT);
        odd_must(&real, ODD_CPU, NULL, threads);
        odd_must(&plan, ODD_PLAN, NULL, threads);
        must(run_all(&real, out, &err), &err);
        must(run_all(&plan, out, &err), &err);
        assert_true(workspace_peak(real.ws) > 0);
        assert_int_equal(workspace_peak(plan.ws), workspace_peak(real.ws));
        assert_int_equal(workspace_used(plan.ws), 0);
        assert_int_equal(workspace_used(real.ws), 0);
        assert_true(backend_plan_totals(plan.be).flops > 1e6);
        odd_close(&plan);
        odd_close(&real);
        dr_free(out);
    }
}

static void networks_touch_no_buffer(void **state)
{
    (void)state;
    struct odd plain, guarded;
    struct dr_error err = { 0 };
    float *a = floats(OUT), *b = floats(OUT);
    odd_must(&plain, ODD_CPU, NULL, 2);
    odd_must(&guarded, ODD_GUARDED, NULL, 2);
    must(run_all(&plain, a, &err), &err);
    must(run_all(&guarded, b, &err), &err);
    assert_memory_equal(a, b, OUT * sizeof *a);
    odd_close(&guarded);
    odd_close(&plain);
    dr_free(a);
    dr_free(b);
}

static void a_stop_is_an_error(void **state)
{
    (void)state;
    struct odd g;
    struct dr_error err = { 0 };
    float *out = floats(OUT);
    odd_must(&g, ODD_CPU, NULL, 2);
    atomic_store(&g.stop, 1);
    assert_int_equal(run_all(&g, out, &err), DR_ECANCELED);
    atomic_store(&g.stop, 0);
    workspace_reset(g.ws);
    must(run_all(&g, out, &err), &err);
    odd_close(&g);
    dr_free(out);
}

static int build_and_run(void *ctx, struct dr_error *err)
{
    struct odd g;
    int r = odd_open(&g, ODD_CPU, NULL, 1, err);
    if (!r)
        r = run_all(&g, ctx, err);
    odd_close(&g);
    return r;
}

static void memory_runs_out(void **state)
{
    (void)state;
    float *out = floats(OUT);
    test_oom_walk(build_and_run, out);
    dr_free(out);
}

static void wrong_calls_are_errors(void **state)
{
    (void)state;
    struct odd g;
    struct dr_error err = { 0 };
    const struct clip_state last = { 1, false }, first = { 3, false }, deep = { 4, false };
    int32_t ids[3] = { 0, 613, 5 };
    float out[8 * 40];
    odd_must(&g, ODD_CPU, "scalar", 1);
    assert_int_equal(clip_text_encode(g.clip[0], &g.x, ids, 1, 3, last, out, NULL, &err),
                     DR_EINVAL);
    assert_non_null(strstr(err.text, "613"));
    ids[1] = -1;
    assert_int_equal(clip_text_encode(g.clip[0], &g.x, ids, 1, 3, last, out, NULL, &err),
                     DR_EINVAL);
    ids[1] = 612;
    assert_int_equal(clip_text_encode(g.clip[0], &g.x, ids, 1, 3, deep, out, NULL, &err),
                     DR_EINVAL);
    assert_int_equal(clip_text_encode(g.clip[0], &g.x, ids, 1, 78, last, out, NULL, &err),
                     DR_EINVAL);
    must(clip_text_encode(g.clip[0], &g.x, ids, 1, 3, first, out, NULL, &err), &err);
    struct unet_row row = { out, 1, NULL, out, NULL };
    assert_int_equal(unet_forward(g.unet, &g.x, &row, 1, 2, 2, &err), DR_EINVAL);
    assert_int_equal(unet_forward(g.unet, &g.x, &row, 0, 2, 2, &err), DR_EINVAL);
    struct unet_context *context = NULL;
    assert_int_equal(unet_context_new(g.unet, &g.x, out, 0, out, out, &context, &err), DR_EINVAL);
    assert_int_equal(unet_context_new(g.unet, &g.x, out, INT64_MAX, out, out, &context, &err),
                     DR_EINVAL);
    assert_int_equal(vae_encode(g.vae, &g.x, out, 1, 8, 12, out, &err), DR_EINVAL);
    assert_int_equal(vae_decode(g.vae, &g.x, out, 1, INT64_MAX / 2, 8, out, &err), DR_EINVAL);
    assert_int_equal(workspace_used(g.ws), 0);
    odd_close(&g);
}

static void impossible_architectures_are_errors(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct unet *u = NULL;
    struct odd m;
    odd_must(&m, ODD_PLAN, NULL, 1);
    const struct unet_arch odd_unet = *checkpoint_unet_arch(m.ckpt);
    struct unet_arch a = odd_unet;
    a.heads[2] = 3;
    assert_int_equal(unet_new(&a, &u, &err), DR_EINVAL);
    a = odd_unet;
    a.levels = ARCH_LEVELS + 1;
    assert_int_equal(unet_new(&a, &u, &err), DR_EINVAL);
    a = odd_unet;
    a.layers[1] = ARCH_LAYERS;
    assert_int_equal(unet_new(&a, &u, &err), DR_EINVAL);
    a = odd_unet;
    a.groups = 3;
    assert_int_equal(unet_new(&a, &u, &err), DR_EINVAL);
    struct vae *v = NULL;
    struct vae_arch b = *checkpoint_vae_arch(m.ckpt);
    b.channels[1] = 13;
    assert_int_equal(vae_new(&b, true, true, &v, &err), DR_EINVAL);
    struct clip_text *t = NULL;
    struct clip_arch c = *checkpoint_clip_arch(m.ckpt, 0);
    c.heads = 5;
    assert_int_equal(clip_text_new(&c, &t, &err), DR_EINVAL);
    c = *checkpoint_clip_arch(m.ckpt, 0);
    c.act = ARCH_SILU;
    assert_int_equal(clip_text_new(&c, &t, &err), DR_EUNSUPPORTED);
    odd_close(&m);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(text_encoders_agree),
    cmocka_unit_test(pooled_at_the_first_end_token),
    cmocka_unit_test(unet_agrees),
    cmocka_unit_test(rounding_is_small_on_average),
    cmocka_unit_test(rows_do_not_meet),
    cmocka_unit_test(a_text_of_zeros_is_not_attended),
    cmocka_unit_test(autoencoder_agrees),
    cmocka_unit_test(threads_do_not_change_bits),
    cmocka_unit_test(a_plan_is_exact),
    cmocka_unit_test(networks_touch_no_buffer),
    cmocka_unit_test(a_stop_is_an_error),
    cmocka_unit_test(memory_runs_out),
    cmocka_unit_test(wrong_calls_are_errors),
    cmocka_unit_test(impossible_architectures_are_errors),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
