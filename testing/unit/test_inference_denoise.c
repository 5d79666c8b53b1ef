/* test_inference_denoise.c - pictures in flight: the bits of each do not depend on what shares its
 * forwards, when it joins, whether it was saved and loaded, or who else fails or leaves. */
#include "inference/denoise.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "inference/batch_manager.h"
#include "inference/guiders/guiders.h"
#include "models/adapters/weight_variant.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/scheduler_manager.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/changed_model.h"
#include "testing/helpers/sched_access.h"

enum { H = 6, W = 8, C = 4, N = C * H * W, CONTEXTS = 3 };

/* Sanitizers, under which kernels are slow, see a sample of the cases. */
#ifdef DR_SANITIZED
enum { EVERY = 4 };
#else
enum { EVERY = 1 };
#endif

static const uint8_t identity[SHA256_BYTES] = { 7 }, other_identity[SHA256_BYTES] = { 8 };

struct fixture {
    struct odd m;
    struct unet_context *context[CONTEXTS]; /* zeros, and two texts */
    struct unet_conditioning conditioning[CONTEXTS];
};

/* With the weights that f->m.x has. */
static void make_contexts(struct fixture *f)
{
    struct dr_error err = { 0 };
    struct npy text = odd_vector("unet_text"), pooled = odd_vector("unet_pooled"),
               ids = odd_vector("unet_time_ids");
    float *values = dr_calloc(DR_TAG_TEST, (size_t)text.count, sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < CONTEXTS; i++) {
        for (int64_t k = 0; k < text.count; k++)
            values[k] = (float)i * ((float *)text.data)[i == 2 ? text.count - 1 - k : k];
        if (unet_context_new(f->m.unet, &f->m.x, values, text.shape[1], pooled.data, ids.data,
                             &f->context[i], &err))
            fail_msg("%s", err.text);
        f->conditioning[i] = unet_prompt(f->context[i]);
    }
    dr_free(values);
    npy_free(&text);
    npy_free(&pooled);
    npy_free(&ids);
}

static void free_contexts(struct fixture *f)
{
    for (int i = 0; i < CONTEXTS; i++)
        unet_context_free(f->context[i]);
}

static void open_fixture(struct fixture *f)
{
    odd_must(&f->m, ODD_CPU, NULL, 2);
    make_contexts(f);
}

static void close_fixture(struct fixture *f)
{
    free_contexts(f);
    odd_close(&f->m);
}

/* What one picture is; configure() makes the rest of it. */
struct wanted {
    const char *sampler;
    int steps, positive; /* context */
    double scale;
    uint64_t seed;
    bool guided; /* by guiders too */
    struct guiders guiders;
    struct sched_config config;
    struct denoise_phase phase;
};

static struct wanted want(const char *sampler, int steps, int positive, double scale, uint64_t seed)
{
    return (struct wanted){
        .sampler = sampler, .steps = steps, .positive = positive, .scale = scale, .seed = seed
    };
}

/* One with a state, one that leaves the unconditional row of the last steps out. */
static void read_guiders(struct guiders *ret)
{
    struct request q;
    request_init(&q);
    assert_int_equal(request_set_text(&q, FIELD_guidance, "apg,momentum=0.7", NULL), 0);
    assert_int_equal(request_set_text(&q, FIELD_guidance, "interval,end=0.7", NULL), 0);
    assert_int_equal(guiders_read(&q, ret, NULL), 0);
    request_free(&q);
}

static void configure(struct fixture *f, struct wanted *w)
{
    struct dr_error err = { 0 };
    struct sched_request request = { .sampler = w->sampler, .steps = w->steps };
    if (sched_configure_text(NULL, 0, &request, &w->config, &err))
        fail_msg("%s: %s", w->sampler, err.text);
    w->guiders.n = 0;
    if (w->guided)
        read_guiders(&w->guiders);
    w->phase = (struct denoise_phase){ .unet = f->m.unet,
                                       .guidance = { .scale = w->scale,
                                                     .rescale = 0.3,
                                                     .uncond = sched_wants_uncond(&w->config),
                                                     .guiders = w->guided ? &w->guiders : NULL,
                                                     .negative = &f->conditioning[0],
                                                     .positive = &f->conditioning[w->positive] } };
}

static struct denoise *open_picture(const struct wanted *w)
{
    struct dr_error err = { 0 };
    struct denoise *d;
    struct denoise_spec spec = { .sched = &w->config,
                                 .channels = C,
                                 .h = H,
                                 .w = W,
                                 .rng = DR_RNG_CPU,
                                 .seed = w->seed,
                                 .phases = &w->phase,
                                 .n_phases = 1 };
    if (denoise_open(&spec, &d, &err))
        fail_msg("%s: %s", w->sampler, err.text);
    return d;
}

/* One evaluation by hand, without a batch; false at the end. */
static bool step_alone(struct fixture *f, struct denoise *d)
{
    struct dr_error err = { 0 };
    struct unet_row rows[4];
    int n = denoise_rows(d, rows);
    if (!n)
        return false;
    struct exec x = f->m.x;
    x.variant = denoise_variant(d);
    for (int i = 0; i < n; i++)
        if (unet_forward(denoise_unet(d), &x, rows + i, 1, H, W, &err))
            fail_msg("%s", err.text);
    if (denoise_combine(d, &err) || denoise_advance(d, &err))
        fail_msg("%s", err.text);
    return true;
}

/* Returns the evaluations that it took. */
static int draw_alone(struct fixture *f, const struct wanted *w, float latents[N])
{
    struct denoise *d = open_picture(w);
    int evaluations = 0;
    while (step_alone(f, d))
        evaluations++;
    if (denoise_evaluations(d)) /* else open */
        assert_int_equal(evaluations, denoise_evaluations(d));
    memcpy(latents, denoise_latents(d), N * sizeof *latents);
    denoise_close(d);
    return evaluations;
}

static void must_equal(const struct denoise *d, const float latents[N], const char *what)
{
    if (memcmp(denoise_latents((struct denoise *)d), latents, N * sizeof *latents))
        fail_msg("%s: other bits", what);
}

static int step(struct fixture *f, struct batch *b)
{
    struct dr_error err = { 0 };
    struct denoise *failed;
    int stepped;
    if (batch_step(b, &f->m.x, NULL, &stepped, &failed, &err))
        fail_msg("%s", err.text);
    return stepped;
}

/* ---- sharing forwards ---- */

static void pictures_share_forwards_without_a_trace(void **state)
{
    (void)state;
    enum { PICTURES = 7 };
    static const int joins[PICTURES] = {
        0, 2, 3, 1, 0, 2, 1
    }; /* that step; the last is cancelled */
    struct wanted w[PICTURES] = { want("euler_a", 5, 1, 6, 1),
                                  want("dpmpp_2m", 7, 2, 1, 2),
                                  want("heun", 4, 1, 2.5, 3),
                                  want("dpmpp_sde,r=0.3", 4, 2, 3, 5),
                                  want("dpm_adaptive,rtol=0.4,atol=0.1,h_init=1.5", 4, 1, 1, 6),
                                  want("euler_cfg_pp", 5, 2, 0.6, 7),
                                  want("ddim", 9, 2, 4, 4) };
    static float alone[PICTURES][N];
    struct fixture f;
    int last = 0; /* evaluation of the one that takes longest */
    w[2].guided = w[5].guided = w[6].guided = true;
    open_fixture(&f);
    for (int i = 0; i < PICTURES; i++) {
        configure(&f, &w[i]);
        int end = joins[i] + draw_alone(&f, &w[i], alone[i]);
        last = i < PICTURES - 1 && end > last ? end : last;
    }
    static const int most[] = { 1, 2, 3, 5, 64 };
    for (size_t k = 0; k < sizeof most / sizeof *most; k += EVERY) {
        struct denoise *d[PICTURES] = { NULL };
        struct batch *b;
        int steps = 0, stepped;
        assert_int_equal(batch_new(most[k], &b, NULL), 0);
        do {
            for (int i = 0; i < PICTURES; i++)
                if (joins[i] == steps) {
                    d[i] = open_picture(&w[i]);
                    assert_int_equal(batch_add(b, d[i], NULL), 0);
                }
            if (steps == 5)
                batch_remove(b, d[PICTURES - 1]);
            stepped = step(&f, b);
            steps++;
        } while (stepped);
        assert_true(last >= 10);
        assert_int_equal(steps - 1, last);
        for (int i = 0; i < PICTURES - 1; i++)
            must_equal(d[i], alone[i], w[i].sampler);
        while (step_alone(&f, d[PICTURES - 1])) {} /* goes on from where it left */
        must_equal(d[PICTURES - 1], alone[PICTURES - 1], "the one that left");
        for (int i = 0; i < PICTURES; i++)
            denoise_close(d[i]);
        batch_free(b);
    }
    close_fixture(&f);
}

static void only_the_picture_that_fails_leaves(void **state)
{
    (void)state;
    struct wanted w[2] = { want("euler", 3, 1, 2, 1), want("euler", 3, 2, 2, 2) };
    static float alone[N];
    struct fixture f;
    struct batch *b;
    struct dr_error err = { 0 };
    struct denoise *d[2], *failed;
    int stepped;
    open_fixture(&f);
    for (int i = 0; i < 2; i++)
        configure(&f, &w[i]);
    draw_alone(&f, &w[1], alone);
    assert_int_equal(batch_new(8, &b, NULL), 0);
    for (int i = 0; i < 2; i++) {
        d[i] = open_picture(&w[i]);
        assert_int_equal(batch_add(b, d[i], NULL), 0);
    }
    step(&f, b);
    denoise_latents(d[0])[3] = NAN;
    assert_int_equal(batch_step(b, &f.m.x, NULL, &stepped, &failed, &err), DR_EFORMAT);
    assert_non_null(strstr(err.text, "not finite at evaluation 1"));
    assert_ptr_equal(failed, d[0]);
    assert_int_equal(stepped, 0);
    while (step(&f, b)) {}
    must_equal(d[1], alone, "the other one");
    /* a cancelled step leaves everything where it was */
    denoise_close(d[1]);
    d[1] = open_picture(&w[1]);
    assert_int_equal(batch_add(b, d[1], NULL), 0);
    step(&f, b);
    atomic_store(&f.m.stop, 1);
    assert_int_equal(batch_step(b, &f.m.x, NULL, &stepped, &failed, &err), DR_ECANCELED);
    atomic_store(&f.m.stop, 0);
    assert_null(failed);
    while (step(&f, b)) {}
    must_equal(d[1], alone, "after a cancelled step");
    for (int i = 0; i < 2; i++)
        denoise_close(d[i]);
    batch_free(b);
    close_fixture(&f);
}

static int stops_at_the_fifth_op(struct exec *x, const struct op *op, struct dr_error *err)
{
    int *ops = x->watcher;
    (void)op;
    return ++*ops == 5 ? dr_fail(err, DR_ECANCELED, "stopped") : 0;
}

static void a_stop_within_a_forward_leaves_no_memory_taken(void **state)
{
    (void)state;
    struct wanted w = want("euler", 3, 1, 2, 1);
    static float alone[N];
    struct fixture f;
    struct batch *b;
    struct dr_error err = { 0 };
    struct denoise *d, *failed;
    int stepped, ops = 0;
    open_fixture(&f);
    configure(&f, &w);
    draw_alone(&f, &w, alone);
    assert_int_equal(batch_new(8, &b, NULL), 0);
    d = open_picture(&w);
    assert_int_equal(batch_add(b, d, NULL), 0);
    struct exec watched = f.m.x;
    watched.watch = stops_at_the_fifth_op;
    watched.watcher = &ops;
    assert_int_equal(batch_step(b, &watched, NULL, &stepped, &failed, &err), DR_ECANCELED);
    assert_int_equal(ops, 5);
    assert_null(failed);
    assert_int_equal(workspace_used(f.m.x.ws), 0);
    while (step(&f, b)) {}
    must_equal(d, alone, "after a stop within a forward");
    denoise_close(d);
    batch_free(b);
    close_fixture(&f);
}

/* Predictions that no step size suits, in place of the model's. */
struct unsteady {
    struct denoise *picture[2];
    int n;
    struct dr_rng rng;
};

static int no_forward(void *ctx, bool *skip_forward, struct dr_error *err)
{
    (void)ctx;
    (void)err;
    *skip_forward = true;
    return 0;
}

static int random_pred(void *ctx, struct dr_error *err)
{
    struct unsteady *u = ctx;
    (void)err;
    for (int i = 0; i < u->n; i++)
        dr_rng_normal(&u->rng, denoise_pred(u->picture[i]), N);
    return 0;
}

static void a_sampler_that_does_not_end_leaves_alone(void **state)
{
    (void)state;
    struct wanted w = want("dpm_adaptive,rtol=1e-5,atol=1e-5,eta=0", 10, 1, 2, 1);
    struct fixture f;
    struct batch *b;
    struct dr_error err = { 0 };
    struct unsteady u = { .n = 1 };
    struct denoise *failed;
    static char before[1 << 16], after[1 << 16];
    int stepped, code = 0, steps = 0;
    open_fixture(&f);
    configure(&f, &w);
    dr_rng_seed(&u.rng, DR_RNG_CPU, 1);
    struct batch_hooks hooks = { .input = no_forward, .pred = random_pred, .ctx = &u };
    assert_int_equal(batch_new(8, &b, NULL), 0);
    for (int i = 0; i < 2; i++)
        u.picture[i] = open_picture(&w);
    size_t size = denoise_state_size(u.picture[1]);
    assert_true(size <= sizeof before);
    assert_int_equal(batch_add(b, u.picture[0], NULL), 0);
    while (!code) {
        if (++steps == 10) { /* the other one joins late */
            assert_int_equal(batch_add(b, u.picture[1], NULL), 0);
            u.n = 2;
        }
        if (steps >= 10)
            assert_int_equal(denoise_save(u.picture[1], identity, before, NULL), 0);
        code = batch_step(b, &f.m.x, &hooks, &stepped, &failed, &err);
        assert_true(steps <= SCHED_MAX_OPEN);
    }
    assert_int_equal(code, DR_ELIMIT);
    assert_int_equal(steps, SCHED_MAX_OPEN);
    assert_ptr_equal(failed, u.picture[0]);
    assert_int_equal(denoise_save(u.picture[1], identity, after, NULL), 0);
    assert_memory_not_equal(before, after, size);
    assert_int_equal(batch_step(b, &f.m.x, &hooks, &stepped, &failed, &err), 0);
    assert_int_equal(stepped, 1);
    for (int i = 0; i < 2; i++)
        denoise_close(u.picture[i]);
    batch_free(b);
    close_fixture(&f);
}

static void steps_that_shrink_to_nothing_are_an_error(void **state)
{
    (void)state;
    static const char *const samplers[] = { "dpm_adaptive,pcoeff=-2",
                                            "dpm_adaptive,icoeff=0,pcoeff=-1",
                                            "dpm_adaptive,dcoeff=-2" };
    struct fixture f;
    open_fixture(&f);
    for (size_t i = 0; i < sizeof samplers / sizeof *samplers; i++) {
        struct wanted w = want(samplers[i], 10, 1, 2, 1);
        struct dr_error err = { 0 };
        struct unsteady u = { .n = 1 };
        struct denoise *failed;
        struct batch *b;
        int stepped, code = 0;
        configure(&f, &w);
        dr_rng_seed(&u.rng, DR_RNG_CPU, i);
        struct batch_hooks hooks = { .input = no_forward, .pred = random_pred, .ctx = &u };
        u.picture[0] = open_picture(&w);
        assert_int_equal(batch_new(2, &b, NULL), 0);
        assert_int_equal(batch_add(b, u.picture[0], NULL), 0);
        do {
            code = batch_step(b, &f.m.x, &hooks, &stepped, &failed, &err);
        } while (!code && stepped);
        if (code != DR_EINVAL || !strstr(err.text, "too short to count"))
            fail_msg("%s: %d: %s", samplers[i], code, err.text);
        assert_ptr_equal(failed, u.picture[0]);
        denoise_close(u.picture[0]);
        batch_free(b);
    }
    close_fixture(&f);
}

/* ---- the unconditional prediction ---- */

/* CFG++ by its formula, x' = D + sigma' (x - D_u) / sigma, from the rows as the UNet gives them: at
 * scales where guidance is off for other samplers too. */
static void the_unconditional_prediction_reaches_the_sampler(void **state)
{
    (void)state;
    static const double scales[] = { 0, 0.6, 1, 3 };
    struct fixture f;
    open_fixture(&f);
    for (size_t k = 0; k < sizeof scales / sizeof *scales; k++) {
        struct wanted w = want("euler_cfg_pp", 3, 1, scales[k], 11);
        struct dr_error err = { 0 };
        struct unet_row rows[2];
        static float before[N], expected[N];
        struct sched *s;
        configure(&f, &w);
        w.phase.guidance.rescale = 0;
        assert_int_equal(sched_new(&w.config, N, &s, &err), 0);
        double sigma = sched_sigmas(s)[0], next = sched_sigmas(s)[1];
        sched_free(s);
        struct denoise *d = open_picture(&w);
        assert_int_equal(denoise_rows(d, rows), 2);
        assert_int_equal(unet_forward(denoise_unet(d), &f.m.x, rows, 2, H, W, &err), 0);
        memcpy(before, denoise_latents(d), sizeof before);
        for (int i = 0; i < N; i++) {
            double without = rows[0].pred[i], with = rows[1].pred[i];
            double guided = without + scales[k] * (with - without);
            expected[i] = (float)(before[i] - sigma * guided + next * without);
        }
        assert_int_equal(denoise_combine(d, &err), 0);
        assert_int_equal(denoise_advance(d, &err), 0);
        assert_true(test_rel_l2(denoise_latents(d), expected, N) < 1e-6);
        denoise_close(d);
    }
    close_fixture(&f);
}

/* ---- phases ---- */

static void a_phase_holds_from_its_evaluation_on(void **state)
{
    (void)state;
    struct wanted first = want("dpmpp_2m", 6, 1, 3, 9), second = want("dpmpp_2m", 6, 2, 1, 9);
    struct fixture f;
    struct dr_error err = { 0 };
    struct unet_row rows[2];
    static uint8_t block[1 << 16];
    open_fixture(&f);
    configure(&f, &first);
    configure(&f, &second);
    struct denoise_phase phases[] = { first.phase, second.phase };
    struct denoise_spec spec = { .sched = &first.config, .channels = C, .h = H, .w = W };
    spec.seed = first.seed;
    spec.phases = phases;
    spec.n_phases = 2;
    struct denoise *both, *one = open_picture(&first), *two = open_picture(&second);
    assert_int_equal(denoise_open(&spec, &both, &err), DR_EINVAL); /* both begin at 0 */
    phases[1].first = 4;
    assert_int_equal(denoise_open(&spec, &both, &err), 0);
    assert_int_equal(denoise_rows_most(both), 2);
    for (int i = 0; i < 4; i++)
        assert_true(step_alone(&f, one) && step_alone(&f, both));
    assert_int_equal(denoise_rows(both, rows), 1); /* not guided any more */
    assert_ptr_equal(rows[0].conditioning, &f.conditioning[2]);
    assert_true(denoise_state_size(one) <= sizeof block);
    assert_int_equal(denoise_save(one, identity, block, &err), 0);
    assert_int_equal(denoise_load(two, identity, block, denoise_state_size(one), &err), 0);
    while (step_alone(&f, two)) {}
    while (step_alone(&f, both)) {}
    must_equal(both, denoise_latents(two), "two phases");
    denoise_close(one);
    denoise_close(two);
    denoise_close(both);
    close_fixture(&f);
}

/* ---- variants of the weights ---- */

enum { VARIANTS = 3 }; /* the base, and two */

/* Contexts are a variant's own, so each has a fixture that borrows the first one's model. */
static void open_variants(struct fixture f[VARIANTS], struct changes c[VARIANTS],
                          struct weight_variant *v[VARIANTS])
{
    struct dr_error err = { 0 };
    open_fixture(&f[0]);
    v[0] = NULL;
    c[0].n = 0;
    for (int i = 1; i < VARIANTS; i++) {
        f[i] = f[0];
        c[i].n = 0;
        changes_low_rank(&c[i], f[0].m.unet, unet_visit,
                         i == 1 ? "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight"
                                : "conv_in.weight",
                         2);
        struct variant_spec spec = { .network = f[0].m.unet,
                                     .visit = unet_visit,
                                     .be = f[0].m.be,
                                     .deltas = c[i].list,
                                     .n = c[i].n };
        if (weight_variant_open(&spec, &v[i], &err))
            fail_msg("%s", err.text);
        f[i].m.x.variant = v[i];
        make_contexts(&f[i]);
    }
}

static void close_variants(struct fixture f[VARIANTS], struct changes c[VARIANTS],
                           struct weight_variant *v[VARIANTS])
{
    for (int i = 1; i < VARIANTS; i++) {
        free_contexts(&f[i]);
        weight_variant_close(v[i]);
        changes_free(&c[i]);
    }
    close_fixture(&f[0]);
}

/* Two pictures of each variant, which share their forwards, and one that changes from one variant
 * to another half-way: each has the bits that it has alone. */
static void pictures_of_other_variants_go_apart(void **state)
{
    (void)state;
    enum { PICTURES = 2 * VARIANTS, ALL = PICTURES + 1, STEPS = 4 };
    static float alone[ALL][N];
    struct fixture f[VARIANTS];
    struct changes c[VARIANTS];
    struct weight_variant *v[VARIANTS];
    struct wanted w[PICTURES];
    struct denoise *d[ALL];
    struct dr_error err = { 0 };
    struct batch *b;
    open_variants(f, c, v);
    for (int i = 0; i < PICTURES; i++) {
        w[i] = want("euler", STEPS, 1 + i / VARIANTS, 3, 5); /* one seed: variants show */
        configure(&f[i % VARIANTS], &w[i]);
        w[i].phase.variant = v[i % VARIANTS];
        draw_alone(&f[0], &w[i], alone[i]);
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(alone[k], alone[i], sizeof alone[i]);
    }
    struct denoise_phase phases[] = { w[1].phase, w[2].phase };
    struct denoise_spec spec = { .sched = &w[0].config, .channels = C, .h = H, .w = W, .seed = 5 };
    phases[1].first = STEPS / 2;
    spec.phases = phases;
    spec.n_phases = 2;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(denoise_open(&spec, &d[PICTURES], &err), 0);
        if (round)
            break;
        while (step_alone(&f[0], d[PICTURES])) {}
        memcpy(alone[PICTURES], denoise_latents(d[PICTURES]), sizeof alone[0]);
        denoise_close(d[PICTURES]);
    }
    assert_memory_not_equal(alone[PICTURES], alone[1], sizeof alone[0]);
    assert_int_equal(batch_new(64, &b, NULL), 0);
    for (int i = 0; i < ALL; i++) {
        if (i < PICTURES)
            d[i] = open_picture(&w[i]);
        assert_int_equal(batch_add(b, d[i], NULL), 0);
    }
    while (step(&f[0], b)) {}
    for (int i = 0; i < ALL; i++) {
        must_equal(d[i], alone[i], i < PICTURES ? "a variant's picture" : "one of two variants");
        denoise_close(d[i]);
    }
    batch_free(b);
    close_variants(f, c, v);
}

/* ---- saved and loaded ---- */

/* In a fresh process: loads the block from standard input and draws to the end; the latents go to
 * standard output. argv: PROGRAM --finish SAMPLER STEPS POSITIVE SCALE SEED GUIDED */
static int finish(char **argv)
{
    static uint8_t block[1 << 16];
    struct fixture f;
    struct dr_error err = { 0 };
    struct wanted w = want(argv[2], (int)strtol(argv[3], NULL, 10), (int)strtol(argv[4], NULL, 10),
                           strtod(argv[5], NULL), strtoull(argv[6], NULL, 10));
    w.guided = !strcmp(argv[7], "guided");
    size_t size = fread(block, 1, sizeof block, stdin);
    open_fixture(&f);
    configure(&f, &w);
    struct denoise *d = open_picture(&w);
    if (denoise_load(d, identity, block, size, &err))
        return 1;
    while (step_alone(&f, d)) {}
    size_t n = fwrite(denoise_latents(d), sizeof(float), N, stdout);
    denoise_close(d);
    close_fixture(&f);
    return n != N;
}

/* This program once more, as finish(): nothing of this process is there. */
static void finish_elsewhere(const struct wanted *w, const void *block, size_t size,
                             float latents[N])
{
    char steps[16], positive[16], scale[32], seed[32], path[300];
    const char *guided = w->guided ? "guided" : "plain";
    int from_it[2], status;
    snprintf(path, sizeof path, "%s/block", test_dir());
    assert_int_equal(dr_write_file(path, block, size, NULL), 0);
    snprintf(steps, sizeof steps, "%d", w->steps);
    snprintf(positive, sizeof positive, "%d", w->positive);
    snprintf(scale, sizeof scale, "%.17g", w->scale);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)w->seed);
    assert_int_equal(pipe(from_it), 0);
    pid_t child = fork();
    if (!child) {
        int in = open(path, O_RDONLY);
        if (in >= 0 && dup2(in, 0) == 0 && dup2(from_it[1], 1) == 1)
            execl("/proc/self/exe", "finish", "--finish", w->sampler, steps, positive, scale, seed,
                  guided, (char *)NULL);
        _exit(127);
    }
    close(from_it[1]);
    size_t got = 0;
    ssize_t n;
    while (got < N * sizeof *latents &&
           (n = read(from_it[0], (char *)latents + got, N * sizeof *latents - got)) > 0)
        got += (size_t)n;
    close(from_it[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(got, N * sizeof *latents);
    assert_int_equal(unlink(path), 0);
}

/* Every sampler, saved before and after every evaluation. */
static void a_saved_picture_goes_on_elsewhere_with_the_same_bits(void **state)
{
    (void)state;
    static uint8_t block[1 << 16];
    static float alone[N], elsewhere[N];
    size_t n;
    const struct sched_info *const *all = sched_all(&n);
    for (size_t i = 0; i < n; i += EVERY) {
        char sampler[96]; /* few evaluations where their number is open */
        snprintf(sampler, sizeof sampler, "%s%s", all[i]->name,
                 all[i]->layout.next ? ",rtol=0.4,atol=0.1,h_init=1.5" : "");
        struct wanted w = want(sampler, 3, 1, 2, 77);
        struct fixture f;
        struct dr_error err = { 0 };
        w.guided = i % 3 == 0; /* euler, lms and others */
        open_fixture(&f);
        configure(&f, &w);
        draw_alone(&f, &w, alone);
        struct denoise *d = open_picture(&w);
        size_t size = denoise_state_size(d);
        assert_true(size <= sizeof block);
        bool more = true;
        for (int evaluation = 0; more; evaluation++) {
            assert_int_equal(denoise_save(d, identity, block, &err), 0);
            finish_elsewhere(&w, block, size, elsewhere);
            if (memcmp(elsewhere, alone, sizeof alone))
                fail_msg("%s: other bits when loaded at evaluation %d", all[i]->name, evaluation);
            more = step_alone(&f, d);
        }
        denoise_close(d);
        close_fixture(&f);
    }
}

static void must_refuse(struct denoise *d, const uint8_t *identity_of, const void *block,
                        size_t size, const float latents[N], const char *what)
{
    struct dr_error err = { 0 };
    if (denoise_load(d, identity_of, block, size, &err) != DR_EFORMAT || !*err.text)
        fail_msg("%s: accepted", what);
    must_equal(d, latents, what);
}

static void a_block_that_is_not_its_own_harms_nothing(void **state)
{
    (void)state;
    static uint8_t block[1 << 16], foreign[1 << 16];
    static float before[N];
    struct wanted w = want("euler_a", 4, 1, 2, 5);
    struct wanted others[] = { want("euler_a", 5, 1, 2, 5), want("euler_a", 4, 1, 2, 6),
                               want("euler", 4, 1, 2, 5) };
    struct fixture f;
    struct dr_error err = { 0 };
    open_fixture(&f);
    configure(&f, &w);
    struct denoise *d = open_picture(&w);
    size_t size = denoise_state_size(d);
    step_alone(&f, d);
    assert_int_equal(denoise_save(d, identity, block, &err), 0);
    step_alone(&f, d);
    memcpy(before, denoise_latents(d), sizeof before);
    must_refuse(d, other_identity, block, size, before, "another request's");
    for (size_t cut = 0; cut < size; cut += cut < 400 ? 1 : 97)
        must_refuse(d, identity, block, cut, before, "cut");
    must_refuse(d, identity, block, size + 1, before, "longer");
    for (size_t at = 0; at < size; at += at < 200 ? 1 : 53) {
        block[at] ^= (uint8_t)(1 << at % 8);
        must_refuse(d, identity, block, size, before, "flipped");
        block[at] ^= (uint8_t)(1 << at % 8);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        configure(&f, &others[i]);
        struct denoise *o = open_picture(&others[i]);
        assert_int_equal(denoise_save(o, identity, foreign, &err), 0);
        must_refuse(d, identity, foreign, denoise_state_size(o), before, "another picture's");
        denoise_close(o);
    }
    assert_int_equal(denoise_load(d, identity, block, size, &err), 0); /* unharmed, it loads */
    assert_int_equal(step_alone(&f, d), true);
    must_equal(d, before, "loaded and stepped again");
    denoise_close(d);
    close_fixture(&f);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_share_forwards_without_a_trace),
        cmocka_unit_test(only_the_picture_that_fails_leaves),
        cmocka_unit_test(a_stop_within_a_forward_leaves_no_memory_taken),
        cmocka_unit_test(a_sampler_that_does_not_end_leaves_alone),
        cmocka_unit_test(steps_that_shrink_to_nothing_are_an_error),
        cmocka_unit_test(the_unconditional_prediction_reaches_the_sampler),
        cmocka_unit_test(a_phase_holds_from_its_evaluation_on),
        cmocka_unit_test(pictures_of_other_variants_go_apart),
        cmocka_unit_test(a_saved_picture_goes_on_elsewhere_with_the_same_bits),
        cmocka_unit_test(a_block_that_is_not_its_own_harms_nothing),
    };
    if (argc == 8 && !strcmp(argv[1], "--finish"))
        return finish(argv);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
