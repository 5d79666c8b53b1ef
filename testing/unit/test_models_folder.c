/* test_models_folder.c - diffusers folders: layouts, shards, variants, what is missing. */
#include "testing/helpers/model_folder.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/model_access.h"

static void good_folder(void **state)
{
    (void)state;
    folder_make();
    folder_must_load();
    struct checkpoint *c = folder_open();
    assert_true(checkpoint_is_folder(c));
    assert_memory_equal(checkpoint_unet_arch(c), &folder_unet_arch, sizeof folder_unet_arch);
    assert_memory_equal(checkpoint_clip_arch(c, 0), &folder_clip_arch[0],
                        sizeof folder_clip_arch[0]);
    assert_memory_equal(checkpoint_clip_arch(c, 1), &folder_clip_arch[1],
                        sizeof folder_clip_arch[1]);
    assert_memory_equal(checkpoint_vae_arch(c), &folder_vae_arch, sizeof folder_vae_arch);
    assert_string_equal(checkpoint_kind(c), "sdxl-family");
    assert_true(checkpoint_force_zeros(c));
    assert_int_equal(checkpoint_default_size(c), 48);
    assert_true(checkpoint_has_tokenizer(c, 0));
    assert_true(checkpoint_has_tokenizer(c, 1));
    assert_non_null(json_object_get(checkpoint_scheduler_config(c), "_class_name"));
    assert_true(
        json_is_null(json_object_get(checkpoint_scheduler_config(c), "lambda_min_clipped")));
    checkpoint_close(c);
    folder_write("model_index.json", FOLDER_INDEX, "\"force_zeros_for_empty_prompt\":false");
    unlink(folder_path("scheduler/scheduler_config.json"));
    rmdir(folder_path("tokenizer_2"));
    c = folder_open();
    assert_false(checkpoint_force_zeros(c));
    assert_null(checkpoint_scheduler_config(c));
    assert_false(checkpoint_has_tokenizer(c, 1));
    checkpoint_close(c);
}

static void other_spellings(void **state)
{
    (void)state;
    folder_make();
    folder_clip(0, "text_encoder/model.safetensors", "text_model.");
    folder_clip(1, "text_encoder_2/model.safetensors", "text_model.");
    folder_must_load();
    static const char *const old[][2] = { { ".to_q.", ".query." },
                                          { ".to_k.", ".key." },
                                          { ".to_v.", ".value." },
                                          { ".to_out.0.", ".proj_attn." } };
    for (size_t i = 0; i < 4; i++) {
        folder_vae("vae/diffusion_pytorch_model.safetensors", old[i][0], old[i][1]);
        folder_must_load();
    }
    rename(folder_path("unet/diffusion_pytorch_model.safetensors"),
           folder_path("unet/diffusion_pytorch_model.fp16.safetensors"));
    rename(folder_path("text_encoder/model.safetensors"),
           folder_path("text_encoder/model.fp16.safetensors"));
    folder_must_load();
}

static void shards(void **state)
{
    (void)state;
    static const char index[] = "unet/diffusion_pytorch_model.safetensors.index.json";
    folder_make();
    folder_shards("a.safetensors", "b.safetensors", index);
    folder_must_load();
    folder_shards("b.safetensors", "a.safetensors", index);
    folder_must_fail(DR_EFORMAT, "tensor 'conv_in.bias' is not in 'a.safetensors'");
    folder_shards("a.safetensors", "c.safetensors", index);
    folder_must_fail(DR_ENOENT, "c.safetensors");
    folder_shards("a.safetensors", "../unet/b.safetensors", index);
    folder_must_fail(DR_EFORMAT, "expected names of files beside it");
    folder_shards("a.safetensors", "..", index);
    folder_must_fail(DR_EFORMAT, "expected names of files beside it");
    folder_shards("a.safetensors", "a.safetensors", index);
    folder_must_fail(DR_EFORMAT, "tensor 'conv_in.bias' is not in 'a.safetensors'");
    test_write_text(folder_path(index), "{\"weight_map\":[]}");
    folder_must_fail(DR_EINVAL, "weight_map");
    unlink(folder_path(index));
    folder_shards("a.safetensors", "b.safetensors",
                  "unet/diffusion_pytorch_model.safetensors.index.fp16.json");
    folder_must_load();
    /* the same tensor in two shards */
    folder_make();
    folder_shards("a.safetensors", "b.safetensors", index);
    folder_unet(&folder_unet_arch, "unet/a.safetensors");
    folder_must_fail(DR_EFORMAT, "two tensors mean");
}

/* UNets that differ by block, as SSD-1B and its kin have them. */
static void depth_lists(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        int down, up[2], mid_depth, mid_resnets;
        bool mid;
    } cases[] = {
        { "\"transformer_layers_per_block\":3", 3, { 3, 3 }, 3, 2, true },
        { "\"transformer_layers_per_block\":[1,[2]],\"reverse_transformer_layers_per_block\":[[1,4]"
          ",1],"
          "\"mid_block_type\":\"UNetMidBlock2D\"",
          2,
          { 1, 4 },
          0,
          1,
          true },
        { "\"transformer_layers_per_block\":[1,3],\"reverse_transformer_layers_per_block\":[2,1],"
          "\"mid_block_type\":null",
          3,
          { 2, 2 },
          0,
          0,
          false },
        { "\"transformer_layers_per_block\":[7,[2]],\"reverse_transformer_layers_per_block\":[[2,3]"
          ",9]",
          2,
          { 2, 3 },
          2,
          2,
          true },
    };
    static char base[4096];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        folder_make();
        /* the keys that the cases give are taken out of the usual configuration */
        snprintf(base, sizeof base, "%s", FOLDER_UNET);
        char *at = strstr(base, "\"transformer_layers_per_block\":[1,2],");
        memmove(at, at + 37, strlen(at + 37) + 1);
        if (strstr(cases[i].members, "mid_block_type")) {
            at = strstr(base, "\"mid_block_type\":\"UNetMidBlock2DCrossAttn\",");
            memmove(at, at + 43, strlen(at + 43) + 1);
        }
        folder_write("unet/config.json", base, cases[i].members);
        struct unet_arch arch = folder_unet_arch;
        arch.depth[1][0] = cases[i].down;
        arch.up_depth[1][0] = cases[i].up[0];
        arch.up_depth[1][1] = cases[i].up[1];
        arch.mid = cases[i].mid;
        arch.mid_depth = cases[i].mid_depth;
        arch.mid_resnets = cases[i].mid_resnets;
        folder_unet(&arch, "unet/diffusion_pytorch_model.safetensors");
        struct checkpoint *c = folder_open();
        assert_memory_equal(checkpoint_unet_arch(c), &arch, sizeof arch);
        assert_null(checkpoint_warning(c, 0));
        checkpoint_close(c);
    }
}

static void not_this_kind_of_folder(void **state)
{
    (void)state;
    folder_make();
    unlink(folder_path("model_index.json"));
    folder_must_fail(DR_EUNSUPPORTED, "no model_index.json");
    folder_write("config.json", FOLDER_UNET, NULL);
    folder_must_fail(DR_EUNSUPPORTED, "one component (UNet2DConditionModel)");
    folder_write("model_index.json", "\"_class_name\":\"StableDiffusion3Pipeline\"", NULL);
    folder_must_fail(DR_EUNSUPPORTED, "a folder for StableDiffusion3Pipeline, expected");
    folder_write("model_index.json", "\"_class_name\":\"StableDiffusionPipeline\"", NULL);
    folder_must_fail(DR_EFORMAT, "has no text_encoder");
    folder_write("model_index.json", "\"_class_name\":7", NULL);
    folder_must_fail(DR_EINVAL, "_class_name");
    test_write_text(folder_path("model_index.json"), "[1]");
    folder_must_fail(DR_EFORMAT, "expected an object");
    test_write_text(folder_path("model_index.json"), "{\"a\":1,\"a\":2}");
    struct dr_error err;
    struct checkpoint *c;
    assert_true(checkpoint_open(folder_root(), &c, &err) < 0);
    folder_write("model_index.json",
                 "\"_class_name\":\"StableDiffusionXLPipeline\",\"vae\":[null,null]", NULL);
    folder_must_fail(DR_EFORMAT, "has no text_encoder_2");
}

static void missing_files(void **state)
{
    (void)state;
    folder_make();
    unlink(folder_path("vae/diffusion_pytorch_model.safetensors"));
    folder_must_fail(DR_ENOENT, "vae: no diffusion_pytorch_model.safetensors in it");
    test_write_text(folder_path("vae/diffusion_pytorch_model.bin"), "PK\3\4");
    folder_must_fail(DR_EUNSUPPORTED, "a Python pickle");
    folder_make();
    unlink(folder_path("text_encoder/config.json"));
    folder_must_fail(DR_ENOENT, "text_encoder/config.json");
    folder_make();
    test_write_text(folder_path("text_encoder/model.safetensors"),
                    "PK\3\4 and so on, a ZIP archive");
    folder_must_fail(DR_EFORMAT, "a ZIP archive, most likely a PyTorch checkpoint");
    folder_make();
    folder_set_key("text_encoder/config.json", FOLDER_CLIP1, "num_hidden_layers", "3");
    folder_must_fail(DR_EFORMAT, "16 of ");
}

static int open_folder(void *path, struct dr_error *err)
{
    struct checkpoint *c;
    int r = checkpoint_open(path, &c, err);
    if (!r) {
        r = folder_load(c, err);
        checkpoint_close(c);
    }
    return r;
}

static void short_of_memory(void **state)
{
    (void)state;
    folder_make();
    folder_shards("a.safetensors", "b.safetensors",
                  "unet/diffusion_pytorch_model.safetensors.index.json");
    folder_set_key("unet/config.json", FOLDER_UNET, "brand_new_key", "1");
    test_oom_walk(open_folder, (void *)folder_root());
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(good_folder),
    cmocka_unit_test(other_spellings),
    cmocka_unit_test(shards),
    cmocka_unit_test(depth_lists),
    cmocka_unit_test(not_this_kind_of_folder),
    cmocka_unit_test(missing_files),
    cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
