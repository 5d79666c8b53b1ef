/* test_cli_folders.c - the folders in which models, LoRAs and parts are found by name: those of the
 * configuration, of ComfyUI's extra_model_paths.yaml, of variables, and the user's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "testing/helpers/program.h"
#include "testing/helpers/safetensors_writer.h"

/* A fresh folder, with configuration and data below it. */
static void begin(void)
{
    char path[400];
    const char *folder = program_folder();
    snprintf(path, sizeof path, "%s/config", folder);
    program_configure(path);
    snprintf(path, sizeof path, "%s/data", folder);
    assert_int_equal(setenv("XDG_DATA_HOME", path, 1), 0);
}

static void end(void)
{
    unsetenv("XDG_DATA_HOME");
}

static void put_lora(const char *path)
{
    struct st_writer *w = st_writer_new();
    char folder[300];
    snprintf(folder, sizeof folder, "%.*s", (int)(dr_path_base(path) - path), path);
    test_make_dirs(folder);
    st_writer_add_text(w, "lora_unet_conv_in.lora_down.weight", "F32", "2x4x3x3");
    st_writer_add_text(w, "lora_unet_conv_in.lora_up.weight", "F32", "32x2x1x1");
    st_writer_save(w, path);
    st_writer_free(w);
}

/* Whether the list under `key` has a file of that name, and nothing else of it. */
static void expect_listed(const char *key, const char *name, const char *end_of_path)
{
    struct program p;
    program_run(&p, 0, "models", "--json", NULL);
    json_t *o = program_json(&p), *item;
    size_t i, found = 0;
    json_array_foreach(json_object_get(o, key), i, item)
    {
        const char *path = json_string_value(json_object_get(item, "path"));
        if (!strcmp(json_string_value(json_object_get(item, "name")), name) &&
            strlen(path) > strlen(end_of_path) &&
            !strcmp(path + strlen(path) - strlen(end_of_path), end_of_path))
            found++;
    }
    if (found != 1)
        fail_msg("%s: %zu of %s in %s", key, found, name, program_out(&p));
    json_decref(o);
    program_free(&p);
}

static void expect(const char *words, const char *const *argv)
{
    struct program p;
    program_start(&p, argv);
    program_finish(&p);
    if ((p.status != 1 && p.status != 2) || !strstr(program_err(&p), words))
        fail_msg("%s: status %d: %s", argv[2], p.status, program_err(&p));
    program_free(&p);
}

/* What is found is refused for its shapes, with its path. */
#define PLAN(option, name) ((const char *const[]){ "plan", option, name, "-p", "x", NULL })

static void kinds_have_folders_of_their_own(void **state)
{
    (void)state;
    begin();
    put_lora("mine/lamp.safetensors");
    put_lora("mine/deep/sea.safetensors");
    test_write_text("config/darkroom/config.yaml", "models:\n  loras: ../../mine\n");
    expect_listed("loras", "lamp", "/mine/lamp.safetensors");
    expect("/mine/lamp.safetensors: ", PLAN("--lora", "lamp"));
    expect("/mine/lamp.safetensors: ", PLAN("--lora", "lamp.safetensors"));
    expect("/mine/deep/sea.safetensors: ", PLAN("--lora", "deep/sea"));
    expect("no such file, folder or model name", PLAN("--vae", "lamp"));
    expect("expected a file, or the name of one in a folder of LoRAs",
           PLAN("--lora", "mine/../other"));
    put_lora("data/darkroom/models/vae/lamp.safetensors");
    expect("/vae/lamp.safetensors", PLAN("--vae", "lamp"));
    end();
}

static void two_of_a_name_are_both_listed(void **state)
{
    (void)state;
    begin();
    put_lora("a/lamp.safetensors");
    put_lora("b/lamp.safetensors");
    test_write_text("config/darkroom/config.yaml",
                    "models:\n  vae: ../../a:../../b\n  checkpoints: ../../a:../../b\n");
    expect("/a/lamp.safetensors and /", PLAN("--vae", "lamp"));
    expect("/b/lamp.safetensors, expected one file of that name", PLAN("-m", "lamp"));
    /* a link to the same file is no other */
    unlink("b/lamp.safetensors");
    assert_int_equal(symlink("../a/lamp.safetensors", "b/lamp.safetensors"), 0);
    expect("/a/lamp.safetensors", PLAN("-m", "lamp"));
    end();
}

static void folders_of_comfyui_are_read(void **state)
{
    (void)state;
    begin();
    put_lora("comfy/models/loras/lamp.safetensors");
    put_lora("comfy/more/star.safetensors");
    put_lora("forge/models/Lora/moon.safetensors");
    test_write_text("config/darkroom/config.yaml", "threads: 1\n");
    test_write_text("config/darkroom/extra_model_paths.yaml",
                    "comfyui:\n  base_path: ../../comfy\n  is_default: true\n  configs: x\n"
                    "  loras: |\n    models/loras\n    more\n"
                    "a111:\n  base_path: ../../forge/\n  loras: models/Lora\n");
    expect_listed("loras", "lamp", "/comfy/models/loras/lamp.safetensors");
    expect_listed("loras", "star", "/comfy/more/star.safetensors");
    expect_listed("loras", "moon", "/forge/models/Lora/moon.safetensors");
    /* a folder of models has folders of each kind in it, by ComfyUI's names */
    put_lora("all/diffusion_models/sun.safetensors");
    test_write_text("config/darkroom/config.yaml", "models: ../../all\n");
    expect_listed("unet", "sun", "/all/diffusion_models/sun.safetensors");
    test_write_text("config/darkroom/extra_model_paths.yaml", "comfyui: [1, [2]]\n");
    expect("extra_model_paths.yaml:1: ", PLAN("--lora", "lamp"));
    test_write_text("config/darkroom/config.yaml", "models:\n  extra_model_paths: none.yaml\n");
    expect("config.yaml:2: ", PLAN("--lora", "lamp"));
    end();
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(kinds_have_folders_of_their_own),
    cmocka_unit_test(two_of_a_name_are_both_listed),
    cmocka_unit_test(folders_of_comfyui_are_read),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
