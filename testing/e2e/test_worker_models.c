/* test_worker_models.c - models whose files change under a running worker: receipt, digest and
 * picture belong together; nothing is read outside of the folders of models; packs that were
 * damaged or removed draw nothing. */
#include "testing/helpers/worker_host.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testing/backends/packing.h"
#include "base/alloc.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/image/image.h"
#include "testing/helpers/program.h"

enum { BYTES = 3 * 64 * 48 };

struct drawn {
    unsigned char pixels[BYTES];
    char digest[80];
    bool warned; /* of packed weights that are rebuilt */
};

static void run(const char *command)
{
    if (system(command))
        fail_msg("%s", command);
}

/* A copy of the model of the golden vectors as "model" in the test's folder, its path absolute. */
static const char *copy_model(void)
{
    static char path[DR_PATH_MAX];
    char command[DR_PATH_MAX + 64];
    const char *folder = program_folder();
    snprintf(command, sizeof command, "cp -r '%s' model", program_model());
    run(command);
    assert_int_equal(dr_path_join(path, sizeof path, folder, "model"), 0);
    return path;
}

static void ask(struct host *h, const char *model, const char *kernels)
{
    host_ask_picture(h, "draw",
                     json_pack("{s:s,s:s,s:i}", "model", model, "kernels", kernels, "steps", 1));
}

static void take_drawn(struct host *h, struct drawn *ret)
{
    json_t *event = host_answer(h, "draw");
    const json_t *data = json_object_get(event, "data"), *warning;
    if (!json_is_true(json_object_get(event, "success")))
        fail_msg("%s", host_text(event, "error"));
    const char *text = json_string_value(json_array_get(json_object_get(data, "images"), 0));
    struct dr_image image;
    struct buf file;
    buf_init(&file, DR_TAG_TEST, 0);
    assert_int_equal(base64_decode(text, strlen(text), false, &file, NULL), 0);
    assert_int_equal(img_decode(file.data, file.len, 3, &image, NULL, NULL), 0);
    memcpy(ret->pixels, image.pixels, BYTES);
    img_free(&image);
    buf_free(&file);
    const json_t *receipt = json_array_get(json_object_get(data, "receipts"), 0);
    snprintf(ret->digest, sizeof ret->digest, "%s", host_text(receipt, "model_sha256"));
    assert_int_equal(strlen(ret->digest), 64);
    size_t i;
    ret->warned = false;
    json_array_foreach(json_object_get(data, "warnings"), i, warning)
        ret->warned |= strstr(json_string_value(warning), "rebuilding packed weights") != NULL;
    json_decref(event);
}

static void draw(struct host *h, const char *model, struct drawn *ret)
{
    ask(h, model, "scalar");
    take_drawn(h, ret);
}

/* A change of the model's files that changes pictures. */
static const char other_noise[] = "sed -i 's/\"beta_end\": [0-9.]*/\"beta_end\": 0.02/' "
                                  "model/scheduler/scheduler_config.json";

/* The picture after such a change: other pixels, and another digest in the receipt. */
static void draw_another(struct host *h, const char *model, const struct drawn *before,
                         struct drawn *ret)
{
    draw(h, model, ret);
    assert_string_not_equal(ret->digest, before->digest);
    assert_memory_not_equal(ret->pixels, before->pixels, BYTES);
}

/* The digest that is in a receipt is that of the files as they are. */
static void must_be_digest(struct host *h, const char *model, const struct drawn *d)
{
    host_say_json(h, json_pack("{s:s,s:s,s:{s:s}}", "type", "inspect", "request_id", "i", "data",
                               "path", model));
    json_t *event = host_answer(h, "i");
    assert_string_equal(host_text(json_object_get(event, "data"), "sha256"), d->digest);
    json_decref(event);
}

/* The seven kinds of files, and whether a model goes without. */
static const struct {
    const char *name;
    bool optional;
} parts[] = {
    { "model_index.json", false },
    { "scheduler/scheduler_config.json", true },
    { "unet/config.json", false },
    { "text_encoder_2/config.json", false },
    { "vae/config.json", false },
    { "tokenizer/vocab.json", false },
    { "tokenizer_2/merges.txt", false },
    { "tokenizer/tokenizer_config.json", true },
    { "unet/diffusion_pytorch_model.safetensors", false },
};
enum { PARTS = sizeof parts / sizeof *parts };

static void each_file_edited(void **state)
{
    (void)state;
    static struct drawn first, now;
    struct host h;
    const char *model = copy_model();
    host_begin(&h, NULL, NULL);
    draw(&h, model, &first);
    must_be_digest(&h, model, &first);
    for (int i = 0; i + 1 < PARTS; i++) {
        char before[80], command[300];
        memcpy(before, first.digest, sizeof before);
        /* white space changes nothing but the file */
        snprintf(command, sizeof command, "printf '\\n' >>model/%s",
                 strcmp(parts[i].name, "tokenizer_2/merges.txt") ? parts[i].name
                                                                 : "tokenizer_2/vocab.json");
        run(command);
        draw(&h, model, &now);
        assert_string_not_equal(now.digest, before);
        must_be_digest(&h, model, &now);
        assert_memory_equal(now.pixels, first.pixels, BYTES);
        first = now;
    }
    /* and one whose change is seen: other files drawn, other receipt */
    run(other_noise);
    draw_another(&h, model, &first, &now);
    assert_int_equal(host_end(&h), 0);
}

static void each_file_deleted_and_put_back(void **state)
{
    (void)state;
    static struct drawn first, now;
    struct host h;
    const char *model = copy_model();
    host_begin(&h, NULL, NULL);
    draw(&h, model, &first);
    for (int i = 0; i < PARTS; i++) {
        char path[300];
        snprintf(path, sizeof path, "model/%s", parts[i].name);
        assert_int_equal(rename(path, "aside"), 0);
        if (parts[i].optional) {
            draw(&h, model, &now);
            assert_string_not_equal(now.digest, first.digest);
            must_be_digest(&h, model, &now);
        } else {
            ask(&h, model, "scalar");
            json_t *event = host_answer(&h, "draw");
            if (!json_is_false(json_object_get(event, "success")))
                fail_msg("drawn without %s", parts[i].name);
            json_decref(event);
        }
        assert_int_equal(rename("aside", path), 0);
        draw(&h, model, &now);
        assert_string_equal(now.digest, first.digest);
        assert_memory_equal(now.pixels, first.pixels, BYTES);
    }
    assert_int_equal(host_end(&h), 0);
}

/* Other weights by rename, and a component that is a link to a folder, swapped. */
static void what_is_swapped_is_seen(void **state)
{
    (void)state;
    static struct drawn first, now;
    struct host h;
    const char *model = copy_model();
    run("mv model/vae vae1 && ln -s ../vae1 model/vae && cp -r vae1 vae2");
    /* the same but for some weights of the decoder */
    run("dd if=/dev/zero of=$(ls vae2/*.safetensors) bs=1024 count=16 seek=80 conv=notrunc "
        "2>/dev/null");
    host_begin(&h, NULL, NULL);
    draw(&h, model, &first);
    must_be_digest(&h, model, &first);
    run("ln -sfn ../vae2 model/vae");
    draw_another(&h, model, &first, &now);
    must_be_digest(&h, model, &now);
    run("cp vae1/*.safetensors new && mv new vae2/diffusion_pytorch_model.safetensors");
    draw(&h, model, &now);
    assert_string_equal(now.digest, first.digest);
    assert_memory_equal(now.pixels, first.pixels, BYTES);
    assert_int_equal(host_end(&h), 0);
}

/* load_model, an edit, generate: the receipt is of what was drawn. */
static void an_edit_after_loading(void **state)
{
    (void)state;
    static struct drawn first, now;
    struct host h;
    const char *model = copy_model();
    host_begin(&h, NULL, NULL);
    draw(&h, model, &first);
    host_say_json(&h, json_pack("{s:s,s:s,s:{s:s,s:s}}", "type", "load_model", "request_id", "l",
                                "data", "model", model, "kernels", "scalar"));
    json_decref(host_answer(&h, "l"));
    run(other_noise);
    draw_another(&h, model, &first, &now);
    must_be_digest(&h, model, &now);
    /* what is no part of the model changes nothing */
    run("echo x >model/README.md; ln -s /nowhere model/dangling; mkfifo model/unet/pipe");
    first = now;
    draw(&h, model, &now);
    assert_string_equal(now.digest, first.digest);
    assert_int_equal(host_end(&h), 0);
}

/* ---- several models ---- */

/* A figure of the plan of a picture; 0 FLOPs of the text stage mean that the model is still loaded:
 * it remembers the prompt. */
static double planned(struct host *h, const char *model, const char *figure)
{
    host_say_json(h, json_pack("{s:s,s:s,s:{s:s,s:s,s:s,s:i,s:i,s:i}}", "type", "plan",
                               "request_id", "p", "data", "model", model, "prompt", "x", "kernels",
                               "scalar", "width", 64, "height", 48, "steps", 1));
    json_t *event = host_answer(h, "p");
    const json_t *data = json_object_get(event, "data");
    const json_t *text = json_array_get(json_object_get(data, "stages"), 0);
    const json_t *value = json_object_get(strcmp(figure, "flops") ? data : text, figure);
    if (!json_is_number(value))
        fail_msg("%s", host_text(event, "error"));
    double number = json_number_value(value);
    json_decref(event);
    return number;
}

static void unload(struct host *h)
{
    host_say(h, "{\"type\":\"unload_model\",\"request_id\":\"u\"}\n");
    json_decref(host_answer(h, "u"));
}

/* As long as there is memory each model is loaded once; else the one that is not used makes room,
 * and no job is refused for it. */
/* The largest planned peak of the two models in a worker with that limit (NULL: none). */
static double largest_peak(char models[2][DR_PATH_MAX], const char *limit)
{
    struct host h;
    static struct drawn now;
    double most = 0;
    host_begin(&h, limit ? "--memory-limit" : NULL, limit);
    for (int i = 0; i < 4; i++) {
        draw(&h, models[i % 2], &now);
        double peak = planned(&h, models[i % 2], "peak_bytes");
        most = peak > most ? peak : most;
    }
    assert_int_equal(host_end(&h), 0);
    return most;
}

static void two_models_in_turn(void **state)
{
    (void)state;
    static struct drawn first[2], now;
    struct host h;
    char models[2][DR_PATH_MAX], limit[40];
    snprintf(models[0], sizeof models[0], "%s", copy_model());
    run("cp -r model other");
    snprintf(models[1], sizeof models[1], "%.*sother", (int)(strlen(models[0]) - strlen("model")),
             models[0]);
    run(other_noise); /* of the first */
    host_begin(&h, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        assert_true(planned(&h, models[i], "flops") > 0);
        draw(&h, models[i], &first[i]);
    }
    assert_memory_not_equal(first[0].pixels, first[1].pixels, BYTES);
    for (int i = 0; i < 4; i++) {
        assert_true(planned(&h, models[i % 2], "flops") == 0);
        draw(&h, models[i % 2], &now);
        assert_memory_equal(now.pixels, first[i % 2].pixels, BYTES);
    }
    unload(&h);
    for (int i = 0; i < 2; i++)
        assert_true(planned(&h, models[i], "flops") > 0);
    assert_int_equal(host_end(&h), 0);

    /* Room for one: a model alone holds more than 1.5 MB. What else the process holds differs from
     * run to run by as much, so now and then there is room for the other one too. */
    int unloaded = 0;
    double least = largest_peak(models, NULL);
    snprintf(limit, sizeof limit, "%.0f", 1.5 * least); /* too little to keep a workspace */
    least = largest_peak(models, limit);
    snprintf(limit, sizeof limit, "%.0f", least + 1.5e6);
    host_begin(&h, "--memory-limit", limit);
    for (int i = 0; i < 8; i++) {
        draw(&h, models[i % 2], &now);
        assert_memory_equal(now.pixels, first[i % 2].pixels, BYTES);
        assert_true(planned(&h, models[i % 2], "flops") == 0);
        unloaded += planned(&h, models[!(i % 2)], "flops") > 0;
    }
    assert_true(unloaded > 1);
    assert_int_equal(host_end(&h), 0);
}

/* ---- the folders of models ---- */

static void must_refuse(struct host *h, const char *model)
{
    static const char *const verbs[] = { "generate", "inspect",  "load_model",
                                         "tokens",   "validate", "plan" };
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        const char *verb = verbs[i];
        json_t *data = json_pack("{s:s}", "model", model);
        if (!strcmp(verb, "tokens"))
            json_object_set_new(data, "text", json_string("x"));
        else if (strcmp(verb, "inspect") && strcmp(verb, "load_model"))
            json_object_set_new(data, "prompt", json_string("x"));
        host_say_json(h, json_pack("{s:s,s:s,s:o}", "type", verb, "request_id", "r", "data", data));
        json_t *event = host_answer(h, "r");
        char *text = json_dumps(event, 0);
        if (!strcmp(verb, "validate"))
            assert_true(json_is_false(json_object_get(json_object_get(event, "data"), "valid")));
        else
            assert_true(json_is_false(json_object_get(event, "success")));
        if (!strstr(text, "leads out of") || strstr(text, "secret"))
            fail_msg("%s: %s", verb, text);
        dr_free(text);
        json_decref(event);
    }
}

/* Whatever part of a model leads out of the folder of models, it is not read. */
static void links_stay_in_the_folder_of_models(void **state)
{
    (void)state;
    static struct drawn now;
    static const char *const swaps[] = {
        "ln -s ../../outside/model/unet models/model/unet",
        "ln -s /etc/passwd models/model/tokenizer/tokenizer.json",
        "rm models/model/tokenizer/merges.txt; ln -s /etc/passwd models/model/tokenizer/merges.txt",
        "ln -s ../../../outside/words models/model/tokenizer/added_tokens.json",
        "rm -r models/model/scheduler; ln -s ../../outside/model/scheduler models/model/scheduler",
        "rm models/model/model_index.json; ln -s /proc/self/root/etc/passwd "
        "models/model/model_index.json",
        "rm models/model/vae/*.safetensors; ln -s "
        "../../../outside/model/vae/diffusion_pytorch_model.safetensors models/model/vae/",
    };
    struct host h;
    char model[DR_PATH_MAX], root[DR_PATH_MAX], command[1000];
    const char *folder = program_folder();
    snprintf(root, sizeof root, "%s/models", folder);
    snprintf(model, sizeof model, "%s/models/model", folder);
    snprintf(command, sizeof command,
             "mkdir models outside && cp -r '%s' outside/model && echo secret >outside/words",
             program_model());
    run(command);
    host_begin(&h, "--models", root);
    for (size_t i = 0; i < sizeof swaps / sizeof *swaps; i++) {
        run("rm -rf models/model && cp -r outside/model models/model");
        if (!i)
            run("rm -r models/model/unet");
        run(swaps[i]);
        must_refuse(&h, model);
    }
    /* links inside are followed, also absolute ones */
    run("rm -rf models/model && cp -r outside/model models/model && mv models/model/vae "
        "models/vae1 "
        "&& ln -s \"$PWD/models/vae1\" models/model/vae && mv models/model/unet models/unet1 && "
        "ln -s ../unet1 models/model/unet");
    draw(&h, model, &now);
    draw(&h, "model", &now); /* by its name */
    host_ask_picture(&h, "none", json_pack("{s:s}", "model", "no such model"));
    host_must_fail(&h, "none", "NOT_FOUND", "model");
    host_ask_picture(&h, "url", json_pack("{s:s}", "model", "https://a.b/c.safetensors"));
    host_must_fail(&h, "url", "NOT_FOUND", "model");
    host_ask_picture(&h, "out", json_pack("{s:s}", "model", "/etc/passwd"));
    host_must_fail(&h, "out", "INVALID_VALUE", "model");
    must_be_digest(&h, model, &now);
    /* swapped for one that leads out while it is loaded */
    run("ln -sfn ../../outside/model/unet models/model/unet");
    must_refuse(&h, model);
    assert_int_equal(host_end(&h), 0);
}

/* A copy inside of the model would become a part of it. */
static void no_copy_goes_into_the_model(void **state)
{
    (void)state;
    static const char *const outputs[] = { "model/copy", "model/unet/copy", "link/copy",
                                           "link/unet/../copy", "model/copy/" };
    struct host h;
    char output[DR_PATH_MAX + 32];
    const char *model = copy_model();
    int before = program_entries("model") + program_entries("model/unet");
    assert_int_equal(symlink("model", "link"), 0);
    size_t folder = strlen(model) - strlen("model");
    host_begin(&h, "--root", "/");
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        snprintf(output, sizeof output, "%.*s%s", (int)folder, model, outputs[i]);
        host_say_json(&h, json_pack("{s:s,s:s,s:{s:s,s:s,s:b}}", "type", "convert", "request_id",
                                    "c", "data", "model", model, "output", output, "int8", 1));
        json_t *event = host_answer(&h, "c");
        assert_true(json_is_false(json_object_get(event, "success")));
        if (!strstr(host_text(event, "error"), "outside of the model's own folder"))
            fail_msg("%s: %s", outputs[i], host_text(event, "error"));
        json_decref(event);
    }
    assert_int_equal(program_entries("model") + program_entries("model/unet"), before);
    assert_int_equal(host_end(&h), 0);
}

/* ---- packs ---- */

static void use_own_cache(void)
{
    char path[DR_PATH_MAX];
    snprintf(path, sizeof path, "%s/cache", program_folder());
    setenv("XDG_CACHE_HOME", path, 1);
}

static void draw_packed(struct host *h, struct drawn *ret)
{
    ask(h, program_model(), PACKING_SET);
    take_drawn(h, ret);
}

static void a_pack_that_changes_is_not_drawn_with(void **state)
{
    (void)state;
    static struct drawn first, now;
    struct host h;
    const char *worker = getenv("DARKROOM_PACKING_WORKER");
    assert_non_null(worker);
    setenv("DARKROOM_WORKER", worker, 1);
    use_own_cache();
    host_begin(&h, NULL, NULL);
    draw_packed(&h, &first);
    draw_packed(&h, &now);
    assert_false(now.warned);
    assert_int_equal(program_entries("cache/darkroom/weights"), 1);
    /* bytes that flip after the start */
    run("cd cache/darkroom/weights && chmod u+w * && printf '\\377\\376' | dd of=$(ls) bs=1 "
        "seek=70000 conv=notrunc 2>/dev/null");
    draw_packed(&h, &now);
    assert_true(now.warned);
    assert_memory_equal(now.pixels, first.pixels, BYTES);
    draw_packed(&h, &now);
    assert_false(now.warned);
    /* found by check --cache, in the middle of the worker's life */
    run("cd cache/darkroom/weights && chmod u+w * && printf '\\377\\376' | dd of=$(ls) bs=1 "
        "seek=70000 conv=notrunc 2>/dev/null");
    host_say(&h, "{\"type\":\"check\",\"request_id\":\"c\",\"data\":{\"cache\":true}}\n");
    json_decref(host_answer(&h, "c"));
    assert_int_equal(program_entries("cache/darkroom/weights"), 0);
    draw_packed(&h, &now);
    assert_memory_equal(now.pixels, first.pixels, BYTES);
    assert_int_equal(program_entries("cache/darkroom/weights"), 1);
    run("rm -f cache/darkroom/weights/*");
    draw_packed(&h, &now);
    assert_memory_equal(now.pixels, first.pixels, BYTES);
    assert_int_equal(program_entries("cache/darkroom/weights"), 1);
    assert_int_equal(host_end(&h), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(each_file_edited),
    cmocka_unit_test(each_file_deleted_and_put_back),
    cmocka_unit_test(what_is_swapped_is_seen),
    cmocka_unit_test(an_edit_after_loading),
    cmocka_unit_test(two_models_in_turn),
    cmocka_unit_test(links_stay_in_the_folder_of_models),
    cmocka_unit_test(no_copy_goes_into_the_model),
    cmocka_unit_test(a_pack_that_changes_is_not_drawn_with),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
