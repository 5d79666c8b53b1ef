/* test_models_inspect.c - descriptions of checkpoints and of other files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "models/inspect_model.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/sgm_maker.h"
#include "testing/helpers/test.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/model_access.h"

static const char *temporary(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    return path;
}

/* The value at "a.b.c". */
static const json_t *at(const json_t *o, const char *path)
{
    char key[64];
    while (o && *path) {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        o = json_object_get(o, key);
        path += path[n] ? n + 1 : n;
    }
    return o;
}

static void expect_integer(const json_t *o, const char *path, int64_t value)
{
    if (!json_is_integer(at(o, path)) || json_integer_value(at(o, path)) != value)
        fail_msg("%s is not %lld", path, (long long)value);
}

static void expect_text(const json_t *o, const char *path, const char *value)
{
    const char *got = json_string_value(at(o, path));
    if (!got || strcmp(got, value))
        fail_msg("%s is '%s', expected '%s'", path, got ? got : "absent", value);
}

static void sdxl_base(void **state)
{
    (void)state;
    struct dr_error err;
    json_t *o;
    const char *path = temporary("base.safetensors");
    sgm_save(&sgm_base, true, path);
    uint64_t blocks = test_blocks();
    if (inspect_model(path, NULL, &o, &err))
        fail_msg("%s", err.text);
    expect_text(o, "path", path);
    expect_text(o, "kind", "sdxl-base");
    expect_text(o, "layout", "single");
    expect_integer(o, "default_size", 1024);
    expect_integer(o, "parts.unet.parameters", 2567463684);
    expect_integer(o, "parts.text_encoder.parameters", 123060480);
    expect_integer(o, "parts.text_encoder_2.parameters", 694659840);
    expect_integer(o, "parts.vae.parameters", 83653863);
    expect_integer(o, "parameters", 2567463684 + 123060480 + 694659840 + 83653863);
    expect_integer(o, "parts.unet.tensors", 1680);
    expect_integer(o, "parts.unet.dtypes.F16", 1680);
    expect_integer(o, "architecture.unet.context", 2048);
    expect_integer(o, "architecture.text_encoder_2.projection", 1280);
    expect_text(o, "architecture.text_encoder.activation", "quick_gelu");
    assert_int_equal(json_array_size(at(o, "warnings")), 0);
    assert_int_equal(json_array_size(at(o, "files")), 1);
    assert_null(at(o, "sha256"));
    assert_true(json_is_null(at(o, "scheduler")));
    json_t *deep = json_array_get(at(o, "architecture.unet.transformer_depth_up"), 2);
    assert_int_equal(json_integer_value(json_array_get(deep, 0)), 10);
    json_decref(o);
    assert_int_equal(test_blocks(), blocks);
    unlink(path);
}

static struct st_writer *lora(void)
{
    struct st_writer *w = st_writer_new();
    st_writer_add_text(w, "lora_unet_mid.lora_down.weight", "F16", "4x64");
    st_writer_add_text(w, "lora_unet_mid.lora_up.weight", "F16", "64x4");
    st_writer_add_text(w, "lora_unet_mid.alpha", "F32", "");
    st_writer_metadata(w, "ss_network_dim", "4");
    return w;
}

static void other_file(void **state)
{
    (void)state;
    struct dr_error err;
    json_t *o;
    struct st_writer *w = lora();
    static char text[40000];
    memset(text, 'x', sizeof text - 1);
    st_writer_metadata(w, "workflow", text);
    const char *path = temporary("lora.safetensors");
    st_writer_save(w, path);
    st_writer_free(w);
    struct digest_options digest = { .cache = "" };
    char hex[SHA256_HEX];
    assert_int_equal(inspect_model(path, &digest, &o, &err), 0);
    expect_text(o, "kind", "lora");
    expect_text(o, "description", "a LoRA: an adapter for a checkpoint");
    expect_integer(o, "tensors", 3);
    expect_integer(o, "parameters", 513);
    expect_integer(o, "dtypes.F16", 2);
    expect_integer(o, "dtypes.F32", 1);
    expect_text(o, "metadata.ss_network_dim", "4");
    assert_int_equal(json_string_length(at(o, "metadata.workflow")), 16 << 10);
    assert_int_equal(sha256_file(path, NULL, NULL, NULL, hex, &err), 0);
    expect_text(o, "sha256", hex);
    json_decref(o);
}

static void broken(void **state)
{
    (void)state;
    struct dr_error err;
    json_t *o;
    const char *path = temporary("broken.safetensors");
    st_write_raw(path, -1, "{]", 2, 0);
    assert_int_equal(inspect_model(path, NULL, &o, &err), DR_EFORMAT);
    assert_int_equal(inspect_model(temporary("absent"), NULL, &o, &err), DR_ENOENT);
    assert_int_equal(inspect_model(test_dir(), NULL, &o, &err), DR_EUNSUPPORTED);
    atomic_int stop = 1;
    struct digest_options digest = { .cache = "", .stop = &stop };
    struct st_writer *w = lora();
    st_writer_save(w, path = temporary("lora"));
    st_writer_free(w);
    assert_int_equal(inspect_model(path, &digest, &o, &err), DR_ECANCELED);
}

static int inspect_it(void *path, struct dr_error *err)
{
    json_t *o;
    struct digest_options digest = { .cache = "" };
    int r = inspect_model(path, &digest, &o, err);
    if (!r)
        json_decref(o);
    return r;
}

static void short_of_memory(void **state)
{
    (void)state;
    struct st_writer *w = st_writer_new();
    sgm_add(w, &sgm_tiny);
    st_writer_add_text(w, "stray", "F32", "1");
    st_writer_metadata(w, "a", "b");
    const char *path = temporary("oom");
    st_writer_save(w, path);
    st_writer_free(w);
    test_oom_walk(inspect_it, (void *)path);
    w = lora();
    st_writer_save(w, path);
    st_writer_free(w);
    test_oom_walk(inspect_it, (void *)path);
}

/* A part says what it fits and which option takes it. */
static void parts_alone(void **state)
{
    static const struct {
        const struct sgm_spec *spec;
        const char *cut, *kind, *fits, *option;
    } cases[] = {
        { &sgm_base, "model.diffusion_model.", "sdxl-unet", "SDXL", "--unet" },
        { &sgm_refiner, "model.diffusion_model.", "sdxl-unet", "the SDXL refiner", "--unet" },
        { &sgm_base, "conditioner.embedders.0.transformer.", "text-encoder",
          "SDXL as its first encoder, Stable Diffusion 1.x", "--text-encoder" },
        { &sgm_base, "conditioner.embedders.1.model.", "text-encoder", "SDXL as its second encoder",
          "--text-encoder-2" },
        { &sgm_base, "first_stage_model.", "vae",
          "models with 4 latent channels; its tensors do not tell of which family", "--vae" },
        { &sgm_tiny, "model.diffusion_model.", "sdxl-unet",
          "no family that is known here: text and added conditioning of other widths", "--unet" },
    };
    (void)state;
    char whole[600], part[600];
    snprintf(whole, sizeof whole, "%s", temporary("whole.safetensors"));
    snprintf(part, sizeof part, "%s", temporary("part.safetensors"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct safetensors st;
        struct dr_error err;
        struct st_writer *w = st_writer_new();
        json_t *o;
        sgm_save(cases[i].spec, true, whole);
        assert_int_equal(st_open(whole, &st, &err), 0);
        st_writer_sparse(w);
        for (size_t k = 0; k < st.header.n_tensors; k++) {
            const struct st_tensor *t = &st.header.tensors[k];
            if (!strncmp(t->name, cases[i].cut, strlen(cases[i].cut)))
                st_writer_add(w, t->name, dtype_name(t->dtype), t->shape.n, t->shape.d, NULL);
        }
        st_writer_save(w, part);
        st_writer_free(w);
        st_close(&st);
        if (inspect_model(part, NULL, &o, &err))
            fail_msg("%s", err.text);
        expect_text(o, "kind", cases[i].kind);
        expect_text(o, "fits", cases[i].fits);
        expect_text(o, "option", cases[i].option);
        json_decref(o);
    }
    json_t *o;
    struct dr_error err;
    if (inspect_model(test_source("testing/golden/tiny_vae/diffusion_pytorch_model.safetensors"),
                      NULL, &o, &err))
        fail_msg("%s", err.text);
    expect_text(o, "kind", "taesd");
    expect_text(o, "option", "--vae");
    assert_true(json_is_true(at(o, "tiny")) && json_is_true(at(o, "encodes")));
    json_decref(o);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(parts_alone), cmocka_unit_test(sdxl_base),       cmocka_unit_test(other_file),
    cmocka_unit_test(broken),      cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
