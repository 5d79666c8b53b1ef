/* test_cli.c - the program from outside: statuses, words, files. */
#include "testing/helpers/program.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/image/image.h"
#include "base/json.h"

/* The options of a quick picture, then the test's own. */
#define QUICK_OF(prompt)                                                                           \
    "generate", "-m", program_model(), "-p", prompt, "-W", "64", "-H", "48", "--steps", "2"
#define QUICK QUICK_OF("a red circle")

static void read_whole(const char *path, struct buf *ret)
{
    struct dr_error err = { 0 };
    buf_init(ret, DR_TAG_TEST, 0);
    if (dr_read_file(path, 64 << 20, ret, &err))
        fail_msg("%s", err.text);
}

static void must_be_picture(const char *path, enum img_format format)
{
    struct buf bytes;
    int64_t width, height;
    read_whole(path, &bytes);
    assert_int_equal(img_sniff(bytes.data, bytes.len), format);
    assert_int_equal(img_probe(bytes.data, bytes.len, &width, &height, NULL), 0);
    assert_int_equal(width, 64);
    assert_int_equal(height, 48);
    buf_free(&bytes);
}

static void must_say(int status, const char *words, const char *a, const char *b, const char *c)
{
    struct program p;
    program_run(&p, -1, a, b, c, NULL);
    if (p.status != status || !strstr(program_err(&p), words) || p.out.len)
        fail_msg("%s %s %s: status %d: %s", a, b ? b : "", c ? c : "", p.status, program_err(&p));
    /* one line */
    assert_non_null(strchr(program_err(&p), '\n'));
    assert_string_equal(strchr(program_err(&p), '\n'), "\n");
    assert_memory_equal(program_err(&p), "darkroom: ", 10);
    program_free(&p);
}

static void mistakes_are_one_line_and_status_2(void **state)
{
    (void)state;
    program_folder();
    must_say(2, "genrate: no such verb (nearest: generate)", "genrate", NULL, NULL);
    must_say(2, "--widht: no such option (nearest: --width)", "generate", "--widht", "3");
    must_say(2, "--prompt is missing", "generate", NULL, NULL);
    must_say(2, "--steps: got 0, expected an integer from 1 to 1000", "generate", "--steps", "0");
    must_say(2, "--cfg: got nan", "generate", "--cfg", "nan");
    must_say(2, "--format: got gif, expected one of png, jpeg, webp", "generate", "--format",
             "gif");
    must_say(2, "--original-size: got 5", "generate", "--original-size", "5");
    must_say(2,
             "generate: unexpected argument 'a', expected options only (a prompt follows -p or "
             "--prompt, in quotes: -p \"a red circle\")",
             "generate", "a", "red");
    must_say(2, "plan: unexpected argument 'what', expected options only (a prompt follows -p",
             "plan", "what", NULL);
    must_say(2, "bench: unexpected argument 'x', expected options only (see darkroom help bench)",
             "bench", "x", NULL);
    must_say(2,
             "tokens: unexpected argument 'red', expected only TEXT (put text with blanks in "
             "quotes; see darkroom help tokens)",
             "tokens", "a", "red");
    must_say(2, "help: unexpected argument 'plan'", "help", "generate", "plan");
    must_say(2,
             "convert: got nothing to do, expected a file to copy with weights of another --type",
             "convert", NULL, NULL);
    must_say(2, "(darkroom convert MODEL -o COPY --type f16)\n", "convert", "-o", "copy");
    must_say(2, "--output: got nothing, expected a path for the copy", "convert", "--int8", NULL);
    must_say(2, "--quiet: got yes", "generate", "--quiet=yes", NULL);
    must_say(2, "-Z: no such option", "plan", "-Z", NULL);
    must_say(2, "--threads: got many", "generate", "-pthreads", "--threads=many");
    must_say(2, "expected a verb first", "-p", "x", NULL);
    must_say(2, "frob: no such verb or topic (see darkroom help)", "help", "frob", NULL);
    must_say(2, "samplres: no such verb or topic (nearest: samplers)", "help", "samplres", NULL);
    must_say(2, "genrate: no such verb or topic (nearest: generate)", "help", "genrate", NULL);
    must_say(2, "tokens: expected one text, as an argument or after -p", "tokens", NULL, NULL);
    must_say(2, "after -p, not both", "tokens", "x", "-px");
    must_say(2, "--model: empty path", "generate", "-px", "--model=");
    must_say(2, "--output: empty path", "generate", "-px", "--output=");
    must_say(2, "--dump-stages: empty path", "generate", "-px", "--dump-stages=");
    must_say(2, "--sampler: empty name", "generate", "-px", "--sampler=");
    must_say(2, "--kernels: empty name", "bench", "--kernels=", NULL);
    must_say(2, "--model: empty path", "tokens", "x", "--model=");
    must_say(2, "--config: empty path", "devices", "--config=", NULL);
    must_say(2, "inspect: empty path", "inspect", "", NULL);
    must_say(2, "--cfg-scale: got 7, expected the value of --cfg", "plan", "--cfg=5",
             "--cfg-scale=7");
    must_say(2, "--cfgscale: no such option (nearest: --cfg-scale)", "plan", "--cfgscale", "7");
    must_say(2, "--config: got nowhere, expected a file (no such file)", "plan", "--config",
             "nowhere");
    must_say(2, "cache: got sweep, expected list, clear or prune SIZE", "cache", "sweep", NULL);
    must_say(2, "cache: got prune, expected prune SIZE", "cache", "prune", NULL);
    must_say(2, "cache: got much, expected a size such as", "cache", "prune", "much");
    must_say(2, "cache: got 1G, expected nothing after", "cache", "clear", "1G");
    must_say(2, "expected one of --cache, --matrix, --quick", "check", "--cache", "--quick");
    must_say(2, "--threads: got 1025, expected an integer from 0 to 1024", "devices", "-t1025",
             NULL);
    must_say(2, "--encoder: got 3, expected 1|2", "tokens", "--encoder=3", "x");
    must_say(2, "bash, zsh or fish", "completion", "tcsh", NULL);
}

/* One wording, however it is written and whoever asks. */
static void a_missing_model_is_told_in_one_way(void **state)
{
    (void)state;
    static const char *const missing[] = { "no/such/model",
                                           "/no/such/model",
                                           "nosuchmodel",
                                           "./nosuch.safetensors",
                                           "" /* a link */,
                                           "stabilityai/sdxl",
                                           "https://host/sdxl.safetensors",
                                           "no/such.safetensors" };
    static const char *const verbs[][4] = { { "generate", "-px", "-m" },
                                            { "validate", "-px", "-m" },
                                            { "plan", "-px", "-m" },
                                            { "tokens", "x", "-m" },
                                            { "bench", "--only=unet_512", "-m" } };
    char text[400];
    program_folder();
    assert_int_equal(symlink("no/such/model", "link"), 0);
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        const char *name = *missing[i] ? missing[i] : "./link";
        struct program p;
        bool hub = !strcmp(name, "stabilityai/sdxl"), url = strstr(name, "://") != NULL;
        snprintf(text, sizeof text,
                 hub   ? "darkroom: --model: no such file or folder: %s (if this is a Hugging Face "
                         "id: it is not downloaded; give the path of a .safetensors file or "
                         "diffusers folder)\n"
                 : url ? "darkroom: --model: %s is a URL; download the file and give its path\n"
                       : "darkroom: --model: no such file, folder or model name: %s (see darkroom "
                         "help models)\n",
                 name);
        for (size_t v = 0; v < sizeof verbs / sizeof *verbs; v++) {
            program_run(&p, 1, verbs[v][0], verbs[v][1], verbs[v][2], name, NULL);
            assert_non_null(strstr(program_err(&p), text));
            program_free(&p);
        }
        program_run(&p, 1, "convert", "--int8", "-o", "copy", "-m", name, NULL);
        assert_non_null(strstr(program_err(&p), text));
        program_free(&p);
        program_run(&p, 1, "inspect", name, NULL); /* which has no such option */
        memmove(text + strlen("darkroom: "), text + strlen("darkroom: --model: "),
                strlen(text + strlen("darkroom: --model: ")) + 1);
        assert_string_equal(program_err(&p), text);
        program_free(&p);
    }
}

static void refused(int status, const char *words, const char *option, const char *value)
{
    struct program p;
    program_run(&p, -1, QUICK, "-q", option, value, NULL);
    if (p.status != status || !strstr(program_err(&p), words) || p.out.len)
        fail_msg("%s %s: status %d: %s", option, value, p.status, program_err(&p));
    program_free(&p);
}

static void the_engines_refusals_name_the_option(void **state)
{
    (void)state;
    const char *folder = program_folder();
    char file[300], wrong_stage[320], no_stage[320];
    snprintf(file, sizeof file, "%s", test_source("testing/golden/odd/unet_text.npy"));
    snprintf(wrong_stage, sizeof wrong_stage, "image=%s", file);
    snprintf(no_stage, sizeof no_stage, "imag=%s", file);
    refused(2, "darkroom: --width: got 1001, expected a multiple of 8 (nearest: 1000)\n", "-W",
            "1001");
    refused(2, "darkroom: --height: got 4095, expected a multiple of 8 (nearest: 4096)\n", "-H",
            "4095");
    refused(2, "--sampler: got eular", "--sampler", "eular");
    refused(2, "nearest: euler", "--sampler", "eular");
    refused(2, "--schedule: got nothing_such", "--schedule", "nothing_such");
    refused(2, "--kernels: got mmx", "--kernels", "mmx");
    refused(2, "--preset: got comfy", "--preset", "comfy");
    refused(2, "--clip-skip", "--clip-skip", "12");
    refused(1, "no/such/model", "-m", "no/such/model");
    refused(1, "missing: no such folder", "-o", "missing/a.png");
    refused(1, "no.npy: no such file", "--load-stage", "image=no.npy");
    refused(2, "--load-stage: got imag", "--load-stage", no_stage);
    refused(2, "--load-stage image: got float32 [", "--load-stage", wrong_stage);
    refused(2, "unet_text.npy, expected a folder, not a file", "--dump-stages", file);
    refused(2, "--output", "-o", "a.gif");
    refused(2, "got jpeg, expected png, as --output ends in .png", "--format=jpeg", "-oa.png");
    assert_int_equal(program_entries(folder), 0);
}

static void a_picture_goes_where_it_is_told(void **state)
{
    (void)state;
    struct program p;
    const char *folder = program_folder();
    program_run(&p, 0, QUICK, "-s", "5", "-o", "a.png", NULL);
    assert_int_equal(p.out.len, 0);
    assert_non_null(strstr(program_err(&p), "seed 5\n"));
    assert_non_null(strstr(program_err(&p), "step 2/2"));
    assert_non_null(strstr(program_err(&p), ": 64x48, 2 steps, "));
    assert_non_null(strstr(program_err(&p), "step 0/2"));
    assert_non_null(strstr(program_err(&p), "wrote a.png (seed 5, "));
    assert_non_null(strstr(program_err(&p), " s)\n"));
    assert_null(strchr(program_err(&p), '\r'));
    assert_null(strchr(program_err(&p), '\033'));
    program_free(&p);
    must_be_picture("a.png", IMG_PNG);
    program_run(&p, 0, QUICK, "-s", "5", "-o", "a.png", "--sampler", "dpm_adaptive", NULL);
    const char *last = strstr(program_err(&p), "evaluation ");
    for (const char *next; last && (next = strstr(last + 1, "evaluation ")); last = next)
        ;
    if (!last || strtol(last + 11, NULL, 10) < 4) /* it takes tens of them, in less than a second */
        fail_msg("%s", program_err(&p));
    program_free(&p);
    program_run(&p, 0, QUICK, "-s", "5", "-o", "a.jpg", "-q", NULL);
    assert_int_equal(p.out.len + p.err.len, 0);
    program_free(&p);
    must_be_picture("a.jpg", IMG_JPEG);
    program_run(&p, 0, QUICK, "-s", "5", "-q", "-o", "w", "--format", "webp", NULL);
    program_free(&p);
    must_be_picture("w", IMG_WEBP);
    program_run(&p, 0, QUICK, "-s", "5", "-q", NULL);
    program_free(&p);
    must_be_picture("darkroom-5.png", IMG_PNG);
    program_run(&p, 0, QUICK, "-s", "5", "-q", NULL);
    program_free(&p);
    must_be_picture("darkroom-5-1.png", IMG_PNG);
    program_run(&p, 0, QUICK, "-s", "5", "-q", "-o", "in/here/", NULL);
    program_free(&p);
    must_be_picture("in/here/darkroom-5.png", IMG_PNG);
    assert_int_equal(program_entries(folder), 6);
    assert_int_equal(program_entries("in/here"), 1);
}

/* Who would rather write another prompt need not wait for the picture. */
static void a_cut_prompt_is_told_first(void **state)
{
    (void)state;
    static const char warning[] = "warning: the prompt has 90 tokens; those after 75 are cut: "
                                  "'a a a a a a a a a a a a a a a '\n";
    struct program p;
    char words[181] = "";
    for (int i = 0; i < 90; i++)
        memcpy(words + 2 * i, "a ", 3);
    program_folder();
    program_run(&p, 0, QUICK_OF(words), "--prompt-syntax=plain", "-s", "5", "-o", "a.png", NULL);
    const char *told = strstr(program_err(&p), warning), *seed = strstr(program_err(&p), "seed 5");
    assert_true(told && seed && told < seed);
    assert_null(strstr(told + 1, "warning: "));
    program_free(&p);
    program_run(&p, 0, QUICK_OF(words), "--prompt-syntax=plain", "-s", "5", "-q", "-o", "a.png",
                NULL);
    assert_int_equal(p.err.len, 0);
    program_free(&p);
    program_run(&p, 0, "validate", "-m", program_model(), "-p", words, "--prompt-syntax=plain",
                NULL);
    assert_string_equal(program_out(&p), "valid\n");
    assert_non_null(strstr(program_err(&p), warning));
    program_free(&p);
    program_run(&p, 0, "plan", "-m", program_model(), "-p", words, "--prompt-syntax=plain", NULL);
    assert_non_null(strstr(program_err(&p), warning));
    program_free(&p);
    program_run(&p, 0, "plan", "-m", program_model(), "-p", words, "--prompt-syntax=plain", "-q",
                NULL);
    assert_int_equal(p.err.len, 0);
    program_free(&p);
}

static void a_batch_counts_its_seeds(void **state)
{
    (void)state;
    struct program p;
    struct buf one, of_batch;
    program_folder();
    program_run(&p, 0, QUICK, "-s", "7", "-b", "3", "-q", "-o", "b.png", NULL);
    program_free(&p);
    program_run(&p, 0, QUICK, "-s", "8", "-q", "-o", "b-%03d-{seed}.png", NULL);
    program_free(&p);
    assert_int_equal(program_entries("."), 4);
    must_be_picture("b-0.png", IMG_PNG);
    must_be_picture("b-2.png", IMG_PNG);
    read_whole("b-1.png", &of_batch);
    read_whole("b-000-8.png", &one);
    assert_int_equal(of_batch.len, one.len);
    assert_memory_equal(of_batch.data, one.data, one.len);
    buf_free(&one);
    buf_free(&of_batch);
}

static void the_same_request_gives_the_same_bytes(void **state)
{
    (void)state;
    struct program p, q;
    program_folder();
    program_run(&p, 0, QUICK, "-s", "9", "-t", "1", "-o", "-", NULL);
    program_run(&q, 0, QUICK, "-s", "9", "-t", "2", "-o", "-", NULL);
    assert_int_equal(img_sniff(p.out.data, p.out.len), IMG_PNG);
    assert_int_equal(p.out.len, q.out.len);
    assert_memory_equal(p.out.data, q.out.data, p.out.len);
    program_free(&q);
    program_run(&q, 0, QUICK, "-s", "10", "-o", "-", NULL);
    assert_false(p.out.len == q.out.len && !memcmp(p.out.data, q.out.data, p.out.len));
    program_free(&p);
    program_free(&q);
    assert_int_equal(program_entries("."), 0);
}

static void streams_hold_one_picture(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    refused(2, "only one picture", "-b2", "-o-");
    program_run(&p, 0, QUICK, "-q", "-o", "/dev/null", NULL);
    program_free(&p);
    struct stat st;
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
}

static void a_png_tells_how_it_was_made(void **state)
{
    (void)state;
    struct program p;
    struct buf bytes;
    struct dr_image image;
    struct img_texts texts;
    json_t *receipt;
    program_folder();
    program_run(&p, 0, QUICK, "-s", "11", "-n", "blur", "-q", "-o", "a.png", NULL);
    program_free(&p);
    read_whole("a.png", &bytes);
    assert_int_equal(img_decode(bytes.data, bytes.len, 3, &image, &texts, NULL), 0);
    const char *infotext = img_texts_find(&texts, "parameters");
    const char *json = img_texts_find(&texts, "darkroom");
    assert_non_null(infotext);
    assert_memory_equal(infotext, "a red circle\nNegative prompt: blur\nSteps: 2, ", 45);
    assert_non_null(strstr(infotext, "Seed: 11, Size: 64x48"));
    assert_int_equal(jx_parse(json, strlen(json), NULL, "receipt", &receipt, NULL), 0);
    assert_int_equal(json_integer_value(json_object_get(receipt, "seed")), 11);
    assert_int_equal(json_string_length(json_object_get(receipt, "model_sha256")), 64);
    assert_true(json_is_string(json_object_get(receipt, "kernels")));
    json_decref(receipt);
    img_texts_free(&texts);
    img_free(&image);
    buf_free(&bytes);
    program_run(&p, 0, QUICK, "-s", "11", "--no-metadata", "-q", "-o", "b.png", NULL);
    program_free(&p);
    read_whole("b.png", &bytes);
    assert_int_equal(img_decode(bytes.data, bytes.len, 3, &image, &texts, NULL), 0);
    assert_int_equal(texts.count, 0);
    img_texts_free(&texts);
    img_free(&image);
    buf_free(&bytes);
}

static void json_is_one_object(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    program_run(&p, 0, QUICK, "-b", "2", "-s", "3", "--json", "-o", "j/", NULL);
    json_t *o = program_json(&p);
    const json_t *images = json_object_get(o, "images");
    assert_int_equal(json_array_size(images), 2);
    for (int i = 0; i < 2; i++) {
        const json_t *one = json_array_get(images, (size_t)i);
        assert_int_equal(json_integer_value(json_object_get(one, "seed")), 3 + i);
        must_be_picture(json_string_value(json_object_get(one, "path")), IMG_PNG);
        const json_t *receipt = json_object_get(one, "receipt");
        assert_int_equal(json_integer_value(json_object_get(receipt, "seed")), 3 + i);
    }
    assert_true(json_is_true(json_object_get(o, "success")));
    assert_true(json_number_value(json_object_get(o, "seconds")) > 0);
    assert_true(json_is_object(json_object_get(o, "stage_seconds")));
    assert_true(json_is_array(json_object_get(o, "warnings")));
    assert_true(json_integer_value(json_object_get(o, "peak_bytes")) > 0);
    json_decref(o);
    program_free(&p);
}

static void a_random_seed_is_told_and_repeats(void **state)
{
    (void)state;
    struct program p;
    long long first, second;
    char seed[32];
    struct buf a, b;
    program_folder();
    program_run(&p, 0, QUICK, "-o", "a.png", NULL);
    assert_int_equal(sscanf(strstr(program_err(&p), "seed"), "seed %lld", &first), 1);
    program_free(&p);
    program_run(&p, 0, QUICK, "-s", "-1", "-o", "b.png", NULL);
    assert_int_equal(sscanf(strstr(program_err(&p), "seed"), "seed %lld", &second), 1);
    program_free(&p);
    assert_true(first != second);
    snprintf(seed, sizeof seed, "%lld", first);
    program_run(&p, 0, QUICK, "-s", seed, "-q", "-o", "c.png", NULL);
    program_free(&p);
    read_whole("a.png", &a);
    read_whole("c.png", &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    buf_free(&a);
    buf_free(&b);
}

static void stages_are_dumped_and_loaded(void **state)
{
    (void)state;
    struct program p;
    struct buf a, b;
    const char *folder = program_folder();
    program_run(&p, 0, "plan", "-m", program_model(), "-W64", "-H48", "--dump-stages", "new/dump",
                NULL);
    program_free(&p);
    assert_int_equal(program_entries(folder), 0); /* a plan makes nothing */
    program_run(&p, 0, QUICK, "-s", "1", "-q", "-o", "a.png", "--dump-stages", "new/dump", NULL);
    program_free(&p);
    assert_true(dr_is_file("new/dump/latents_init.npy"));
    assert_true(dr_is_file("new/dump/image.npy"));
    /* stages of one run are never mixed with, or replaced by, another's */
    static const char *const again[] = { "generate", "validate", "plan" };
    for (size_t i = 0; i < sizeof again / sizeof *again; i++) {
        program_run(&p, 2, again[i], "-m", program_model(), "-px", "-W64", "-H48", "--dump-stages",
                    "new/dump", NULL);
        assert_non_null(strstr(program_err(&p), "without stages of an earlier run"));
        program_free(&p);
    }
    /* another seed with the first one's noise, through a link */
    assert_int_equal(symlink("dump/latents_init.npy", "new/noise.npy"), 0);
    program_run(&p, 0, QUICK, "-s", "2", "-q", "-o", "b.png", "--no-metadata", "--load-stage",
                "latents_init=new/noise.npy", NULL);
    program_free(&p);
    program_run(&p, 0, QUICK, "-s", "1", "-q", "-o", "c.png", "--no-metadata", NULL);
    program_free(&p);
    read_whole("b.png", &a);
    read_whole("c.png", &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    buf_free(&a);
    buf_free(&b);
}

static void other_verbs_answer(void **state)
{
    (void)state;
    struct program p;
    json_t *o;
    program_folder();
    program_run(&p, 0, "tokens", "a red circle", "--clip", "--json", NULL);
    assert_ptr_equal(
        strstr(program_out(&p), "{\"success\":true,\"ids\":[320,736,7117],\"seconds\":"),
        program_out(&p));
    program_free(&p);
    program_run(&p, 0, "tokens", "--clip", "-p", "a red circle", NULL);
    assert_string_equal(program_out(&p), "320 736 7117\n");
    program_free(&p);
    program_run(&p, 0, "tokens", "", "--json", NULL);
    assert_ptr_equal(strstr(program_out(&p), "{\"success\":true,\"ids\":[],\"seconds\":"),
                     program_out(&p));
    program_free(&p);
    program_run(&p, 0, "tokens", "-m", program_model(), "--encoder", "2", "a", "--json", NULL);
    o = program_json(&p);
    assert_int_equal(json_object_size(o), 3);
    json_decref(o);
    program_free(&p);
    program_run(&p, 0, "inspect", program_model(), "--json", NULL);
    o = program_json(&p);
    assert_true(json_is_string(json_object_get(o, "kind")));
    json_decref(o);
    program_free(&p);
    program_run(&p, 0, "inspect", program_model(), NULL);
    assert_non_null(strstr(program_out(&p), "sha256"));
    program_free(&p);
    program_run(&p, 0, "plan", "-m", program_model(), "-W64", "-H64", "--json", NULL);
    o = program_json(&p);
    assert_true(json_integer_value(json_object_get(o, "peak_bytes")) > 0);
    json_decref(o);
    program_free(&p);
    program_run(&p, 0, "plan", "-m", program_model(), "-W64", "-H64", NULL);
    assert_non_null(strstr(program_out(&p), "denoise"));
    assert_non_null(strstr(program_out(&p), "peak "));
    program_free(&p);
    program_run(&p, 0, "devices", "--json", NULL);
    o = program_json(&p);
    assert_true(json_array_size(json_object_get(o, "devices")) > 0);
    json_decref(o);
    program_free(&p);
    program_run(&p, 0, "validate", "-m", program_model(), "-p", "x", NULL);
    assert_string_equal(program_out(&p), "valid\n");
    program_free(&p);
    program_run(&p, 2, "validate", "-m", program_model(), "-W", "1001", NULL);
    program_free(&p);
}

static void words_come_from_the_tables(void **state)
{
    (void)state;
    struct program p;
    program_run(&p, 0, NULL);
    assert_non_null(strstr(program_out(&p), "generate"));
    program_free(&p);
    program_run(&p, 0, "--help", NULL);
    program_free(&p);
    program_run(&p, 0, "generate", "--help", NULL);
    assert_non_null(strstr(program_out(&p), "--cfg-rescale"));
    program_free(&p);
    program_run(&p, 0, "help", "plan", NULL);
    assert_memory_equal(program_out(&p), "usage: darkroom plan", 20);
    program_free(&p);
    program_run(&p, 0, "--version", NULL);
    assert_memory_equal(program_out(&p), "darkroom ", 9);
    program_free(&p);
    program_run(&p, 0, "man", NULL);
    assert_non_null(strstr(program_out(&p), ".TH DARKROOM 1"));
    assert_non_null(strstr(program_out(&p), ".TP\n\\fBschedules\\fR\nvalues"));
    program_free(&p);
    static const char *const shells[] = { "bash", "zsh", "fish" };
    for (int i = 0; i < 3; i++) {
        program_run(&p, 0, "completion", shells[i], NULL);
        assert_non_null(strstr(program_out(&p), "cfg-rescale"));
        assert_non_null(strstr(program_out(&p), "dpmpp_2m")); /* from the worker */
        program_free(&p);
    }
    program_run(&p, 0, "worker", "--version", NULL);
    assert_memory_equal(program_out(&p), "darkroom-worker", 15);
    program_free(&p);
    program_run(&p, 2, "worker", "x", NULL);
    assert_string_equal(program_err(&p), "darkroom-worker: unexpected argument 'x', expected "
                                         "options only (see darkroom-worker --help)\n");
    program_free(&p);
}

/* Runs a shell line with the program as $DARKROOM_BIN; its exit status. */
static int shell(const char *line)
{
    int status = system(line);
    return status == -1 ? -1 : status >> 8;
}

static void a_closed_stdout_is_no_crash(void **state)
{
    (void)state;
    program_folder();
    assert_int_equal(
        shell("{ sleep 0.1; \"$DARKROOM_BIN\" help generate; echo $? >status; } | true"), 0);
    assert_int_equal(shell("grep -qx 0 status"), 0);
    assert_int_equal(shell("\"$DARKROOM_BIN\" help generate >&- 2>err"), 1);
    assert_int_equal(shell("grep -q 'stdout: cannot write' err"), 0);
    assert_int_equal(shell("\"$DARKROOM_BIN\" version >/dev/full 2>err"), 1);
    assert_int_equal(shell("grep -q 'stdout: cannot write' err"), 0);
    assert_int_equal(shell("\"$DARKROOM_BIN\" tokens x <&- >&- 2>&-"), 1);
}

static void the_configuration_is_read(void **state)
{
    (void)state;
    struct program p;
    char text[1200], path[300];
    const char *folder = program_folder();
    snprintf(path, sizeof path, "%s/config", folder);
    program_configure(path);
    assert_int_equal(dr_mkdirs("config/darkroom", NULL), 0);
    snprintf(text, sizeof text, "model: %s\nwidth: 64\nheight: 48\nsteps: 2\n", program_model());
    assert_int_equal(dr_write_file("config/darkroom/config.yaml", text, strlen(text), NULL), 0);
    program_run(&p, 0, "generate", "-p", "x", "-o", "a.png", NULL);
    assert_null(strstr(program_err(&p), "shipped"));
    program_free(&p);
    must_be_picture("a.png", IMG_PNG);
    assert_int_equal(dr_write_file("config/darkroom/config.yaml", "modle: x\n", 9, NULL), 0);
    program_run(&p, 2, "generate", "-p", "x", NULL);
    assert_non_null(strstr(program_err(&p), "config.yaml:1: modle: no such key (nearest: model)"));
    program_free(&p);
    assert_int_equal(dr_write_file("config/darkroom/config.yaml", "model: tiny\n", 12, NULL), 0);
    program_run(&p, 0, "plan", "-p", "x", NULL);
    program_free(&p);
    assert_int_equal(dr_write_file("config/darkroom/config.yaml", "model: tinny\n", 13, NULL), 0);
    program_run(&p, 1, "plan", "-p", "x", NULL);
    assert_non_null(strstr(program_err(&p), "no such file, folder or model name: tinny"));
    program_free(&p);
    program_run(&p, 0, "version", NULL); /* which needs none */
    program_free(&p);
    program_configure(NULL);
}

/* The command line wins; a format counts more than a name where both are configured. */
static void a_configured_format_is_a_habit(void **state)
{
    (void)state;
    static const struct {
        const char *settings, *option, *value, *path;
        enum img_format format;
    } cases[] = {
        { "output: ../../a%d.jpg\nformat: webp\n", NULL, NULL, "a0.jpg", IMG_WEBP },
        { "output: ../../b%d.jpg\n", "--format", "png", "b0.jpg", IMG_PNG },
        { "output: ../../c%d.jpg\n", NULL, NULL, "c0.jpg", IMG_JPEG },
        { "format: webp\noutput: ../../d.png\n", "-o", "d.jpg", "d.jpg", IMG_JPEG },
    };
    struct program p;
    char text[1200], path[300];
    const char *folder = program_folder();
    snprintf(path, sizeof path, "%s/config", folder);
    program_configure(path);
    assert_int_equal(dr_mkdirs("config/darkroom", NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "model: %s\nwidth: 64\nheight: 48\nsteps: 2\n%s",
                 program_model(), cases[i].settings);
        assert_int_equal(dr_write_file("config/darkroom/config.yaml", text, strlen(text), NULL), 0);
        program_run(&p, 0, "generate", "-p", "x", cases[i].option, cases[i].value, NULL);
        program_free(&p);
        must_be_picture(cases[i].path, cases[i].format);
    }
    program_run(&p, 2, "generate", "-p", "x", "-o", "e.jpg", "--format", "png", NULL);
    program_free(&p);
    program_configure(NULL);
}

static void without_a_model_the_small_one_draws(void **state)
{
    (void)state;
    struct program p;
    if (!dr_is_file(test_source("share/models/tiny/model_index.json")))
        skip();
    program_folder();
    program_run(&p, 0, "generate", "-p", "a red circle", "--steps", "2", "-o", "a.png", NULL);
    assert_non_null(strstr(program_err(&p), "shipped"));
    program_free(&p);
    program_run(&p, 0, "generate", "-p", "a red circle", "--steps", "2", "-o", "a.png", "-q", NULL);
    assert_int_equal(p.err.len, 0);
    program_free(&p);
}

/* A worker whose kernels fail in one case, as a shell script: the whole check takes minutes. */
static void check_tells_what_failed(void **state)
{
    (void)state;
    static const char script[] =
        "#!/bin/sh\n"
        "answer() { printf '{\"success\":true,\"request_id\":\"%s\",\"data\":%s}\\n' \"$1\" "
        "\"$2\"; }\n"
        "one() { printf '{\"op\":\"%s\",\"kernels\":\"avx2\",\"case\":\"%s\",\"error\":1e-6,"
        "\"tolerance\":1e-5,\"passed\":%s,\"why\":\"so\"}' $1 $2 $3; }\n"
        "printf '{\"success\":true,\"status\":\"ready\",\"protocol\":1,\"version\":\"%s\"}\\n' "
        "\"$VERSION\"\n"
        "read line; answer darkroom-1 '{\"status\":\"healthy\"}'\n"
        "read line; printf '{\"success\":false,\"request_id\":\"unknown\",\"error\":\"no\","
        "\"error_code\":\"PROTOCOL_ERROR\"}\\n'\n"
        "read line; answer darkroom-2 '{\"cancelled\":false}'\n"
        "read line; answer darkroom-3 '{\"ids\":[320,736,7117]}'\n"
        "read line; answer darkroom-4 '{\"kernels\":['$(one linear a true),$(one add a true),"
        "$(one linear b $LINEAR)'],\"picture\":{\"prompt\":\"x\",\"largest_difference\":0,"
        "\"bytes_differing\":0,\"passed\":true},\"failed\":'$FAILED'}'\n";
    struct program p;
    char path[300], before[600];
    const char *worker = getenv("DARKROOM_WORKER");
    snprintf(before, sizeof before, "%s", worker ? worker : "");
    snprintf(path, sizeof path, "%s/worker", program_folder());
    assert_int_equal(dr_write_file(path, script, sizeof script - 1, NULL), 0);
    assert_int_equal(chmod(path, 0755), 0);
    setenv("DARKROOM_WORKER", path, 1);
    setenv("VERSION", DR_VERSION, 1);
    setenv("LINEAR", "true", 1);
    setenv("FAILED", "0", 1);
    program_run(&p, 0, "check", NULL);
    assert_non_null(strstr(program_out(&p), "✓ linear avx2                2 of 2 cases"));
    assert_non_null(strstr(program_out(&p), "9 checks, 0 failed\n"));
    assert_null(strstr(program_out(&p), "✗"));
    program_free(&p);
    setenv("LINEAR", "false", 1);
    setenv("FAILED", "1", 1);
    program_run(&p, 1, "check", NULL);
    assert_non_null(strstr(program_out(&p), "✗ linear avx2                1 of 2 cases"));
    assert_non_null(strstr(program_out(&p), "linear avx2, case b: so\n"));
    assert_non_null(strstr(program_out(&p), "9 checks, 1 failed\n"));
    program_free(&p);
    program_run(&p, 1, "check", "--json", NULL);
    json_t *o = program_json(&p);
    assert_true(json_is_false(json_object_get(o, "passed")));
    assert_int_equal(json_array_size(json_object_get(o, "protocol")), 5);
    json_decref(o);
    program_free(&p);
    setenv("DARKROOM_WORKER", before, 1);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(mistakes_are_one_line_and_status_2),
    cmocka_unit_test(a_missing_model_is_told_in_one_way),
    cmocka_unit_test(the_engines_refusals_name_the_option),
    cmocka_unit_test(a_picture_goes_where_it_is_told),
    cmocka_unit_test(a_cut_prompt_is_told_first),
    cmocka_unit_test(a_batch_counts_its_seeds),
    cmocka_unit_test(the_same_request_gives_the_same_bytes),
    cmocka_unit_test(streams_hold_one_picture),
    cmocka_unit_test(a_png_tells_how_it_was_made),
    cmocka_unit_test(json_is_one_object),
    cmocka_unit_test(a_random_seed_is_told_and_repeats),
    cmocka_unit_test(stages_are_dumped_and_loaded),
    cmocka_unit_test(other_verbs_answer),
    cmocka_unit_test(words_come_from_the_tables),
    cmocka_unit_test(a_closed_stdout_is_no_crash),
    cmocka_unit_test(the_configuration_is_read),
    cmocka_unit_test(a_configured_format_is_a_habit),
    cmocka_unit_test(without_a_model_the_small_one_draws),
    cmocka_unit_test(check_tells_what_failed),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
