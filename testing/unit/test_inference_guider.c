/* test_inference_guider.c - a guidance of three rows a picture, through denoise and batch_manager:
 * nothing in them may count on two. The guider of this file takes the place of
 * inference/guidance.c, whose functions it defines; its formula is that of InstructPix2Pix (Brooks
 * et al. 2023, equation 3). */
#include "inference/guidance.h"

#include <stdio.h>
#include <string.h>

#include "inference/batch_manager.h"
#include "inference/denoise.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/scheduler_manager.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/odd_model.h"
#include "testing/helpers/sched_access.h"

enum { H = 6, W = 8, C = 4, N = C * H * W, ROWS = 3, PICTURES = 3 };

#define PARTIAL 1.5 /* the guidance scale of the second row */

static struct unet_context *context[ROWS]; /* neither, one, both of the conditions */
static struct unet_conditioning conditioning[ROWS];

/* ---- the guider ---- */

int guidance_rows(const struct guidance *g)
{
    (void)g;
    return ROWS;
}

bool guidance_negative(const struct guidance *g)
{
    (void)g;
    return true;
}

bool guidance_composes(const struct guidance *g)
{
    (void)g;
    return true;
}

int guidance_state(const struct guidance *g)
{
    (void)g;
    return 0;
}

int guidance_memory(const struct guidance *g)
{
    (void)g;
    return 0;
}

void guidance_advance(const struct guidance *g, size_t n, float *memory)
{
    (void)g;
    (void)n;
    (void)memory;
}

int guidance_expand(const struct guidance *g, const struct sched_ask *ask, float *predictions,
                    size_t n, struct unet_row *rows)
{
    const struct unet_conditioning *of[ROWS] = { g->negative, &conditioning[1], g->positive };
    for (int i = 0; i < ROWS; i++)
        rows[i] = (struct unet_row){ .latent = ask->x,
                                     .timestep = ask->timestep,
                                     .conditioning = of[i],
                                     .pred = predictions + (size_t)i * n };
    return ROWS;
}

const float *guidance_uncond(const struct guidance *g, const float *predictions)
{
    (void)g;
    return predictions;
}

void guidance_combine(const struct guidance *g, const struct guidance_at *at, float *pred)
{
    const float *none = at->predictions, *one = none + at->n, *both = one + at->n;
    for (size_t i = 0; i < at->n; i++)
        pred[i] = (float)(none[i] + PARTIAL * ((double)one[i] - none[i]) +
                          g->scale * ((double)both[i] - one[i]));
}

/* ---- pictures ---- */

static void make_contexts(struct odd *m)
{
    struct dr_error err = { 0 };
    struct npy text = odd_vector("unet_text"), pooled = odd_vector("unet_pooled"),
               ids = odd_vector("unet_time_ids");
    float *values = dr_calloc(DR_TAG_TEST, (size_t)text.count, sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < ROWS; i++) {
        for (int64_t k = 0; k < text.count; k++)
            values[k] = (float)i * ((float *)text.data)[i == 2 ? text.count - 1 - k : k];
        if (unet_context_new(m->unet, &m->x, values, text.shape[1], pooled.data, ids.data,
                             &context[i], &err))
            fail_msg("%s", err.text);
        conditioning[i] = unet_prompt(context[i]);
    }
    dr_free(values);
    npy_free(&text);
    npy_free(&pooled);
    npy_free(&ids);
}

static struct denoise *open_picture(const char *sampler, int steps, uint64_t seed,
                                    struct denoise_phase *phase)
{
    struct dr_error err = { 0 };
    struct denoise *d;
    struct sched_config config;
    struct sched_request request = { .sampler = sampler, .steps = steps };
    if (sched_configure_text(NULL, 0, &request, &config, &err))
        fail_msg("%s: %s", sampler, err.text);
    struct denoise_spec spec = { .sched = &config,
                                 .channels = C,
                                 .h = H,
                                 .w = W,
                                 .rng = DR_RNG_CPU,
                                 .seed = seed,
                                 .phases = phase,
                                 .n_phases = 1 };
    if (denoise_open(&spec, &d, &err))
        fail_msg("%s: %s", sampler, err.text);
    assert_int_equal(denoise_rows_most(d), ROWS);
    return d;
}

/* One picture by hand: each row in a forward of its own, and the formula from what they gave. */
static void draw_alone(struct odd *m, struct denoise *d, double scale, float latents[N])
{
    struct dr_error err = { 0 };
    struct unet_row rows[ROWS];
    static float given[ROWS][N];
    while (denoise_rows(d, rows)) {
        for (int i = 0; i < ROWS; i++) {
            assert_ptr_equal(rows[i].conditioning, &conditioning[i]);
            if (unet_forward(denoise_unet(d), &m->x, &rows[i], 1, H, W, &err))
                fail_msg("%s", err.text);
            memcpy(given[i], rows[i].pred, sizeof given[i]);
        }
        assert_memory_not_equal(given[1], given[2], sizeof given[1]);
        assert_int_equal(denoise_combine(d, &err), 0);
        for (int k = 0; k < N; k++) {
            double expected = given[0][k] + PARTIAL * ((double)given[1][k] - given[0][k]) +
                              scale * ((double)given[2][k] - given[1][k]);
            assert_true(denoise_pred(d)[k] == (float)expected);
        }
        assert_int_equal(denoise_advance(d, &err), 0);
    }
    memcpy(latents, denoise_latents(d), N * sizeof *latents);
}

/* Forwards of fewer rows than a picture has, of all of one, and across pictures. */
static void three_rows_share_forwards(void **state)
{
    (void)state;
    static const int most[] = { 1, 2, 3, 4, 5, 9, 64 };
    static const char *const samplers[PICTURES] = { "euler", "dpmpp_2m", "euler_a" };
    static float alone[PICTURES][N];
    struct denoise_phase phase[PICTURES];
    struct dr_error err = { 0 };
    struct odd m;
    odd_must(&m, ODD_CPU, NULL, 2);
    make_contexts(&m);
    for (int i = 0; i < PICTURES; i++) {
        phase[i] = (struct denoise_phase){ .unet = m.unet,
                                           .guidance = { .scale = 2 + i,
                                                         .negative = &conditioning[0],
                                                         .positive = &conditioning[2] } };
        struct denoise *d = open_picture(samplers[i], 3 + i, (uint64_t)i, &phase[i]);
        draw_alone(&m, d, 2 + i, alone[i]);
        denoise_close(d);
    }
    for (size_t k = 0; k < sizeof most / sizeof *most; k++) {
        struct denoise *d[PICTURES], *failed;
        struct batch *b;
        int stepped = 1;
        assert_int_equal(batch_new(most[k], &b, NULL), 0);
        for (int i = 0; i < PICTURES; i++) { /* each joins a step after the one before it */
            d[i] = open_picture(samplers[i], 3 + i, (uint64_t)i, &phase[i]);
            assert_int_equal(batch_add(b, d[i], NULL), 0);
            if (batch_step(b, &m.x, NULL, &stepped, &failed, &err))
                fail_msg("%s", err.text);
            assert_int_equal(stepped, i + 1);
        }
        while (stepped)
            if (batch_step(b, &m.x, NULL, &stepped, &failed, &err))
                fail_msg("%s", err.text);
        for (int i = 0; i < PICTURES; i++) {
            if (memcmp(denoise_latents(d[i]), alone[i], sizeof alone[i]))
                fail_msg("%d rows a forward: %s has other bits", most[k], samplers[i]);
            denoise_close(d[i]);
        }
        batch_free(b);
    }
    for (int i = 0; i < ROWS; i++)
        unet_context_free(context[i]);
    odd_close(&m);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(three_rows_share_forwards),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
