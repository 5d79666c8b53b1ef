/* test_models_quantised.c - weights with scales, as other programs write them: a number times its
 * scale is what a network gets, and whatever else a file says of its weights is refused by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/unet.h"
#include "testing/helpers/changed_model.h"
#include "testing/helpers/model_access.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/sgm_maker.h"
#include "testing/helpers/test.h"

static const char UNET[] = "model.diffusion_model.";

static const char *temporary(const char *name)
{
    static char paths[2][600];
    static unsigned i;
    char *path = paths[i++ % 2];
    snprintf(path, sizeof paths[0], "%s/%s", test_dir(), name);
    return path;
}

/* ---- a checkpoint with scaled matrices ---- */

struct scaling {
    enum dtype dtype;
    const char *suffix;      /* of the scale's name, instead of "weight" */
    const char *scale_dtype; /* "F32", "BF16" ... */
    bool by_row, column;     /* [rows], and that as [rows, 1]; else one scale */
    const char *comfy;       /* contents of comfy_quant, NULL: none */
    bool marks;              /* scaled_fp8 and scales of inputs, which change nothing */
};

static float scale_of(const struct scaling *k, int64_t row)
{
    return k->by_row ? (float)(1 + row % 7) / 512 : 3.0f / 512;
}

static void add_scale(struct st_writer *w, const struct scaling *k, const char *name, int64_t rows)
{
    int64_t count = k->by_row ? rows : 1, shape[2] = { count, 1 };
    enum dtype dtype = DTYPE_F32;
    unsigned char bytes[4 * 4096];
    char scale[300];
    assert_true(dtype_from_name(k->scale_dtype, strlen(k->scale_dtype), &dtype) && count <= 4096);
    for (int64_t i = 0; i < count; i++) {
        float value = scale_of(k, i);
        dtype_from_f32(bytes + (size_t)i * dtype_size(dtype), dtype, &value, 1);
    }
    snprintf(scale, sizeof scale, "%.*s%s", (int)(strlen(name) - strlen("weight")), name,
             k->suffix);
    st_writer_add(w, scale, k->scale_dtype, k->column ? 2 : k->by_row, shape, bytes);
}

static void add_marks(struct st_writer *w, const struct scaling *k, const char *name)
{
    char other[300];
    int stem = (int)(strlen(name) - strlen("weight"));
    if (k->comfy) {
        int64_t n = (int64_t)strlen(k->comfy);
        snprintf(other, sizeof other, "%.*scomfy_quant", stem, name);
        st_writer_add(w, other, "U8", 1, &n, k->comfy);
    }
    if (k->marks) {
        snprintf(other, sizeof other, "%.*sscale_input", stem, name);
        st_writer_add_text(w, other, "F32", "");
    }
}

/* The matrices and filters of the UNet as numbers with scales in one file, as their products in the
 * other; everything else in both. */
static void make(const struct scaling *k, const char *scaled, const char *plain)
{
    const char *from = temporary("from.safetensors");
    struct safetensors st;
    struct dr_error err;
    struct st_writer *a = st_writer_new(), *b = st_writer_new();
    sgm_save(&sgm_tiny, false, from);
    assert_int_equal(st_open(from, &st, &err), 0);
    for (size_t i = 0; i < st.header.n_tensors; i++) {
        const struct st_tensor *t = &st.header.tensors[i];
        int64_t count = 0, rows = t->shape.n ? t->shape.d[0] : 1;
        shape_count(&t->shape, &count);
        if (strncmp(t->name, UNET, strlen(UNET)) || t->shape.n < 2) {
            st_writer_add(a, t->name, dtype_name(t->dtype), t->shape.n, t->shape.d,
                          st_data(&st, t));
            st_writer_add(b, t->name, dtype_name(t->dtype), t->shape.n, t->shape.d,
                          st_data(&st, t));
            continue;
        }
        unsigned char *numbers = malloc((size_t)count * 4);
        float *values = malloc((size_t)count * sizeof *values);
        assert_true(numbers && values);
        for (int64_t e = 0; e < count; e++) { /* any number that is one */
            unsigned code = (unsigned)(e * 37 + (int64_t)i) % 0x78 + (e % 3 ? 0x80 : 0);
            float value = (float)((int)(e * 11 % 255) - 127) / 16;
            if (k->dtype == DTYPE_F16)
                dtype_from_f32(numbers + 2 * e, DTYPE_F16, &value, 1);
            else
                numbers[e] = (unsigned char)code;
            dtype_read(&value, numbers, k->dtype, e, 1);
            values[e] = value * scale_of(k, e / (count / rows));
        }
        st_writer_add(a, t->name, dtype_name(k->dtype), t->shape.n, t->shape.d, numbers);
        add_scale(a, k, t->name, rows);
        add_marks(a, k, t->name);
        st_writer_add(b, t->name, "F32", t->shape.n, t->shape.d, values);
        free(numbers);
        free(values);
    }
    if (k->marks)
        st_writer_add_text(a, "model.diffusion_model.scaled_fp8", "F8_E4M3", "2");
    st_close(&st);
    st_writer_save(a, scaled);
    st_writer_save(b, plain);
    st_writer_free(a);
    st_writer_free(b);
}

static int same_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct weight_source want;
    int64_t count, want_count;
    (void)shape;
    assert_true(checkpoint_find(ctx, COMPONENT_UNET, name, &want));
    float *a = param_values(&p->src, &count), *b = param_values(&want, &want_count);
    if (count != want_count || memcmp(a, b, (size_t)count * sizeof *a))
        fail_msg("%s: other values", name);
    dr_free(a);
    dr_free(b);
    return 0;
}

static void expect_products(const struct scaling *k)
{
    const char *scaled = "", *plain = "";
    static char paths[2][600];
    struct checkpoint *a, *b = NULL;
    struct unet *unet;
    struct dr_error err;
    snprintf(paths[0], sizeof paths[0], "%s/scaled.safetensors", test_dir());
    snprintf(paths[1], sizeof paths[1], "%s/plain.safetensors", test_dir());
    scaled = paths[0];
    plain = paths[1];
    make(k, scaled, plain);
    uint64_t blocks = test_blocks();
    if (checkpoint_open(scaled, &a, &err) || checkpoint_open(plain, &b, &err))
        fail_msg("%s: %s", k->suffix, err.text);
    assert_int_equal(unet_new(checkpoint_unet_arch(a), &unet, &err), 0);
    if (checkpoint_load(a, COMPONENT_UNET, unet, unet_visit, &err))
        fail_msg("%s: %s", k->suffix, err.text);
    struct visitor v = { .param = same_param, .ctx = b };
    assert_int_equal(unet_visit(unet, &v), 0);
    if (checkpoint_warning(a, 0))
        fail_msg("%s", checkpoint_warning(a, 0));
    assert_int_equal(checkpoint_weights(a),
                     k->dtype == DTYPE_I8 ? CHECKPOINT_INT8 : CHECKPOINT_QUANTISED);
    assert_int_equal(checkpoint_weights(b), CHECKPOINT_FLOAT);
    unet_free(unet);
    checkpoint_close(a);
    checkpoint_close(b);
    assert_int_equal(test_blocks(), blocks);
}

static void numbers_times_scales(void **state)
{
    (void)state;
    static const struct scaling cases[] = {
        { DTYPE_F8_E4M3, "scale_weight", "F32", false, false, NULL, true },
        { DTYPE_F8_E4M3, "weight_scale", "F32", true, false, NULL, false },
        { DTYPE_F8_E5M2, "weight_scale", "F32", true, true, NULL, true },
        { DTYPE_F8_E5M2, "scale_weight", "BF16", false, false, NULL, false },
        { DTYPE_F16, "scale_weight", "F32", false, false, NULL, true },
        { DTYPE_F8_E4M3, "weight_scale", "F32", false, false,
          "{\"format\": \"float8_e4m3fn\", \"full_precision_matrix_mult\": true}", false },
        { DTYPE_F8_E5M2, "weight_scale", "F16", true, true, "{\"format\":\"float8_e5m2\"}", false },
        { DTYPE_I8, "weight_scale", "F32", false, false, "{\"format\":\"int8_tensorwise\"}",
          false },
        { DTYPE_I8, "weight_scale", "F32", true, true,
          "{\"format\":\"int8_tensorwise\",\"convrot\":false,\"convrot_groupsize\":256}", false },
        { DTYPE_I8, "scale_weight", "F32", true, false, NULL, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_products(&cases[i]);
}

/* ---- what is refused ---- */

static void expect_refused(struct st_writer *w, int code, const char *words)
{
    struct dr_error err = { 0 };
    struct checkpoint *c = NULL;
    struct unet *unet = NULL;
    const char *path = temporary("refused.safetensors");
    st_writer_save(w, path);
    st_writer_free(w);
    int r = checkpoint_open(path, &c, &err);
    if (!r)
        r = unet_new(checkpoint_unet_arch(c), &unet, &err);
    if (!r)
        r = checkpoint_load(c, COMPONENT_UNET, unet, unet_visit, &err);
    if (r != code || !strstr(err.text, words))
        fail_msg("returned %d \"%s\", expected %d \"%s\"", r, r ? err.text : "", code, words);
    unet_free(unet);
    checkpoint_close(c);
}

#define OUT "model.diffusion_model.out.2."

static void descriptions_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
        const char *words;
    } cases[] = {
        { "{\"format\":\"nvfp4\"}", DR_EUNSUPPORTED,
          "quantised by ComfyUI as 'nvfp4' (layer 'model.diffusion_model.out.2')" },
        { "{\"format\":\"int8_blockwise\",\"group_size\":128}", DR_EUNSUPPORTED, "int8_blockwise" },
        { "{\"format\":\"int8_tensorwise\",\"convrot\":true,\"convrot_groupsize\":256}",
          DR_EUNSUPPORTED, "with 'convrot' (layer 'model.diffusion_model.out.2')" },
        { "{\"format\":\"float8_e4m3fn\",\"group_size\":128}", DR_EUNSUPPORTED, "'group_size'" },
        { "{\"format\":\"float8_e4m3fn\"}", DR_EUNSUPPORTED,
          "weight is of dtype F16, expected F8" },
        { "{\"format\":7}", DR_EFORMAT, "has no format" },
        { "{}", DR_EFORMAT, "has no format" },
        { "[]", DR_EFORMAT, "has no format" },
        { "{\"format\":", DR_EFORMAT, "comfy_quant" },
        { "", DR_EFORMAT, "comfy_quant" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct st_writer *w = st_writer_new();
        int64_t n = (int64_t)strlen(cases[i].text);
        sgm_add(w, &sgm_tiny);
        st_writer_add(w, OUT "comfy_quant", "U8", 1, &n, cases[i].text);
        expect_refused(w, cases[i].code, cases[i].words);
    }
    struct st_writer *w = st_writer_new();
    sgm_add(w, &sgm_tiny);
    st_writer_metadata(w, "_quantization_metadata",
                       "{\\\"format_version\\\":\\\"1.0\\\",\\\"layers\\\":{\\\"out.2\\\":"
                       "{\\\"format\\\":\\\"mxfp8\\\"}}}");
    expect_refused(w, DR_EUNSUPPORTED, "'mxfp8' (layer 'out.2')");
    w = st_writer_new();
    sgm_add(w, &sgm_tiny);
    st_writer_metadata(w, "_quantization_metadata", "{\\\"layers\\\":[]}");
    expect_refused(w, DR_EINVAL, "layers");
}

static void scales_that_are_refused(void **state)
{
    (void)state;
    static const float negative = -1, nan = __builtin_nanf("");
    static const struct {
        const char *name, *dtype;
        int dims;
        int64_t shape[2];
        const void *data;
        const char *words;
    } cases[] = {
        { OUT "weight_scale", "F32", 1, { 3, 0 }, NULL, "has a scale of F32 [3], expected F32 []" },
        { OUT "weight_scale", "F32", 2, { 2, 2 }, NULL, "has a scale of F32 [2, 2]" },
        { OUT "weight_scale", "F32", 2, { 1, 4 }, NULL, "has a scale of F32 [1, 4]" },
        { OUT "weight_scale", "I32", 0, { 0, 0 }, NULL, "has a scale of I32 []" },
        { OUT "weight_scale", "F32", 0, { 0, 0 }, &negative, "has a scale of -1 for row 0" },
        { OUT "scale_weight", "F32", 0, { 0, 0 }, &nan, "has a scale of nan for row 0" },
        { "model.diffusion_model.out.0.weight_scale",
          "F32",
          0,
          { 0, 0 },
          NULL,
          "expected one of matrices and filters only" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct st_writer *w = st_writer_new();
        sgm_add(w, &sgm_tiny);
        st_writer_add(w, cases[i].name, cases[i].dtype, cases[i].dims, cases[i].shape,
                      cases[i].data);
        expect_refused(w, DR_EFORMAT, cases[i].words);
    }
    struct st_writer *w = st_writer_new();
    sgm_add(w, &sgm_tiny);
    st_writer_add_text(w, OUT "weight_scale", "F32", "");
    st_writer_add_text(w, OUT "scale_weight", "F32", "");
    expect_refused(w, DR_EFORMAT, "two tensors mean 'unet.conv_out.weight_scale'");
}

static int load(void *path, struct dr_error *err)
{
    struct checkpoint *c;
    struct unet *unet = NULL;
    int r = checkpoint_open(path, &c, err);
    if (r)
        return r;
    r = unet_new(checkpoint_unet_arch(c), &unet, err);
    if (!r)
        r = checkpoint_load(c, COMPONENT_UNET, unet, unet_visit, err);
    unet_free(unet);
    checkpoint_close(c);
    return r;
}

static void short_of_memory(void **state)
{
    (void)state;
    static const struct scaling k = {
        DTYPE_F8_E4M3, "weight_scale", "BF16", false, false, "{\"format\":\"float8_e4m3fn\"}", true
    };
    char path[600];
    snprintf(path, sizeof path, "%s/oom.safetensors", test_dir());
    make(&k, path, temporary("plain.safetensors"));
    test_oom_walk(load, path);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(numbers_times_scales),
    cmocka_unit_test(descriptions_that_are_refused),
    cmocka_unit_test(scales_that_are_refused),
    cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
