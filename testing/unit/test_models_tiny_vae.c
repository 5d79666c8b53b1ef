/* test_models_tiny_vae.c - tiny autoencoders against diffusers' AutoencoderTiny
 * (tools/golden/tiny_vae.py), in every naming of files. */
#include "testing/helpers/odd_model.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend/device.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/model_access.h"
#include "testing/helpers/model_folder.h"
#include "testing/helpers/safetensors_writer.h"

enum { N = 2, H = 5, W = 7, FACTOR = 4, BLOCK = 16 << 20 };

static const double BOUND = 1e-5; /* relative L2 */

static const char *golden(const char *name)
{
    static char paths[4][400];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_source("testing/golden/tiny_vae"), name);
    return path;
}

/* A tiny VAE over the odd model, ready on a backend. */
struct tiny {
    struct checkpoint *c;
    struct backend *be;
    struct exec x;
    struct vae *vae;
};

static void must(int r, const struct dr_error *err)
{
    if (r)
        fail_msg("%s", err->text);
}

static void tiny_open(struct tiny *t, const char *part, bool encoder, const char *kernels)
{
    struct dr_error err = { 0 };
    struct model_spec spec = { .model = { test_source("testing/golden/odd/model"), NULL } };
    struct backend_options options = { .kernels = kernels, .threads = 2 };
    spec.part[COMPONENT_VAE].path = part;
    options.precision = PRECISION_F32;
    memset(t, 0, sizeof *t);
    must(checkpoint_open_spec(&spec, NULL, &t->c, &err), &err);
    must(backend_open(&options, &t->be, &err), &err);
    must(workspace_new(t->be, BLOCK, &t->x.ws, &err), &err);
    t->x.be = t->be;
    must(vae_new(checkpoint_vae_arch(t->c), encoder, true, &t->vae, &err), &err);
    must(checkpoint_load(t->c, COMPONENT_VAE, t->vae, vae_visit, &err), &err);
    must(params_prepare(t->vae, vae_visit, t->be, NULL, &err), &err);
    must(params_acquire(t->vae, vae_visit, &err), &err);
}

static void tiny_close(struct tiny *t)
{
    params_release(t->vae, vae_visit, false);
    vae_free(t->vae);
    workspace_free(t->x.ws);
    backend_close(t->be);
    checkpoint_close(t->c);
}

static struct npy vector(const char *name)
{
    struct npy a;
    struct dr_error err = { 0 };
    char path[400];
    snprintf(path, sizeof path, "%s.npy", golden(name));
    must(npy_load(path, &a, &err), &err);
    return a;
}

static void check_decode(struct tiny *t)
{
    struct dr_error err = { 0 };
    struct npy latents = vector("latents"), expected = vector("decoded");
    static float image[N * 3 * H * W * FACTOR * FACTOR];
    must(vae_decode(t->vae, &t->x, latents.data, N, H, W, image, &err), &err);
    double distance = test_rel_l2(image, expected.data, sizeof image / sizeof *image);
    if (!(distance < BOUND))
        fail_msg("decoded: %g, expected at most %g", distance, BOUND);
    npy_free(&latents);
    npy_free(&expected);
}

static void check_encode(struct tiny *t)
{
    struct dr_error err = { 0 };
    struct npy picture = vector("image"), expected = vector("encoded");
    static float latents[N * 4 * H * W];
    assert_int_equal(vae_moments(vae_arch(t->vae)), 4);
    must(vae_encode(t->vae, &t->x, picture.data, N, H * FACTOR, W * FACTOR, latents, &err), &err);
    double distance = test_rel_l2(latents, expected.data, sizeof latents / sizeof *latents);
    if (!(distance < BOUND))
        fail_msg("encoded: %g, expected at most %g", distance, BOUND);
    npy_free(&picture);
    npy_free(&expected);
}

static void agrees_with_the_reference(void **state)
{
    static const char *const kernels[] = { "scalar", NULL };
    (void)state;
    uint64_t blocks = test_blocks();
    for (size_t i = 0; i < 2; i++) {
        struct tiny t;
        tiny_open(&t, test_source("testing/golden/tiny_vae"), true, kernels[i]);
        check_decode(&t);
        check_encode(&t);
        tiny_close(&t);
    }
    assert_int_equal(test_blocks(), blocks);
}

/* The weights as TAESD's own code names them: the decoder's layers are numbered from 1. */
static void save_taesd(const char *encoder, const char *decoder, const char *path)
{
    struct safetensors st;
    struct dr_error err = { 0 };
    struct st_writer *w = st_writer_new();
    must(st_open(golden("diffusion_pytorch_model.safetensors"), &st, &err), &err);
    for (size_t i = 0; i < st.header.n_tensors; i++) {
        const struct st_tensor *t = &st.header.tensors[i];
        bool up = !strncmp(t->name, "decoder.", 8);
        const char *prefix = up ? decoder : encoder;
        char name[200], rest[100];
        int number;
        assert_int_equal(sscanf(t->name + 15, "%d.%99s", &number, rest), 2);
        if (!prefix)
            continue;
        snprintf(name, sizeof name, "%s%d.%s", prefix, number + up, rest);
        st_writer_add(w, name, dtype_name(t->dtype), t->shape.n, t->shape.d, st_data(&st, t));
    }
    st_writer_save(w, path);
    st_writer_free(w);
    st_close(&st);
}

static void every_naming(void **state)
{
    (void)state;
    struct tiny t;
    char path[300];
    struct dr_error err = { 0 };
    snprintf(path, sizeof path, "%s/taesd.safetensors", test_dir());
    tiny_open(&t, golden("diffusion_pytorch_model.safetensors"), true, NULL);
    struct vae_arch whole = *checkpoint_vae_arch(t.c);
    assert_true(whole.tiny);
    check_decode(&t);
    check_encode(&t);
    tiny_close(&t);
    save_taesd("taesd_encoder.", "taesd_decoder.", path);
    tiny_open(&t, path, true, NULL);
    assert_memory_equal(checkpoint_vae_arch(t.c), &whole, sizeof whole);
    check_decode(&t);
    check_encode(&t);
    tiny_close(&t);
    save_taesd(NULL, "", path);
    tiny_open(&t, path, false, NULL);
    check_decode(&t);
    tiny_close(&t);
    save_taesd("", NULL, path);
    struct model_spec spec = { .model = { test_source("testing/golden/odd/model"), NULL } };
    struct checkpoint *c;
    spec.part[COMPONENT_VAE].path = path;
    assert_int_equal(checkpoint_open_spec(&spec, NULL, &c, &err), DR_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "the encoder of a tiny VAE alone, expected a VAE"));
}

/* Lists of layers that are none. */
static void bad_lists(void **state)
{
    static const char *const without[] = { "decoder.layers.5.weight", "decoder.layers.10.bias",
                                           "encoder.layers.2.weight", "encoder.layers.7.bias" };
    (void)state;
    for (size_t k = 0; k < sizeof without / sizeof *without; k++) {
        struct safetensors st;
        struct dr_error err = { 0 };
        struct checkpoint *c;
        char path[300];
        struct st_writer *w = st_writer_new();
        snprintf(path, sizeof path, "%s/bad.safetensors", test_dir());
        must(st_open(golden("diffusion_pytorch_model.safetensors"), &st, &err), &err);
        assert_non_null(st_find(&st.header, without[k]));
        for (size_t i = 0; i < st.header.n_tensors; i++) {
            const struct st_tensor *t = &st.header.tensors[i];
            if (strcmp(t->name, without[k]))
                st_writer_add(w, t->name, dtype_name(t->dtype), t->shape.n, t->shape.d,
                              st_data(&st, t));
        }
        st_writer_save(w, path);
        st_writer_free(w);
        st_close(&st);
        struct model_spec spec = { .model = { test_source("testing/golden/odd/model"), NULL } };
        spec.part[COMPONENT_VAE].path = path;
        assert_int_equal(checkpoint_open_spec(&spec, NULL, &c, &err), DR_EFORMAT);
        assert_non_null(strstr(err.text, "tiny VAE"));
        assert_non_null(strstr(err.text, "bad.safetensors"));
    }
}

/* What config.json may say. */
static void configurations(void **state)
{
    static const struct {
        const char *key, *value, *words;
    } cases[] = {
        { "act_fn", "\"gelu\"", "act_fn" },
        { "upsample_fn", "\"bilinear\"", "upsample_fn" },
        { "upsampling_scaling_factor", "3", "upsampling_scaling_factor" },
        { "decoder_block_out_channels", "[9,9]", "decoder_block_out_channels" },
        { "decoder_block_out_channels", "[9,9,8]", "one number of channels" },
        { "num_decoder_blocks", "[2,1]", "num_decoder_blocks" },
        { "num_encoder_blocks", "[1,2,9]", "num_encoder_blocks" },
        { "scaling_factor", "0", "scaling_factor" },
    };
    static const char members[] =
        "\"_class_name\":\"AutoencoderTiny\",\"act_fn\":\"relu\",\"upsample_fn\":\"nearest\","
        "\"upsampling_scaling_factor\":2,\"encoder_block_out_channels\":[9,9,9],"
        "\"decoder_block_out_channels\":[9,9,9],\"num_encoder_blocks\":[1,2,1],"
        "\"num_decoder_blocks\":[2,1,1],\"scaling_factor\":1.0,\"latent_channels\":4";
    (void)state;
    folder_make();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        folder_set_key("vae/config.json", members, cases[i].key, cases[i].value);
        folder_must_fail(DR_EUNSUPPORTED, cases[i].words);
    }
    folder_set_key("vae/config.json", members, "latent_channels", "16");
    folder_must_fail(DR_EFORMAT, "latent channels");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(agrees_with_the_reference),
    cmocka_unit_test(every_naming),
    cmocka_unit_test(bad_lists),
    cmocka_unit_test(configurations),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
