/* test_models_adapters.c - variants of a network's weights: the bits of a model whose files were
 * changed, in every kernel set and type of weights; and nothing of the base is touched. */
#include "models/adapters/weight_variant.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu/x86/emulated/sets.h"
#include "backend/ops/int8.h"
#include "testing/backends/packing.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/changed_model.h"

enum { H = 6, W = 8, ROWS = 2, N = ROWS * 4 * H * W, TOKENS = 7 };

struct result {
    float pred[N], hidden[TOKENS * ODD_WIDTH2], pooled[ODD_POOLED];
};

static void must(int r, const struct dr_error *err)
{
    if (r)
        fail_msg("%s", err->text);
}

/* A text of zeros and another one, in one forward. */
static void forward_unet(struct odd *m, const struct weight_variant *variant, float pred[N])
{
    struct dr_error err = { 0 };
    struct npy text = odd_vector("unet_text"), pooled = odd_vector("unet_pooled"),
               ids = odd_vector("unet_time_ids");
    struct unet_context *context[ROWS];
    struct unet_conditioning prompt[ROWS];
    struct unet_row rows[ROWS];
    struct exec x = m->x;
    float latent[ROWS][N / ROWS];
    float *zeros = dr_calloc(DR_TAG_TEST, (size_t)text.count, sizeof *zeros);
    assert_non_null(zeros);
    x.variant = variant;
    for (int i = 0; i < N; i++)
        latent[i * ROWS / N][i % (N / ROWS)] = (float)(i * 37 % 101) / 50 - 1;
    for (int i = 0; i < ROWS; i++) {
        must(unet_context_new(m->unet, &x, i ? text.data : zeros, text.shape[1], pooled.data,
                              ids.data, &context[i], &err),
             &err);
        prompt[i] = unet_prompt(context[i]);
        rows[i] = (struct unet_row){ latent[i], 300.0 + i, &prompt[i], pred + i * N / ROWS, NULL };
    }
    must(unet_forward(m->unet, &x, rows, ROWS, H, W, &err), &err);
    for (int i = 0; i < ROWS; i++)
        unet_context_free(context[i]);
    dr_free(zeros);
    npy_free(&text);
    npy_free(&pooled);
    npy_free(&ids);
}

static void encode(struct odd *m, const struct weight_variant *variant, struct result *ret)
{
    static const int32_t ids[TOKENS] = { 5, 17, 300, 2, 611, 612, 1 };
    struct dr_error err = { 0 };
    struct exec x = m->x;
    x.variant = variant;
    must(clip_text_encode(m->clip[1], &x, ids, 1, TOKENS, (struct clip_state){ .skip = 1 },
                          ret->hidden, ret->pooled, &err),
         &err);
}

/* The networks with these variants of theirs. */
static void run(struct odd *m, const struct weight_variant *unet, const struct weight_variant *clip,
                struct result *ret)
{
    memset(ret, 0, sizeof *ret);
    forward_unet(m, unet, ret->pred);
    encode(m, clip, ret);
}

static void must_equal(const struct result *a, const struct result *b, const char *what)
{
    if (memcmp(a, b, sizeof *a))
        fail_msg("%s: other bits", what);
}

static struct variant_spec unet_spec(struct odd *m, const struct changes *c)
{
    return (struct variant_spec){ .network = m->unet,
                                  .visit = unet_visit,
                                  .be = m->be,
                                  .deltas = c->list,
                                  .n = c->n,
                                  .stop = &m->stop };
}

static struct variant_spec clip_spec(struct odd *m, const struct changes *c)
{
    struct variant_spec s = unet_spec(m, c);
    s.network = m->clip[1];
    s.visit = clip_text_visit;
    return s;
}

static struct weight_variant *open_must(const struct variant_spec *spec)
{
    struct dr_error err = { 0 };
    struct weight_variant *v = NULL;
    must(weight_variant_open(spec, &v, &err), &err);
    return v;
}

/* Every kind of layer: one part of a fused one, filters, 1x1 filters, gates, float32 operands, up-
 * and downsampling, keys of the text, a bias, a norm; and one parameter twice. */
static void change_unet(struct odd *m, struct changes *c)
{
#define TRANSFORMER "down_blocks.1.attentions.0.transformer_blocks.0."
    static const char *const matrices[] = {
        TRANSFORMER "attn1.to_k.weight",
        TRANSFORMER "attn1.to_out.0.weight",
        TRANSFORMER "attn2.to_v.weight",
        TRANSFORMER "ff.net.0.proj.weight",
        TRANSFORMER "ff.net.2.weight",
        "down_blocks.1.resnets.0.conv1.weight",
        "down_blocks.1.resnets.0.conv_shortcut.weight",
        "down_blocks.0.downsamplers.0.conv.weight",
        "up_blocks.1.upsamplers.0.conv.weight",
        "time_embedding.linear_1.weight",
        "conv_in.weight",
    };
    static const char *const whole[] = { "mid_block.resnets.0.norm1.weight", "conv_out.bias",
                                         TRANSFORMER "ff.net.2.bias",
                                         "mid_block.resnets.0.conv2.weight" };
    c->n = 0;
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        changes_low_rank(c, m->unet, unet_visit, matrices[i], 1 + (int64_t)i % 4);
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        changes_difference(c, m->unet, unet_visit, whole[i]);
    struct weight_delta *again = changes_low_rank(c, m->unet, unet_visit, matrices[0], 4);
    again->alpha = 2;
    again->strength = -0.25;
}

static void change_clip(struct odd *m, struct changes *c)
{
    static const char *const matrices[] = { "text_model.embeddings.token_embedding.weight",
                                            "text_model.encoder.layers.1.self_attn.q_proj.weight",
                                            "text_model.encoder.layers.2.mlp.fc1.weight",
                                            "text_projection.weight" };
    c->n = 0;
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        changes_low_rank(c, m->clip[1], clip_text_visit, matrices[i], 3);
    changes_difference(c, m->clip[1], clip_text_visit,
                       "text_model.encoder.layers.0.self_attn.v_proj.bias");
}

static struct dr_alloc_stats stats(enum dr_tag tag)
{
    return dr_alloc_stats(tag);
}

/* Opened, closed and opened again, with the base's bits before, while and after. */
static void check_base_and_variant(struct odd *m, const struct changes *unet,
                                   const struct changes *clip, const struct result *changed,
                                   const char *what)
{
    static struct result base, now;
    run(m, NULL, NULL, &base);
    assert_true(test_rel_l2(changed->pred, base.pred, N) > 1e-3);
    assert_true(test_rel_l2(changed->hidden, base.hidden, TOKENS * ODD_WIDTH2) > 1e-3);
    for (int round = 0; round < 2; round++) {
        struct variant_spec of_unet = unet_spec(m, unet), of_clip = clip_spec(m, clip);
        struct dr_alloc_stats values = stats(DR_TAG_WEIGHTS), handles = stats(DR_TAG_MODEL);
        struct weight_variant *u = open_must(&of_unet), *t = open_must(&of_clip);
        const struct variant_facts *a = weight_variant_facts(u), *b = weight_variant_facts(t);
        assert_int_equal(stats(DR_TAG_WEIGHTS).bytes, values.bytes + a->bytes + b->bytes);
        /* a handle a layer and the backend's own part of it, the list of them, the variant */
        assert_int_equal(stats(DR_TAG_MODEL).blocks,
                         handles.blocks + 2 * (a->layers + b->layers) + 4);
        run(m, NULL, NULL, &now);
        must_equal(&now, &base, "the base beside its variant");
        run(m, u, t, &now);
        must_equal(&now, changed, what);
        weight_variant_close(u);
        weight_variant_close(t);
        assert_int_equal(stats(DR_TAG_WEIGHTS).bytes, values.bytes);
        assert_int_equal(stats(DR_TAG_MODEL).blocks, handles.blocks);
        run(m, NULL, NULL, &now);
        must_equal(&now, &base, "the base after its variant");
    }
}

static void check_set(const char *set, enum dtype type, int threads)
{
    static struct result changed;
    struct changes unet, clip;
    struct dr_error err = { 0 };
    struct odd golden, base, other;
    char what[96];
    snprintf(what, sizeof what, "%s, weights of %s", set, dtype_name(type));
    must(odd_open(&golden, ODD_CPU, "scalar", 1, &err), &err);
    const char *path = changed_model(&golden, type, NULL, NULL);
    must(odd_open_at(&base, path, ODD_CPU, set, threads, &err), &err);
    change_unet(&base, &unet);
    change_clip(&base, &clip);
    path = changed_model(&base, DTYPE_COUNT, &unet, &clip);
    must(odd_open_at(&other, path, ODD_CPU, set, 2, &err), &err);
    run(&other, NULL, NULL, &changed);
    check_base_and_variant(&base, &unet, &clip, &changed, what);
    changes_free(&unet);
    changes_free(&clip);
    odd_close(&other);
    odd_close(&base);
    odd_close(&golden);
}

static void check_type(enum dtype type)
{
    const char *name;
    bool usable;
    int sets = 0;
    packing_set_add();
    emulated_sets_add();
    uint64_t blocks = test_blocks();
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        if (!usable)
            continue;
        check_set(name, type, 1 + sets++ % 2);
        assert_int_equal(test_blocks(), blocks);
    }
    assert_true(sets >= 2); /* scalar, and scalar with packed weights */
}

static void a_variant_has_the_bits_of_changed_files(void **state)
{
    (void)state;
    check_type(DTYPE_F32);
}

static void also_of_float16(void **state)
{
    (void)state;
    check_type(DTYPE_F16);
}

static void also_of_bfloat16(void **state)
{
    (void)state;
    check_type(DTYPE_BF16);
}

static void also_of_int8(void **state)
{
    (void)state;
    check_type(DTYPE_I8);
}

/* Why a touched layer of 8-bit weights is not rounded to 8 bits again. */
static void a_change_of_less_than_a_step_of_int8_is_not_lost(void **state)
{
    (void)state;
    enum { COLS = 28 };
    struct odd golden, m;
    struct dr_error err = { 0 };
    static struct result base, now;
    struct changes c = { .n = 0 };
    const char *name = "mid_block.attentions.0.proj_in.weight";
    must(odd_open(&golden, ODD_CPU, "scalar", 1, &err), &err);
    must(odd_open_at(&m, changed_model(&golden, DTYPE_I8, NULL, NULL), ODD_CPU, "scalar", 2, &err),
         &err);
    struct weight_source s = find_param(m.unet, unet_visit, name, NULL);
    assert_int_equal(s.dtype, DTYPE_I8);
    struct weight_delta *d = changes_difference(&c, m.unet, unet_visit, name);
    d->strength = 0x1p-10;
    const float *difference = d->tensor[DIFFERENCE].data;
    for (int64_t i = 0; i < s.shape.d[0]; i++) {
        float row[COLS], scale;
        int8_t numbers[COLS];
        weight_row(&s, i, 0, COLS, row);
        for (int k = 0; k < COLS; k++)
            row[k] += 0x1p-10f * difference[i * COLS + k];
        int8_weight_row(row, COLS, numbers, &scale);
        assert_memory_equal(numbers, (const int8_t *)s.data + i * COLS, COLS);
    }
    struct variant_spec spec = unet_spec(&m, &c);
    struct weight_variant *v = open_must(&spec);
    forward_unet(&m, NULL, base.pred);
    forward_unet(&m, v, now.pred);
    assert_true(memcmp(base.pred, now.pred, sizeof now.pred));
    weight_variant_close(v);
    changes_free(&c);
    odd_close(&m);
    odd_close(&golden);
}

/* ---- sets of deltas ---- */

static void variants_live_side_by_side_and_order_does_not_matter(void **state)
{
    (void)state;
    static struct result alone[2], now;
    struct changes c[2] = { { .n = 0 }, { .n = 0 } };
    struct odd m;
    struct weight_variant *v[2];
    odd_must(&m, ODD_CPU, NULL, 2);
    change_unet(&m, &c[0]);
    changes_low_rank(&c[1], m.unet, unet_visit, "conv_in.weight", 2);
    changes_difference(&c[1], m.unet, unet_visit, "conv_in.weight");
    changes_difference(&c[1], m.unet, unet_visit, "conv_in.weight")->strength = 0.3;
    struct variant_spec specs[2] = { unet_spec(&m, &c[0]), unet_spec(&m, &c[1]) };
    for (int i = 0; i < 2; i++) {
        v[i] = open_must(&specs[i]);
        forward_unet(&m, v[i], alone[i].pred);
        weight_variant_close(v[i]);
    }
    for (int i = 0; i < 2; i++)
        v[i] = open_must(&specs[i]);
    for (int i = 0; i < 4; i++) {
        forward_unet(&m, v[i % 2], now.pred);
        assert_memory_equal(now.pred, alone[i % 2].pred, sizeof now.pred);
    }
    assert_memory_not_equal(weight_variant_facts(v[0])->key, weight_variant_facts(v[1])->key,
                            SHA256_BYTES);
    for (int k = 0; k < 2; k++) { /* the same sets from behind */
        const struct weight_delta *back[CHANGES];
        for (size_t i = 0; i < c[k].n; i++)
            back[i] = c[k].list[c[k].n - 1 - i];
        specs[k].deltas = back;
        struct weight_variant *other = open_must(&specs[k]);
        assert_memory_equal(weight_variant_facts(other)->key, weight_variant_facts(v[k])->key,
                            SHA256_BYTES);
        forward_unet(&m, other, now.pred);
        assert_memory_equal(now.pred, alone[k].pred, sizeof now.pred);
        weight_variant_close(other);
    }
    for (int i = 0; i < 2; i++) {
        weight_variant_close(v[i]);
        changes_free(&c[i]);
    }
    odd_close(&m);
}

static void keys_name_what_is_added(void **state)
{
    (void)state;
    struct odd m;
    struct dr_error err = { 0 };
    struct changes c = { .n = 0 };
    struct variant_facts first, other;
    struct weight_variant *v = (void *)&c;
    odd_must(&m, ODD_CPU, "scalar", 1);
    struct weight_delta *d = changes_low_rank(&c, m.unet, unet_visit, "conv_in.weight", 2);
    struct variant_spec spec = unet_spec(&m, &c);
    must(weight_variant_check(&spec, &first, &err), &err);
    for (int change = 0; change < 4; change++) {
        struct weight_delta kept = *d;
        if (change == 0)
            d->strength = 0.25;
        else if (change == 1)
            d->alpha = 1;
        else if (change == 2)
            d->identity[31] ^= 1;
        else
            d->param = "down_blocks.0.resnets.0.conv1.weight";
        int r = weight_variant_check(&spec, &other, &err);
        assert_int_equal(r, change == 3 ? DR_EINVAL : 0); /* of other channels */
        assert_memory_not_equal(first.key, other.key, SHA256_BYTES);
        *d = kept;
    }
    /* what has no strength is not there */
    changes_difference(&c, m.unet, unet_visit, "conv_in.bias")->strength = 0;
    spec.n = 2;
    must(weight_variant_check(&spec, &other, &err), &err);
    assert_memory_equal(first.key, other.key, SHA256_BYTES);
    assert_int_equal(other.layers, 1);
    d->strength = 0;
    must(weight_variant_open(&spec, &v, &err), &err);
    assert_null(v);
    spec.n = 0;
    must(weight_variant_open(&spec, &v, &err), &err);
    assert_null(v);
    changes_free(&c);
    odd_close(&m);
}

/* ---- what is refused ---- */

static void must_refuse(const struct variant_spec *spec, const char *path, const char *got,
                        const char *expected)
{
    struct dr_error err = { 0 };
    struct weight_variant *v;
    uint64_t blocks = test_blocks();
    assert_int_equal(weight_variant_open(spec, &v, &err), DR_EINVAL);
    if (strcmp(err.path, path) || strcmp(err.got, got) || strcmp(err.expected, expected))
        fail_msg("%s: got '%s', expected '%s'", err.path, err.got, err.expected);
    assert_int_equal(test_blocks(), blocks);
}

static void deltas_that_do_not_fit_are_named(void **state)
{
    (void)state;
    struct odd m;
    struct changes c = { .n = 0 };
    odd_must(&m, ODD_CPU, "scalar", 1);
    changes_difference(&c, m.unet, unet_visit, "conv_in.bias");
    struct weight_delta *d = changes_low_rank(&c, m.unet, unet_visit, "conv_in.weight", 2), good;
    struct variant_spec spec = unet_spec(&m, &c);
    good = *d;
    d->param = "conv_inn.weight";
    must_refuse(&spec, "conv_inn.weight", "an adapter for it", "a parameter of the network");
    d->param = "conv_in.bias";
    must_refuse(&spec, "conv_in.bias", "[12]", "a matrix or filters, for this change");
    *d = good;
    d->tensor[LOW_RANK_UP].shape.d[0] = 13;
    must_refuse(&spec, "an up matrix", "[13, 2]", "[12, 2]");
    *d = good;
    d->tensor[LOW_RANK_UP].shape.d[1] = 0;
    must_refuse(&spec, "an up matrix", "rank 0", "1 to 48");
    *d = good;
    d->tensor[LOW_RANK_UP].shape.d[1] = 1000000;
    must_refuse(&spec, "an up matrix", "rank 1000000", "1 to 48");
    *d = good;
    d->tensor[LOW_RANK_DOWN].shape = SHAPE4(2, 4, 1, 1);
    must_refuse(&spec, "a down matrix", "[2, 4, 1, 1]", "[2, 4, 3, 3]");
    d->tensor[LOW_RANK_DOWN].shape = SHAPE4(3, 4, 3, 3);
    must_refuse(&spec, "a down matrix", "[3, 4, 3, 3]", "[2, 4, 3, 3]");
    *d = good;
    d->tensor[LOW_RANK_DOWN].dtype = DTYPE_I8;
    must_refuse(&spec, "a down matrix", "I8", "a floating-point tensor");
    *d = good;
    d->tensor[LOW_RANK_UP] = (struct weight_source){ .name = "nothing" };
    must_refuse(&spec, "nothing", "[]", "[12, 1]");
    *d = good;
    d->strength = 1e308 * 10;
    must_refuse(&spec, "conv_in.weight", "a strength or alpha that is not finite", "a number");
    *d = good;
    c.delta[0].tensor[DIFFERENCE].shape = SHAPE2(12, 2);
    must_refuse(&spec, "a difference", "[12, 2]", "[12]");
    changes_free(&c);
    odd_close(&m);
}

static void networks_refuse_variants_of_others(void **state)
{
    (void)state;
    struct odd m;
    struct changes c = { .n = 0 };
    struct dr_error err = { 0 };
    float latent[4 * H * W] = { 0 }, pred[4 * H * W], text[ODD_CONTEXT] = { 1 },
                         pooled[ODD_POOLED] = { 0 }, ids[ODD_IDS] = { 0 }, hidden[ODD_WIDTH1];
    struct unet_context *context, *of_variant;
    int32_t id = 3;
    odd_must(&m, ODD_CPU, "scalar", 1);
    changes_low_rank(&c, m.unet, unet_visit, "conv_in.weight", 2);
    struct variant_spec spec = unet_spec(&m, &c);
    struct weight_variant *v = open_must(&spec);
    struct exec x = m.x;
    must(unet_context_new(m.unet, &x, text, 1, pooled, ids, &context, &err), &err);
    x.variant = v;
    must(unet_context_new(m.unet, &x, text, 1, pooled, ids, &of_variant, &err), &err);
    struct unet_conditioning prompt = unet_prompt(context);
    struct unet_row row = { latent, 5, &prompt, pred, NULL };
    assert_int_equal(unet_forward(m.unet, &x, &row, 1, H, W, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "variant"));
    prompt = unet_prompt(of_variant);
    must(unet_forward(m.unet, &x, &row, 1, H, W, &err), &err);
    x.variant = NULL;
    assert_int_equal(unet_forward(m.unet, &x, &row, 1, H, W, &err), DR_EINVAL);
    x.variant = v;
    assert_int_equal(clip_text_encode(m.clip[0], &x, &id, 1, 1, (struct clip_state){ .skip = 1 },
                                      hidden, NULL, &err),
                     DR_EINVAL);
    assert_non_null(strstr(err.text, "of another network"));
    struct odd second;
    odd_must(&second, ODD_CPU, "scalar", 1);
    x.be = second.be;
    x.ws = second.ws;
    assert_int_equal(unet_forward(second.unet, &x, &row, 1, H, W, &err), DR_EINVAL);
    assert_int_equal(unet_context_new(second.unet, &x, text, 1, pooled, ids, &context, &err),
                     DR_EINVAL);
    odd_close(&second);
    unet_context_free(of_variant);
    unet_context_free(context);
    weight_variant_close(v);
    changes_free(&c);
    odd_close(&m);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_variant_has_the_bits_of_changed_files),
        cmocka_unit_test(also_of_float16),
        cmocka_unit_test(also_of_bfloat16),
        cmocka_unit_test(also_of_int8),
        cmocka_unit_test(a_change_of_less_than_a_step_of_int8_is_not_lost),
        cmocka_unit_test(variants_live_side_by_side_and_order_does_not_matter),
        cmocka_unit_test(keys_name_what_is_added),
        cmocka_unit_test(deltas_that_do_not_fit_are_named),
        cmocka_unit_test(networks_refuse_variants_of_others),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
