/* test_quantize_lora.c - LoRAs as one, at another rank and under other names. Products are compared
 * with plain sums. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "models/formats/safetensors.h"
#include "quantize/lora_combine.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/test.h"

#define KEYS "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
#define CONV "lora_unet_output_blocks_5_2_conv"
#define TEXT "lora_te2_text_model_encoder_layers_3_self_attn_k_proj"

enum { ROWS = 32 /* of 640 */, COLS = 2048 };

static const char *path_of(const char *name)
{
    static char path[16][600];
    static int turn;
    turn = (turn + 1) % 16;
    snprintf(path[turn], sizeof path[turn], "%s/%s.safetensors", test_dir(), name);
    return path[turn];
}

static void add(struct st_writer *w, const char *module, const char *ending, const char *shape)
{
    char name[200];
    snprintf(name, sizeof name, "%s%s", module, ending);
    st_writer_add_text(w, name, "F16", shape);
}

/* Numbers depend on names alone, so `rank` makes files that differ. */
static void write_lora(const char *name, int rank, float alpha)
{
    struct st_writer *w = st_writer_new();
    char shape[60];
    static const struct {
        const char *module, *up, *down;
    } layers[] = {
        { KEYS, "640x%d", "%dx2048" },
        { CONV, "640x%dx1x1", "%dx640x3x3" },
        { TEXT, "1280x%d", "%dx1280" },
    };
    for (int i = 0; i < 3; i++) {
        char name_of_alpha[200];
        snprintf(shape, sizeof shape, layers[i].up, rank);
        add(w, layers[i].module, ".lora_up.weight", shape);
        snprintf(shape, sizeof shape, layers[i].down, rank);
        add(w, layers[i].module, ".lora_down.weight", shape);
        snprintf(name_of_alpha, sizeof name_of_alpha, "%s.alpha", layers[i].module);
        st_writer_add(w, name_of_alpha, "F32", 0, NULL, &alpha);
    }
    st_writer_metadata(w, "ss_output_name", "lamp");
    st_writer_save(w, path_of(name));
    st_writer_free(w);
}

static void open_file(const char *name, struct safetensors *st)
{
    struct dr_error err;
    const char *path = path_of(name);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    if (st_open_fd(fd, path, st, &err))
        fail_msg("%s", err.text);
    close(fd);
}

static int new_file(const char *name)
{
    int fd = open(path_of(name), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void combine(const struct combine_item *items, int n, int64_t rank, const char *to)
{
    const struct combine_how how = { .rank = rank, .type = DTYPE_F32, .path = to };
    struct dr_error err;
    json_t *o;
    if (lora_combine(items, n, &how, new_file(to), &o, &err))
        fail_msg("%s", err.text);
    json_decref(o);
}

/* Adds strength * alpha / rank * up down of a layer of the file. */
static int64_t add_product(const char *file, const char *module, int64_t rows, int64_t cols,
                           double strength, double *sum)
{
    struct safetensors st;
    char name[200];
    float u, v, alpha;
    open_file(file, &st);
    snprintf(name, sizeof name, "%s.lora_up.weight", module);
    const struct st_tensor *up = st_find(&st.header, name);
    snprintf(name, sizeof name, "%s.lora_down.weight", module);
    const struct st_tensor *down = st_find(&st.header, name);
    snprintf(name, sizeof name, "%s.alpha", module);
    const struct st_tensor *a = st_find(&st.header, name);
    assert_true(up && down && a);
    int64_t rank = down->shape.d[0];
    dtype_read(&alpha, st_data(&st, a), a->dtype, 0, 1);
    for (int64_t k = 0; k < rank; k++)
        for (int64_t i = 0; i < rows; i++) {
            dtype_read(&u, st_data(&st, up), up->dtype, i * rank + k, 1);
            for (int64_t j = 0; j < cols; j++) {
                dtype_read(&v, st_data(&st, down), down->dtype, k * cols + j, 1);
                sum[i * cols + j] += strength * (double)alpha / (double)rank * (double)u *
                                     (double)v;
            }
        }
    st_close(&st);
    return rank;
}

static double distance(const double *a, const double *b, int64_t n)
{
    double apart = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        apart += (a[i] - b[i]) * (a[i] - b[i]);
        size += a[i] * a[i];
    }
    return sqrt(apart / size);
}

static void several_are_one(void **state)
{
    (void)state;
    const struct combine_item items[] = { { path_of("a"), NULL, 0.5, 0.5 },
                                          { path_of("b"), NULL, -1.5, 0.25 } };
    uint64_t blocks = test_blocks();
    double *expected = calloc(ROWS * COLS, sizeof *expected);
    double *got = calloc(ROWS * COLS, sizeof *got);
    assert_true(expected && got);
    write_lora("a", 2, 1);
    write_lora("b", 3, 6);
    combine(items, 2, 0, "sum");
    add_product("a", KEYS, ROWS, COLS, 0.5, expected);
    add_product("b", KEYS, ROWS, COLS, -1.5, expected);
    assert_int_equal(add_product("sum", KEYS, ROWS, COLS, 1, got), 5);
    assert_true(distance(expected, got, ROWS * COLS) < 1e-7);
    /* a rank that the sum has anyway changes no product, a smaller one does */
    memset(got, 0, ROWS * COLS * sizeof *got);
    combine(items, 2, 2, "less");
    assert_int_equal(add_product("less", KEYS, ROWS, COLS, 1, got), 2);
    double lost = distance(expected, got, ROWS * COLS);
    assert_true(lost > 1e-4 && lost < 1);
    memset(expected, 0, ROWS * COLS * sizeof *expected);
    memset(got, 0, ROWS * COLS * sizeof *got);
    add_product("a", TEXT, ROWS, 1280, 0.5, expected);
    add_product("b", TEXT, ROWS, 1280, 0.25, expected);
    add_product("sum", TEXT, ROWS, 1280, 1, got);
    assert_true(distance(expected, got, ROWS * 1280) < 1e-7);
    free(expected);
    free(got);
    assert_int_equal(test_blocks(), blocks);
}

static void respell(const char *from, const char *names, const char *to)
{
    struct combine_how how = { .spelling_given = true, .type = DTYPE_F32, .path = to };
    const struct combine_item item = { path_of(from), NULL, 1, 1 };
    struct dr_error err;
    json_t *o;
    assert_int_equal(lora_spelling_find(names, &how.spelling, &err), 0);
    if (lora_respell(&item, &how, new_file(to), &o, &err))
        fail_msg("%s", err.text);
    json_decref(o);
}

static void expect_tensor(const char *file, const char *name, const char *as, const char *of)
{
    struct safetensors a, b;
    open_file(file, &a);
    open_file(as, &b);
    const struct st_tensor *x = st_find(&a.header, name), *y = st_find(&b.header, of);
    if (!x || !y || x->dtype != y->dtype || !shape_equal(&x->shape, &y->shape) ||
        memcmp(st_data(&a, x), st_data(&b, y), (size_t)(x->end - x->begin)))
        fail_msg("%s of %s is not %s of %s", name, file, of, as);
    st_close(&a);
    st_close(&b);
}

static void names_come_back(void **state)
{
    (void)state;
    static const char *const modules[] = { KEYS, CONV, TEXT };
    static const char *const endings[] = { ".lora_up.weight", ".lora_down.weight", ".alpha" };
    struct safetensors st;
    write_lora("a", 2, 2);
    respell("a", "kohya", "kohya");
    expect_tensor("kohya",
                  "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
                  ".lora_up.weight",
                  "a", KEYS ".lora_up.weight");
    expect_tensor("kohya", "lora_unet_up_blocks_1_upsamplers_0_conv.lora_down.weight", "a",
                  CONV ".lora_down.weight");
    respell("kohya", "diffusers", "diffusers");
    expect_tensor("diffusers", "unet.up_blocks.1.upsamplers.0.conv.lora_A.weight", "a",
                  CONV ".lora_down.weight");
    expect_tensor("diffusers",
                  "text_encoder_2.text_model.encoder.layers.3.self_attn.k_proj.lora_B.weight", "a",
                  TEXT ".lora_up.weight");
    respell("kohya", "kohya-single", "back");
    for (int i = 0; i < 9; i++) {
        char name[200];
        snprintf(name, sizeof name, "%s%s", modules[i / 3], endings[i % 3]);
        expect_tensor("back", name, "a", name);
    }
    open_file("back", &st);
    assert_int_equal(st.header.n_tensors, 9);
    assert_string_equal(st.header.metadata[1].value, "lamp");
    st_close(&st);
    /* diffusers has no alpha: it goes into one side */
    write_lora("half", 2, 1);
    respell("half", "diffusers", "halved");
    double *expected = calloc(ROWS * COLS, sizeof *expected);
    double *got = calloc(ROWS * COLS, sizeof *got);
    assert_true(expected && got);
    const struct combine_item item = { path_of("halved"), NULL, 1, 1 };
    combine(&item, 1, 0, "read");
    add_product("half", KEYS, ROWS, COLS, 1, expected);
    add_product("read", KEYS, ROWS, COLS, 1, got);
    assert_true(distance(expected, got, ROWS * COLS) < 1e-7);
    free(expected);
    free(got);
}

static void expect_refused(const char *file, const char *words)
{
    const struct combine_item items[] = { { path_of("a"), NULL, 1, 1 },
                                          { path_of(file), NULL, 1, 1 } };
    const struct combine_how how = { .type = DTYPE_F32, .path = "none" };
    struct dr_error err;
    json_t *o;
    assert_true(lora_combine(items, 2, &how, new_file("none"), &o, &err) < 0);
    if (!strstr(err.text, words))
        fail_msg("%s", err.text);
}

static void what_would_be_lost_is_refused(void **state)
{
    (void)state;
    struct st_writer *w = st_writer_new();
    write_lora("a", 2, 1);
    add(w, "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
        ".lora_up.weight", "320x2");
    add(w, "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
        ".lora_down.weight", "2x768");
    st_writer_save(w, path_of("sd1"));
    st_writer_free(w);
    expect_refused("sd1", "different families");
    w = st_writer_new();
    add(w, KEYS, ".lora_up.weight", "640x2");
    add(w, KEYS, ".lora_down.weight", "2x2048");
    add(w, "lora_unet_input_blocks_44_1_proj_in", ".lora_up.weight", "640x2");
    add(w, "lora_unet_input_blocks_44_1_proj_in", ".lora_down.weight", "2x640");
    st_writer_save(w, path_of("more"));
    st_writer_free(w);
    expect_refused("more", "it would be lost");
    w = st_writer_new();
    add(w, KEYS, ".hada_w1_a", "640x2");
    add(w, KEYS, ".hada_w1_b", "2x2048");
    add(w, KEYS, ".hada_w2_a", "640x2");
    add(w, KEYS, ".hada_w2_b", "2x2048");
    st_writer_save(w, path_of("loha"));
    st_writer_free(w);
    expect_refused("loha", "of kind LoHa is no product of two matrices");
    w = st_writer_new(); /* one layer fits a family, the other's halves not each other */
    add(w, KEYS, ".lora_up.weight", "640x4");
    add(w, KEYS, ".lora_down.weight", "4x2048");
    add(w, TEXT, ".lora_up.weight", "1280x4");
    add(w, TEXT, ".lora_down.weight", "8x1280");
    st_writer_save(w, path_of("halves"));
    st_writer_free(w);
    expect_refused("halves", "do not fit");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(several_are_one),
    cmocka_unit_test(names_come_back),
    cmocka_unit_test(what_would_be_lost_is_refused),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
