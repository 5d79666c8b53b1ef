/* test_models_lora_file.c - files of LoRAs: whose names are read, what is refused and how, and that
 * the model is left as it was. */
#include "models/adapters/lora_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fs.h"
#include "models/adapters/unet_blocks.h"
#include "models/adapters/weight_variant.h"
#include "testing/helpers/odd_model.h"
#include "testing/helpers/safetensors_writer.h"

struct bench {
    struct odd m;
    struct adapter_network networks[3];
    struct lora_model model;
};

static void bench_open(struct bench *b)
{
    odd_must(&b->m, ODD_CPU, "scalar", 1);
    b->networks[0] = (struct adapter_network){ COMPONENT_UNET, b->m.unet, unet_visit };
    b->networks[1] = (struct adapter_network){ COMPONENT_TEXT_ENCODER, b->m.clip[0],
                                               clip_text_visit };
    b->networks[2] = (struct adapter_network){ COMPONENT_TEXT_ENCODER_2, b->m.clip[1],
                                               clip_text_visit };
    b->model = (struct lora_model){ b->networks, 3, unet_arch(b->m.unet), false };
}

static const char *path_of(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    return path;
}

struct tensor {
    const char *name, *dtype, *shape;
};

static const char *write_file(const char *name, const struct tensor *list, size_t n)
{
    struct st_writer *w = st_writer_new();
    const char *path = path_of(name);
    for (size_t i = 0; i < n; i++)
        st_writer_add_text(w, list[i].name, list[i].dtype, list[i].shape);
    st_writer_save(w, path);
    st_writer_free(w);
    return path;
}

/* All shapes of the file against the networks, as a job checks them. */
static int check_shapes(struct bench *b, const struct lora_file *f, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < 3; i++) {
        const struct weight_delta *deltas, *list[64];
        size_t n = lora_file_deltas(f, b->networks[i].component, &deltas);
        assert_true(n <= 64);
        for (size_t k = 0; k < n; k++)
            list[k] = &deltas[k];
        struct variant_spec spec = { .network = b->networks[i].network,
                                     .visit = b->networks[i].visit,
                                     .be = b->m.be,
                                     .deltas = list,
                                     .n = n };
        struct variant_facts facts;
        r = weight_variant_check(&spec, &facts, err);
    }
    return r;
}

#define DOWN1 "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
#define SGM1 "input_blocks.4.1.transformer_blocks.0.attn1.to_q"
#define DOWN1_ "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
#define SGM1_ "input_blocks_4_1_transformer_blocks_0_attn1_to_q"
#define CLIP "text_model.encoder.layers.1.self_attn.q_proj"
#define CLIP_ "text_model_encoder_layers_1_self_attn_q_proj"

/* Spellings of one product, of `in` columns, and where it belongs. */
static const struct {
    const char *down, *up, *param;
    enum component component;
    int width;
} spellings[] = {
    { "lora_unet_" DOWN1_ ".lora_down.weight", "lora_unet_" DOWN1_ ".lora_up.weight",
      DOWN1 ".weight", COMPONENT_UNET, 20 },
    { "lora_unet_" SGM1_ ".lora_down.weight", "lora_unet_" SGM1_ ".lora_up.weight", DOWN1 ".weight",
      COMPONENT_UNET, 20 },
    { "lora_unet." DOWN1 ".lora_down.weight", "lora_unet." DOWN1 ".lora_up.weight", DOWN1 ".weight",
      COMPONENT_UNET, 20 },
    { "lycoris_" DOWN1_ ".lora_down.weight", "lycoris_" DOWN1_ ".lora_up.weight", DOWN1 ".weight",
      COMPONENT_UNET, 20 },
    { "unet." DOWN1 ".lora_A.weight", "unet." DOWN1 ".lora_B.weight", DOWN1 ".weight",
      COMPONENT_UNET, 20 },
    { "unet." DOWN1 ".lora_A.default.weight", "unet." DOWN1 ".lora_B.default.weight",
      DOWN1 ".weight", COMPONENT_UNET, 20 },
    { "base_model.model." DOWN1 ".lora_A.weight", "base_model.model." DOWN1 ".lora_B.weight",
      DOWN1 ".weight", COMPONENT_UNET, 20 },
    { DOWN1 ".lora.down.weight", DOWN1 ".lora.up.weight", DOWN1 ".weight", COMPONENT_UNET, 20 },
    { "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
      "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight",
      DOWN1 ".weight", COMPONENT_UNET, 20 },
    { "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down."
      "weight",
      "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight",
      "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.weight", COMPONENT_UNET, 20 },
    { "model.diffusion_model." SGM1 ".lora_down.weight",
      "model.diffusion_model." SGM1 ".lora_up.weight", DOWN1 ".weight", COMPONENT_UNET, 20 },
    { "lora_te1_" CLIP_ ".lora_down.weight", "lora_te1_" CLIP_ ".lora_up.weight", CLIP ".weight",
      COMPONENT_TEXT_ENCODER, ODD_WIDTH1 },
    { "lora_te_" CLIP_ ".lora_down.weight", "lora_te_" CLIP_ ".lora_up.weight", CLIP ".weight",
      COMPONENT_TEXT_ENCODER, ODD_WIDTH1 },
    { "lora_te2_" CLIP_ ".lora_down.weight", "lora_te2_" CLIP_ ".lora_up.weight", CLIP ".weight",
      COMPONENT_TEXT_ENCODER_2, ODD_WIDTH2 },
    { "lora_te2." CLIP ".lora_down.weight", "lora_te2." CLIP ".lora_up.weight", CLIP ".weight",
      COMPONENT_TEXT_ENCODER_2, ODD_WIDTH2 },
    { "text_encoder." CLIP ".lora_linear_layer.down.weight",
      "text_encoder." CLIP ".lora_linear_layer.up.weight", CLIP ".weight", COMPONENT_TEXT_ENCODER,
      ODD_WIDTH1 },
    { "text_encoder_2." CLIP ".lora_A.weight", "text_encoder_2." CLIP ".lora_B.weight",
      CLIP ".weight", COMPONENT_TEXT_ENCODER_2, ODD_WIDTH2 },
    { "text_encoder.text_model.encoder.layers.1.self_attn.to_q_lora.down.weight",
      "text_encoder.text_model.encoder.layers.1.self_attn.to_q_lora.up.weight", CLIP ".weight",
      COMPONENT_TEXT_ENCODER, ODD_WIDTH1 },
};

static void every_spelling_finds_its_layer(void **state)
{
    (void)state;
    struct bench b;
    uint64_t blocks = test_blocks();
    bench_open(&b);
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        char down[32], up[32];
        struct dr_error err = { 0 };
        struct lora_file *f;
        const struct weight_delta *d;
        snprintf(down, sizeof down, "3x%d", spellings[i].width);
        snprintf(up, sizeof up, "%dx3", spellings[i].width);
        const struct tensor list[] = { { spellings[i].down, "F32", down },
                                       { spellings[i].up, "F32", up } };
        const char *path = write_file("spelled.safetensors", list, 2);
        if (lora_file_open(NULL, path, &b.model, NULL, &f, &err))
            fail_msg("%s: %s", spellings[i].down, err.text);
        assert_int_equal(lora_file_deltas(f, spellings[i].component, &d), 1);
        assert_string_equal(d->param, spellings[i].param);
        assert_ptr_equal(d->kind, &delta_kind_low_rank);
        assert_string_equal(lora_file_warning(f), "");
        if (check_shapes(&b, f, &err))
            fail_msg("%s: %s", spellings[i].down, err.text);
        lora_file_close(f);
    }
    odd_close(&b.m);
    assert_int_equal(test_blocks(), blocks);
}

#define KEY "lora_unet_" DOWN1_
static const struct tensor up = { KEY ".lora_up.weight", "F32", "20x2" },
                           down = { KEY ".lora_down.weight", "F32", "2x20" };

/* What is refused: the tensors, and what the error says. */
static const struct {
    struct tensor list[5];
    int code;
    const char *says[3];
} refused[] = {
    { { { KEY ".lora_up.weight", "F32", "20x2" } },
      DR_EFORMAT,
      { "hostile.safetensors: " KEY ".lora_up.weight", "half of a change", "lora_down.weight" } },
    { { { KEY ".lora_down.weight", "F32", "2x20" } }, DR_EFORMAT, { "lora_up.weight" } },
    { { { KEY ".hada_w1_a", "F32", "20x2" },
        { KEY ".hada_w1_b", "F32", "2x20" },
        { KEY ".hada_w2_a", "F32", "20x2" } },
      DR_EFORMAT,
      { "hada_w2_b" } },
    { { { KEY ".lokr_w1", "F32", "4x4" }, { KEY ".lokr_w2_a", "F32", "5x2" } },
      DR_EFORMAT,
      { "lokr_w2_b" } },
    { { { KEY ".rescale", "F32", "20x1" } }, DR_EFORMAT, { "oft_blocks" } },
    { { { KEY ".lora_up.weight", "F32", "20x0" }, { KEY ".lora_down.weight", "F32", "0x20" } },
      DR_EFORMAT,
      { "lora_", "no values" } },
    { { { KEY ".lora_up.weight", "F32", "20x2" },
        { KEY ".lora_down.weight", "F32", "2x20" },
        { KEY ".alpha", "F32", "2" } },
      DR_EFORMAT,
      { KEY ".alpha", "several values" } },
    { { { KEY ".lora_up.weight", "I64", "20x2" }, { KEY ".lora_down.weight", "F32", "2x20" } },
      DR_EFORMAT,
      { KEY ".lora_up.weight", "I64" } },
    { { { KEY ".lora_up.weight", "F32", "20x2" },
        { KEY ".lora_down.weight", "F32", "2x20" },
        { "unet." DOWN1 ".lora_A.weight", "F32", "2x20" } },
      DR_EFORMAT,
      { "a second tensor for one place" } },
    { { { KEY ".lora_up.weight", "F32", "20x2" },
        { KEY ".lora_down.weight", "F32", "2x20" },
        { "unet." DOWN1 ".lora_down.weight", "F32", "2x20" } },
      DR_EFORMAT,
      { "a second tensor for one place" } },
    { { { KEY ".lora_up.weight", "F32", "20x2" },
        { KEY ".lora_down.weight", "F32", "2x20" },
        { KEY ".bias_values", "F32", "3" } },
      DR_EUNSUPPORTED,
      { KEY ".bias_values" } },
    { { { "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight",
          "F32", "2x768" },
        { "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight", "F32",
          "28x2" } },
      DR_EINVAL,
      { "hostile.safetensors", "768 wide (Stable Diffusion 1.x)", "68 wide" } },
    { { { "lora_unet_nothing_of_this.lora_up.weight", "F32", "20x2" } },
      DR_EINVAL,
      { "lora_unet_nothing_of_this", "nothing in the file fits" } },
    { { { "conv_in.weight", "F32", "12x4x3x3" } }, DR_EINVAL, { "nothing in the file fits" } },
};

static void hostile_files_are_named(void **state)
{
    (void)state;
    struct bench b;
    uint64_t blocks = test_blocks();
    bench_open(&b);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct dr_error err = { 0 };
        struct lora_file *f;
        size_t n = 0;
        while (n < 5 && refused[i].list[n].name)
            n++;
        const char *path = write_file("hostile.safetensors", refused[i].list, n);
        int r = lora_file_open(NULL, path, &b.model, NULL, &f, &err);
        if (r != refused[i].code)
            fail_msg("%zu: %d, %s", i, r, err.text);
        for (int k = 0; k < 3 && refused[i].says[k]; k++)
            if (!strstr(err.text, refused[i].says[k]))
                fail_msg("%zu: '%s' says nothing of '%s'", i, err.text, refused[i].says[k]);
    }
    odd_close(&b.m);
    assert_int_equal(test_blocks(), blocks);
}

/* Shapes are checked with the model: rank 10^6, other sizes. */
static void shapes_that_do_not_fit_are_named(void **state)
{
    (void)state;
    struct bench b;
    static const struct {
        struct tensor list[4];
        const char *path, *got;
    } bad[] = {
        { { { KEY ".lora_up.weight", "F32", "20x1000" },
            { KEY ".lora_down.weight", "F32", "1000x20" } },
          KEY ".lora_up.weight",
          "rank 1000" },
        { { { KEY ".lora_up.weight", "F32", "24x2" }, { KEY ".lora_down.weight", "F32", "2x20" } },
          KEY ".lora_up.weight",
          "[24, 2]" },
        { { { KEY ".lora_up.weight", "F32", "20x2" }, { KEY ".lora_down.weight", "F32", "3x20" } },
          KEY ".lora_down.weight",
          "[3, 20]" },
        { { { KEY ".lokr_w1", "F32", "4x4" }, { KEY ".lokr_w2", "F32", "5x4" } },
          KEY ".lokr_w2",
          "[5, 4]" },
        { { { KEY ".lokr_w1", "F32", "3x4" }, { KEY ".lokr_w2", "F32", "5x5" } },
          DOWN1 ".weight",
          "halves of [3, 4] and [5, ...]" },
        { { { KEY ".oft_blocks", "F32", "3x6x6" } }, KEY ".oft_blocks", "[3, 6, 6]" },
        { { { KEY ".oft_blocks", "F32", "2x10x3x3" } }, KEY ".oft_blocks", "[2, 10, 3, 3]" },
        { { { KEY ".on_input", "I64", "" }, { KEY ".weight", "F32", "19" } },
          KEY ".weight",
          "[19]" },
        { { { KEY ".diff", "F32", "20x19" } }, KEY ".diff", "[20, 19]" },
    };
    bench_open(&b);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dr_error err = { 0 };
        struct lora_file *f;
        size_t n = 0;
        while (n < 4 && bad[i].list[n].name)
            n++;
        const char *path = write_file("shapes.safetensors", bad[i].list, n);
        if (lora_file_open(NULL, path, &b.model, NULL, &f, &err))
            fail_msg("%zu: %s", i, err.text);
        int r = check_shapes(&b, f, &err);
        if (r != DR_EINVAL || strcmp(err.path, bad[i].path) || strcmp(err.got, bad[i].got))
            fail_msg("%zu: %d %s: %s", i, r, err.path, err.text);
        lora_file_close(f);
    }
    odd_close(&b.m);
}

static void values_that_are_not_finite_are_named(void **state)
{
    (void)state;
    static const int64_t wide[] = { 20, 2 }, tall[] = { 2, 20 };
    struct bench b;
    bench_open(&b);
    for (int i = 0; i < 3; i++) {
        struct dr_error err = { 0 };
        struct lora_file *f;
        float a[40] = { 0 }, c[40] = { 0 }, alpha = 1;
        float *hit[] = { &a[39], &c[0], &alpha };
        *hit[i] = i == 1 ? INFINITY : NAN;
        struct st_writer *w = st_writer_new();
        st_writer_add(w, KEY ".lora_up.weight", "F32", 2, wide, a);
        st_writer_add(w, KEY ".lora_down.weight", "F32", 2, tall, c);
        st_writer_add(w, KEY ".alpha", "F32", 0, NULL, &alpha);
        st_writer_save(w, path_of("nan.safetensors"));
        st_writer_free(w);
        int r = lora_file_open(NULL, path_of("nan.safetensors"), &b.model, NULL, &f, &err);
        if (r != DR_EFORMAT || !strstr(err.text, "not finite") ||
            !strstr(err.text, i == 0   ? "lora_up"
                              : i == 1 ? "lora_down"
                                       : "alpha"))
            fail_msg("%d: %d %s", i, r, err.text);
    }
    odd_close(&b.m);
}

static void what_is_not_used_is_counted(void **state)
{
    (void)state;
    struct bench b;
    struct dr_error err = { 0 };
    struct lora_file *f;
    const struct tensor list[] = { up,
                                   down,
                                   { "lora_unet_foo.lora_up.weight", "F32", "1" },
                                   { "lora_unet_foo.lora_down.weight", "F32", "1" },
                                   { "lora_te3_x.alpha", "F32", "" },
                                   { KEY ".diff_b", "F32", "20" }, /* it has no bias */
                                   { KEY ".something", "F32", "1" } };
    bench_open(&b);
    const char *path = write_file("unused.safetensors", list, 7);
    assert_int_equal(lora_file_open(NULL, path, &b.model, NULL, &f, &err), 0);
    const char *text = lora_file_warning(f);
    if (!strstr(text, "unused.safetensors: 5 of 7 tensors are not used") ||
        !strstr(text, "lora_te3_x.alpha") || !strstr(text, ", ..."))
        fail_msg("%s", text);
    lora_file_close(f);
    const struct tensor fits[] = { up, down };
    assert_int_equal(
        lora_file_open(NULL, write_file("fits.safetensors", fits, 2), &b.model, NULL, &f, &err), 0);
    assert_string_equal(lora_file_warning(f), "");
    assert_int_equal(strlen(lora_file_digest(f)), 64);
    lora_file_close(f);
    assert_int_equal(lora_file_open(NULL, path_of("none"), &b.model, NULL, &f, &err), DR_ENOENT);
    assert_int_equal(lora_file_open(NULL, test_dir(), &b.model, NULL, &f, &err), DR_EINVAL);
    odd_close(&b.m);
}

/* A copy cut at every hundred bytes is an error, never a crash. */
static void a_file_that_is_cut_is_refused(void **state)
{
    (void)state;
    struct bench b;
    struct dr_error err = { 0 };
    struct buf whole;
    struct lora_file *f;
    const struct tensor list[] = { up, down };
    bench_open(&b);
    buf_init(&whole, DR_TAG_TEST, 0);
    write_file("whole.safetensors", list, 2);
    assert_int_equal(dr_read_file(path_of("whole.safetensors"), 1 << 20, &whole, &err), 0);
    for (size_t n = 0; n < whole.len; n += n < 20 ? 5 : 37) {
        assert_int_equal(dr_write_file(path_of("cut.safetensors"), buf_text(&whole), n, &err), 0);
        assert_int_equal(lora_file_open(NULL, path_of("cut.safetensors"), &b.model, NULL, &f, &err),
                         DR_EFORMAT);
    }
    buf_free(&whole);
    odd_close(&b.m);
}

/* alpha of peft's configuration in the metadata. */
static void alpha_comes_from_tensors_or_metadata(void **state)
{
    (void)state;
    static const struct {
        const char *metadata;
        double alpha;
    } cases[] = {
        { "{\\\"unet.lora_alpha\\\": 8, \\\"unet.r\\\": 2}", 8 },
        { "{\\\"unet.lora_alpha\\\": 8, \\\"unet.alpha_pattern\\\": {\\\"attn1.to_q\\\": 3}}", 3 },
        { "{\\\"unet.lora_alpha\\\": 8, \\\"unet.alpha_pattern\\\": {\\\"ttn1.to_q\\\": 3}}", 8 },
        { "{\\\"unet.lora_alpha\\\": 8, \\\"unet.use_rslora\\\": true}", 8 * 1.4142135623730951 },
        { "{\\\"text_encoder.lora_alpha\\\": 8}", 0 },
    };
    struct bench b;
    struct dr_error err = { 0 };
    const struct weight_delta *d;
    struct lora_file *f;
    bench_open(&b);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct st_writer *w = st_writer_new();
        st_writer_add_text(w, "unet." DOWN1 ".lora_A.weight", "F32", "2x20");
        st_writer_add_text(w, "unet." DOWN1 ".lora_B.weight", "F32", "20x2");
        st_writer_metadata(w, "lora_adapter_metadata", cases[i].metadata);
        st_writer_save(w, path_of("peft.safetensors"));
        st_writer_free(w);
        if (lora_file_open(NULL, path_of("peft.safetensors"), &b.model, NULL, &f, &err))
            fail_msg("%s: %s", cases[i].metadata, err.text);
        assert_int_equal(lora_file_deltas(f, COMPONENT_UNET, &d), 1);
        if (fabs(d->alpha - cases[i].alpha) > 1e-12)
            fail_msg("%s: %g", cases[i].metadata, d->alpha);
        lora_file_close(f);
    }
    odd_close(&b.m);
}

static const struct unet_arch sd1 = { .levels = 4,
                                      .layers = { 2, 2, 2, 2 },
                                      .depth = { { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0 } },
                                      .up_depth = { { 1, 1, 1 }, { 1, 1, 1 }, { 1, 1, 1 }, { 0 } },
                                      .mid = true,
                                      .mid_depth = 1 };

/* The public models' blocks, by the numbers of their single files. */
static void blocks_have_the_numbers_of_single_files(void **state)
{
    (void)state;
    static const struct unet_arch sdxl = { .levels = 3,
                                           .layers = { 2, 2, 2 },
                                           .depth = { { 0 }, { 2, 2 }, { 10, 10 } },
                                           .up_depth = { { 0 }, { 2, 2, 2 }, { 10, 10, 10 } },
                                           .mid = true,
                                           .mid_depth = 10 };
    static const struct {
        const struct unet_arch *arch;
        const char *name, *single;
        int block;
    } names[] = {
        { &sdxl, "conv_in", "input_blocks.0.0", 1 },
        { &sdxl, "down_blocks.0.resnets.1.conv1", "input_blocks.2.0.in_layers.2", 3 },
        { &sdxl, "down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op", 4 },
        { &sdxl, "down_blocks.2.attentions.1.proj_in", "input_blocks.8.1.proj_in", 9 },
        { &sdxl, "mid_block.resnets.1.norm2", "middle_block.2.out_layers.0", 10 },
        { &sdxl, "up_blocks.0.attentions.0.norm", "output_blocks.0.1.norm", 11 },
        { &sdxl, "up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv", 13 },
        { &sdxl, "up_blocks.2.resnets.2.conv_shortcut", "output_blocks.8.0.skip_connection", 19 },
        { &sdxl, "time_embedding.linear_1", "time_embed.0", 0 },
        { &sd1, "down_blocks.2.downsamplers.0.conv", "input_blocks.9.0.op", 10 },
        { &sd1, "down_blocks.3.resnets.1.conv2", "input_blocks.11.0.out_layers.3", 12 },
        { &sd1, "up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv", 16 },
        { &sd1, "up_blocks.3.attentions.2.norm", "output_blocks.11.1.norm", 25 },
    };
    char single[200];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(unet_single_name(names[i].arch, names[i].name, single, sizeof single));
        assert_string_equal(single, names[i].single);
        assert_int_equal(unet_block_of(names[i].arch, names[i].name), names[i].block);
    }
    assert_int_equal(unet_block_count(&sdxl), 20);
    assert_int_equal(unet_block_count(&sd1), 26);
    double s[UNET_BLOCKS_MOST];
    struct dr_error err = { 0 };
    assert_int_equal(unet_block_strengths(&sdxl, "b", "9;1;2;3;4;5;6;7;8;10;11;12", s, &err), 0);
    assert_true(s[0] == 9 && s[5] == 1 && s[6] == 2 && s[8] == 3 && s[9] == 4 && s[10] == 5);
    assert_true(s[11] == 6 && s[16] == 12 && s[1] == 0 && s[4] == 0 && s[17] == 0);
    assert_int_equal(
        unet_block_strengths(&sd1, "b",
                             "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23 "
                             "24 -25",
                             s, &err),
        0);
    assert_true(s[25] == -25 && s[13] == 13);
    assert_int_equal(unet_block_strengths(&sd1, "b", "1;1;1;1;1;1;1;.5;1;1;1;1;1;1;1;1;1", s, &err),
                     0);
    assert_true(s[13] == 0.5 && s[1] == 0 && s[2] == 1);
    assert_int_equal(unet_block_strengths(&sdxl, "b", "outd", s, &err), 0);
    assert_true(s[0] == 1 && s[9] == 0 && s[10] == 0 && s[11] == 1 && s[19] == 0);
    static const char *const bad[] = {
        "", "1;2", "one", "1;;1", "0x1", "nan", "1;1;1;1;1;1;1;1;1;1;1;1e9"
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(unet_block_strengths(&sdxl, "b", bad[i], s, &err), DR_EINVAL);
        assert_non_null(strstr(err.text, "12 or 20 numbers"));
    }
}

/* The presets are the extension's lists, written out as it has them. */
static void presets_are_lists_of_17(void **state)
{
    (void)state;
    static const char *const lists[][2] = {
        { "none", "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0" },
        { "ALL", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1" },
        { "ins", "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0" },
        { "IND", "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0" },
        { "inall", "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0" },
        { "midd", "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0" },
        { "outd", "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0" },
        { "outs", "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1" },
        { "outall", "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1" },
        { "ALL0.5", ".5,.5,.5,.5,.5,.5,.5,.5,.5,.5,.5,.5,.5,.5,.5,.5,.5" },
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        double preset[UNET_BLOCKS_MOST] = { 0 }, list[UNET_BLOCKS_MOST] = { 0 };
        assert_int_equal(unet_block_strengths(&sd1, "b", lists[i][0], preset, NULL), 0);
        assert_int_equal(unet_block_strengths(&sd1, "b", lists[i][1], list, NULL), 0);
        assert_memory_equal(preset, list, sizeof list);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(presets_are_lists_of_17),
    cmocka_unit_test(every_spelling_finds_its_layer),
    cmocka_unit_test(hostile_files_are_named),
    cmocka_unit_test(shapes_that_do_not_fit_are_named),
    cmocka_unit_test(values_that_are_not_finite_are_named),
    cmocka_unit_test(what_is_not_used_is_counted),
    cmocka_unit_test(a_file_that_is_cut_is_refused),
    cmocka_unit_test(alpha_comes_from_tensors_or_metadata),
    cmocka_unit_test(blocks_have_the_numbers_of_single_files),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
