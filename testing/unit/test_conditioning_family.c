/* test_conditioning_family.c - models that are no SDXL, through the code that is the same for all:
 * small ones in the image of Stable Diffusion 1.x (one encoder, last state through the final norm,
 * 8 heads at all levels, nothing added to the time embedding) and 2.x (one encoder of the OpenCLIP
 * kind, penultimate state through the final norm, heads of 64 channels). Nothing here has reference
 * vectors; what is asserted follows from the definitions. */
#include "testing/helpers/odd_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "conditioning/prompt_processor.h"
#include "models/family.h"
#include "models/formats/infer_arch.h"

enum { LEVELS = 2, WIDTH = 64, VOCAB = 50, TOKENS = 7, H = 6, W = 4, SIZE = 4 * H * W };
enum { PARAMS = 600 };

static void must(int r, const struct dr_error *err)
{
    if (r)
        fail_msg("%s", err->text);
}

/* ---- networks of made-up weights ---- */

struct made {
    float *values[PARAMS];
    int n;
    struct tensor_table *table; /* to enter them in; NULL: none */
    struct arena *texts;
};

static int make_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct made *m = ctx;
    struct dr_rng rng;
    struct dr_error err = { 0 };
    int64_t count = 0;
    assert_true(m->n < PARAMS && shape_count(shape, &count));
    float *v = dr_calloc(DR_TAG_TEST, (size_t)count, sizeof *v);
    assert_non_null(v);
    dr_rng_seed(&rng, DR_RNG_CPU, (uint64_t)m->n + 1);
    dr_rng_normal(&rng, v, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        v[i] /= (float)sqrt(shape->n > 1 ? (double)count / (double)shape->d[0] : 4);
    p->src = (struct weight_source){ .data = v, .dtype = DTYPE_F32, .shape = *shape };
    m->values[m->n++] = v;
    if (m->table)
        must(tensor_table_add(m->table, m->texts, name, &p->src, false, &err), &err);
    return 0;
}

static void made_release(struct made *m)
{
    for (int i = 0; i < m->n; i++)
        dr_free(m->values[i]);
    m->n = 0;
}

static struct unet_arch unet_of(int64_t heads)
{
    return (struct unet_arch){
        .in_channels = 4,
        .out_channels = 4,
        .levels = LEVELS,
        .channels = { 64, 128 },
        .layers = { 1, 1 },
        .depth = { { 1 }, { 1 } },
        .up_depth = { { 1, 1 }, { 1, 1 } },
        .mid = true,
        .mid_depth = 1,
        .mid_resnets = 2,
        .heads = { heads ? heads : 1, heads ? heads : 2 },
        .context = WIDTH,
        .time_dim = 256,
        .groups = 32,
        .eps = 1e-5,
        .flip_sin_to_cos = true,
    };
}

static struct clip_arch clip_of(const struct family *f)
{
    return (struct clip_arch){
        .vocab = VOCAB,
        .width = WIDTH,
        .layers = 3,
        .heads = 1,
        .mlp = 96,
        .positions = 77,
        .act = f->encoders[0].act,
        .eps = 1e-5,
        .bos_id = 49406,
        .eos_id = 2,
    };
}

/* ---- one family ---- */

/* Its networks, and what is inferred from the names and shapes of their tensors. */
struct subject {
    const struct family *family;
    struct odd *g;
    struct made unet_weights, clip_weights;
    struct unet *unet;
    struct clip_text *clip;
};

static void infer(struct subject *s, const struct unet_arch *unet, const struct clip_arch *clip)
{
    struct dr_error err = { 0 };
    struct tensor_table tables[2];
    struct arena texts;
    struct unet_arch inferred;
    struct clip_arch text;
    arena_init(&texts, DR_TAG_TEST, 1 << 16, 0);
    tensor_table_init(&tables[0], COMPONENT_UNET);
    tensor_table_init(&tables[1], COMPONENT_TEXT_ENCODER);
    s->unet_weights = (struct made){ .table = &tables[0], .texts = &texts };
    s->clip_weights = (struct made){ .table = &tables[1], .texts = &texts };
    must(unet_new(unet, &s->unet, &err), &err);
    must(clip_text_new(clip, &s->clip, &err), &err);
    must(unet_visit(s->unet, &(struct visitor){ .param = make_param, .ctx = &s->unet_weights }),
         &err);
    must(
        clip_text_visit(s->clip, &(struct visitor){ .param = make_param, .ctx = &s->clip_weights }),
        &err);
    for (int i = 0; i < 2; i++)
        must(tensor_table_sort(&tables[i], "made up", &err), &err);
    must(infer_unet(&tables[0], s->family, 0, "made up", &inferred, &err), &err);
    must(infer_clip(&tables[1], &s->family->encoders[0], "made up", &text, &err), &err);
    assert_memory_equal(inferred.heads, unet->heads, sizeof inferred.heads);
    assert_int_equal(inferred.context, WIDTH);
    assert_int_equal(inferred.addition_time_dim, 0);
    assert_int_equal(inferred.n_time_ids, 0);
    assert_int_equal(inferred.pooled, 0);
    assert_int_equal(inferred.sample_size, s->family->sample_size);
    assert_memory_equal(&text, clip, sizeof text);
    assert_int_equal(infer_unet(&tables[0], &family_sdxl, 0, "made up", &inferred, &err),
                     DR_EFORMAT); /* nothing is added to its time embedding */
    assert_non_null(strstr(err.text, "add_embedding"));
    for (int i = 0; i < 2; i++)
        tensor_table_free(&tables[i]);
    arena_free(&texts);
    must(params_prepare(s->unet, unet_visit, s->g->be, NULL, &err), &err);
    must(params_prepare(s->clip, clip_text_visit, s->g->be, NULL, &err), &err);
}

static void subject_open(struct subject *s, const struct family *f, struct odd *g)
{
    const struct unet_arch unet = unet_of(f->heads);
    const struct clip_arch clip = clip_of(f);
    memset(s, 0, sizeof *s);
    s->family = f;
    s->g = g;
    infer(s, &unet, &clip);
}

static void subject_close(struct subject *s)
{
    unet_free(s->unet);
    clip_text_free(s->clip);
    made_release(&s->unet_weights);
    made_release(&s->clip_weights);
}

static struct prompt_encoders encoders_of(const struct subject *s)
{
    const struct family_encoder *e = &s->family->encoders[0];
    return (struct prompt_encoders){ .encoder = { { .text = s->clip,
                                                    .pooled = e->pooled,
                                                    .layer = e->layer,
                                                    .final_norm = e->final_norm } },
                                     .chunk = TOKENS };
}

/* The text of ids 3, 4, 5 ... encoded as a pipeline does. */
static void encode(const struct subject *s, struct prompt_embeds *m)
{
    struct dr_error err = { 0 };
    const struct prompt_encoders e = encoders_of(s);
    *m = (struct prompt_embeds){
        .rows = 1,
        .chunks = { 1 },
        .chunk = TOKENS,
        .tokens = { TOKENS },
        .length = TOKENS,
        .width = WIDTH,
        .skip = { e.encoder[0].layer },
    };
    m->ids[0] = dr_calloc(DR_TAG_JOB, TOKENS, sizeof *m->ids[0]);
    m->text = dr_calloc(DR_TAG_JOB, TOKENS * WIDTH, sizeof *m->text);
    assert_true(m->ids[0] && m->text);
    for (int i = 0; i < TOKENS; i++)
        m->ids[0][i] = 3 + i;
    must(prompt_encode(&e, &s->g->x, m, &err), &err);
}

/* Mean 0 and deviation 1 of each token before scale and shift: a final norm was the last step, and
 * it is that of the layer that the family takes. */
static void check_states(const struct subject *s, const struct prompt_embeds *m)
{
    struct dr_error err = { 0 };
    const struct family_encoder *e = &s->family->encoders[0];
    float raw[TOKENS * WIDTH], other[TOKENS * WIDTH];
    const float *scale = s->clip_weights.values[s->clip_weights.n - 2];
    const float *shift = s->clip_weights.values[s->clip_weights.n - 1];
    must(clip_text_encode(s->clip, &s->g->x, m->ids[0], 1, TOKENS,
                          (struct clip_state){ .skip = e->layer }, raw, NULL, &err),
         &err);
    must(clip_text_encode(s->clip, &s->g->x, m->ids[0], 1, TOKENS,
                          (struct clip_state){ .skip = 3 - e->layer, .final_norm = true }, other,
                          NULL, &err),
         &err);
    for (int t = 0; t < TOKENS; t++) {
        double mean = 0, var = 0;
        for (int c = 0; c < WIDTH; c++)
            mean += raw[t * WIDTH + c] / (double)WIDTH;
        for (int c = 0; c < WIDTH; c++)
            var += (raw[t * WIDTH + c] - mean) * (raw[t * WIDTH + c] - mean) / WIDTH;
        for (int c = 0; c < WIDTH; c++) {
            double want = (raw[t * WIDTH + c] - mean) / sqrt(var + 1e-5) * scale[c] + shift[c];
            assert_true(fabs(m->text[t * WIDTH + c] - want) <= 1e-4);
        }
    }
    assert_true(test_rel_l2(other, m->text, TOKENS * WIDTH) > 1e-2);
}

static void check_prediction(const struct subject *s, const struct prompt_embeds *m)
{
    struct dr_error err = { 0 };
    struct unet_context *context;
    float latent[SIZE], pred[2][SIZE];
    for (int i = 0; i < SIZE; i++)
        latent[i] = (float)(i * 37 % 101) / 50 - 1;
    must(unet_context_new(s->unet, &s->g->x, m->text, m->length, NULL, NULL, &context, &err), &err);
    const struct unet_conditioning prompt = unet_prompt(context);
    for (int i = 0; i < 2; i++) {
        const struct unet_row row = { latent, 500 + 100 * i, &prompt, pred[i], NULL };
        must(unet_forward(s->unet, &s->g->x, &row, 1, H, W, &err), &err);
    }
    for (int i = 0; i < SIZE; i++)
        assert_true(isfinite(pred[0][i]));
    assert_true(test_rel_l2(pred[0], pred[1], SIZE) > 1e-4);
    unet_context_free(context);
    assert_int_equal(workspace_used(s->g->ws), 0);
}

static void check_family(const struct family *f)
{
    struct odd g;
    struct subject s;
    struct prompt_embeds m;
    odd_must(&g, ODD_CPU, "scalar", 1);
    subject_open(&s, f, &g);
    encode(&s, &m);
    check_states(&s, &m);
    check_prediction(&s, &m);
    prompt_release(&m);
    subject_close(&s);
    odd_close(&g);
}

static void one_like_stable_diffusion_1(void **state)
{
    (void)state;
    check_family(&family_sd1);
}

static void one_like_stable_diffusion_2(void **state)
{
    (void)state;
    check_family(&family_sd2);
}

/* ---- the table ---- */

static void members_and_roles(void **state)
{
    (void)state;
    assert_ptr_equal(family_of_pipeline("StableDiffusionXLImg2ImgPipeline"), &family_sdxl);
    assert_ptr_equal(family_of_pipeline("StableDiffusionPipeline"), &family_sd_folder);
    assert_null(family_of_pipeline("StableDiffusion3Pipeline"));
    assert_null(family_of_pipeline("StableDiffusionUpscalePipeline"));
    assert_ptr_equal(family_member(&family_sdxl, true), &family_sdxl);
    assert_ptr_equal(family_member(&family_sdxl, false), &family_sdxl_refiner);
    assert_ptr_equal(family_member(&family_sd1, false), &family_sd1);
    assert_int_equal(family_pooled(&family_sdxl)->component, COMPONENT_TEXT_ENCODER_2);
    assert_null(family_pooled(&family_sd2));
    assert_null(family_encoder(&family_sdxl_refiner, COMPONENT_TEXT_ENCODER));
    assert_ptr_equal(family_encoder(&family_sdxl, COMPONENT_TEXT_ENCODER_2),
                     &family_sdxl.encoders[1]);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(one_like_stable_diffusion_1),
    cmocka_unit_test(one_like_stable_diffusion_2),
    cmocka_unit_test(members_and_roles),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
