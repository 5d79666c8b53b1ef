/* test_models_planned.c - networks that are counted and planned, not run: SDXL's at full size,
 * small variants, and the size from which pictures are decoded in tiles. */
#include "testing/helpers/odd_model.h"

#include <stdio.h>
#include <string.h>

#include "models/arch_sdxl.h"
#include "models/vae_manager.h"
#include "testing/helpers/model_access.h"

static void must(int r, const struct dr_error *err)
{
    if (r)
        fail_msg("%s", err->text);
}

static int bind_nothing(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    (void)ctx;
    (void)name;
    p->src = (struct weight_source){ .name = "none", .dtype = DTYPE_F16, .shape = *shape };
    return 0;
}

/* A UNet without a middle, without added conditioning, of one level: built, counted, planned. */
static void small_variants_run(void **state)
{
    (void)state;
    struct odd g;
    struct dr_error err = { 0 };
    struct unet *u;
    odd_must(&g, ODD_PLAN, "scalar", 1);
    struct unet_arch a = *checkpoint_unet_arch(g.ckpt);
    a.levels = 2;
    a.mid = false;
    a.addition_time_dim = 0;
    must(unet_new(&a, &u, &err), &err);
    must(unet_visit(u, &(struct visitor){ .param = bind_nothing }), &err);
    must(params_prepare(u, unet_visit, g.be, NULL, &err), &err);
    struct unet_context *context;
    must(unet_context_new(u, &g.x, NULL, 5, NULL, NULL, &context, &err), &err);
    const struct unet_conditioning prompt = unet_prompt(context);
    struct unet_row row = { NULL, 3, &prompt, NULL, NULL };
    must(unet_forward(u, &g.x, &row, 1, 1, 1, &err), &err);
    must(unet_forward(u, &g.x, &row, 1, 9, 1, &err), &err);
    assert_int_equal(workspace_used(g.ws), 0);
    unet_context_free(context);
    unet_free(u);
    odd_close(&g);
}

static void parameter_counts_of_sdxl(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct clip_text *t;
    struct unet *u;
    struct vae *v;
    must(unet_new(&arch_sdxl_unet, &u, &err), &err);
    assert_int_equal(params_count(u, unet_visit), 2567463684);
    unet_free(u);
    must(vae_new(&arch_sdxl_vae, true, true, &v, &err), &err);
    assert_int_equal(params_count(v, vae_visit), 83653863);
    vae_free(v);
    must(clip_text_new(&arch_sdxl_text[0], &t, &err), &err);
    assert_int_equal(params_count(t, clip_text_visit), 123060480);
    clip_text_free(t);
    must(clip_text_new(&arch_sdxl_text[1], &t, &err), &err);
    assert_int_equal(params_count(t, clip_text_visit), 694659840);
    clip_text_free(t);
}

/* What a 1024x1024 picture needs, by the plan backend. */
static void memory_at_full_size(void **state)
{
    (void)state;
    struct odd g;
    struct dr_error err = { 0 };
    struct unet *u;
    struct vae *v;
    odd_must(&g, ODD_PLAN, NULL, 2);
    must(unet_new(&arch_sdxl_unet, &u, &err), &err);
    must(vae_new(&arch_sdxl_vae, false, true, &v, &err), &err);
    must(unet_visit(u, &(struct visitor){ .param = bind_nothing }), &err);
    must(vae_visit(v, &(struct visitor){ .param = bind_nothing }), &err);
    must(params_prepare(u, unet_visit, g.be, NULL, &err), &err);
    must(params_prepare(v, vae_visit, g.be, NULL, &err), &err);
    struct unet_context *context;
    must(unet_context_new(u, &g.x, NULL, 77, NULL, NULL, &context, &err), &err);
    const struct unet_conditioning prompt = unet_prompt(context);
    struct unet_row rows[2] = { { NULL, 1, &prompt, NULL, NULL },
                                { NULL, 1, &prompt, NULL, NULL } };
    workspace_reset(g.ws);
    backend_plan_reset(g.be);
    must(unet_forward(u, &g.x, rows, 2, 128, 128, &err), &err);
    print_message("  unet, 2 rows: %.2f GB, %.2f TFLOP, context %.1f MB\n",
                  (double)workspace_peak(g.ws) / 1e9, backend_plan_totals(g.be).flops / 1e12,
                  (double)unet_context_bytes(context) / 1e6);
    assert_true(workspace_peak(g.ws) < 1.2e9);
    workspace_reset(g.ws);
    backend_plan_reset(g.be);
    must(vae_decode(v, &g.x, NULL, 1, 128, 128, NULL, &err), &err);
    print_message("  decode: %.2f GB, %.2f TFLOP\n", (double)workspace_peak(g.ws) / 1e9,
                  backend_plan_totals(g.be).flops / 1e12);
    assert_true(workspace_peak(g.ws) < 3.2e9);
    assert_int_equal(workspace_used(g.ws), 0);
    unet_context_free(context);
    unet_free(u);
    vae_free(v);
    odd_close(&g);
}

static void tiling_is_decided_by_size(void **state)
{
    (void)state;
    struct vae *v;
    struct dr_error err = { 0 };
    must(vae_new(&arch_sdxl_vae, false, true, &v, &err), &err);
    const struct vae_tiling automatic = { 0 }, on = { VAE_TILING_ON, 64 };
    assert_int_equal(vae_tiling_effective(automatic, v, 128, 256).mode, VAE_TILING_OFF);
    assert_int_equal(vae_tiling_effective(automatic, v, 129, 256).mode, VAE_TILING_ON);
    assert_int_equal(vae_tiling_effective(automatic, v, 129, 256).tile, VAE_TILE);
    assert_int_equal(vae_tiling_effective(on, v, 64, 64).mode, VAE_TILING_OFF);
    assert_int_equal(vae_tiling_effective(on, v, 64, 65).mode, VAE_TILING_ON);
    assert_int_equal(vae_manager_bytes(v, automatic, 128, 128), 0);
    assert_true(vae_manager_bytes(v, on, 128, 128) > 3 * 512 * 512 * 4);
    struct exec x = { 0 };
    assert_int_equal(vae_manager_decode(v, &x, (struct vae_tiling){ VAE_TILING_ON, 30 }, NULL, 1,
                                        99, 99, NULL, &err),
                     DR_EINVAL);
    vae_free(v);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(small_variants_run),
    cmocka_unit_test(parameter_counts_of_sdxl),
    cmocka_unit_test(memory_at_full_size),
    cmocka_unit_test(tiling_is_decided_by_size),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
