/* test_models_bounds.c - files of a model that are large or long: read in linear time, ended by a
 * stop, refused where they would take much. */
#include "testing/helpers/model_folder.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/model_access.h"

enum { TENSORS = 64000, PER_NAME = 90 };

static int share; /* of the work: less of it where allocations fail */
static const char index_file[] = "unet/diffusion_pytorch_model.safetensors.index.json";

static double processor_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* The first half lies in one shard, then two take turns: who looks back for each tensor whether its
 * shard was seen walks half of the map each time. */
static const char *shard_of(int i, int n)
{
    return i < n / 2 ? "a" : i % 2 ? "b" : "c";
}

/* Tests that fail allocations count Darkroom's own, so it is one block of plain memory. */
struct text {
    char *data;
    size_t n, size;
};

static struct text text_new(size_t size)
{
    struct text t = { malloc(size), 0, size };
    assert_non_null(t.data);
    t.data[0] = '\0';
    return t;
}

static void say(struct text *t, const char *fmt, ...) DR_PRINTF(2, 3);

static void say(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    t->n += (size_t)vsnprintf(t->data + t->n, t->size - t->n, fmt, ap);
    va_end(ap);
    assert_true(t->n < t->size);
}

static void name_of(int i, char dst[PER_NAME + 1])
{
    snprintf(dst, PER_NAME + 1, "%0*d", PER_NAME, i);
}

static void make_shards(int n)
{
    struct st_writer *w[3] = { st_writer_new(), st_writer_new(), st_writer_new() };
    char name[PER_NAME + 1], path[64];
    struct text text = text_new((size_t)n * (PER_NAME + 30) + 100);
    say(&text, "{\"weight_map\":{");
    for (int i = 0; i < n; i++) {
        const char *shard = shard_of(i, n);
        name_of(i, name);
        st_writer_add_text(w[*shard - 'a'], name, "F32", "");
        say(&text, "%s\"%s\":\"%s.safetensors\"", i ? "," : "", name, shard);
    }
    say(&text, "}}");
    test_write_text(folder_path(index_file), text.data);
    free(text.data);
    for (int k = 0; k < 3; k++) {
        snprintf(path, sizeof path, "unet/%c.safetensors", 'a' + k);
        st_writer_save(w[k], folder_path(path));
        st_writer_free(w[k]);
    }
    unlink(folder_path("unet/diffusion_pytorch_model.safetensors"));
}

static void a_large_index_takes_linear_time(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct checkpoint *c;
    folder_make();
    make_shards(TENSORS / share);
    double start = processor_seconds();
    if (checkpoint_open(folder_root(), &c, &err))
        fail_msg("%s", err.text);
    double seconds = processor_seconds() - start;
    checkpoint_close(c);
    if (seconds > 4) /* 0.3 s; quadratic: 10 s and more */
        fail_msg("%.1f s for an index of %d tensors", seconds, TENSORS / share);
}

static void a_map_of_too_many_is_refused(void **state)
{
    (void)state;
    folder_make();
    struct text text = text_new(70000 * 24 + 100);
    say(&text, "{\"weight_map\":{");
    for (int i = 0; i < 70000; i++)
        say(&text, "%s\"%d\":\"s%d\"", i ? "," : "", i, i);
    say(&text, "}}");
    test_write_text(folder_path(index_file), text.data);
    free(text.data);
    unlink(folder_path("unet/diffusion_pytorch_model.safetensors"));
    folder_must_fail(DR_ELIMIT, "70000 tensors");
    test_write_text(folder_path(index_file), "{\"weight_map\":{\"a\":\"b\\nc\"}}");
    folder_must_fail(DR_EFORMAT, "expected names of files");
}

/* Headers of all shards together. */
static void long_headers_are_refused(void **state)
{
    (void)state;
    const size_t size = 20 << 20;
    char *text = malloc(size + 1), path[64];
    assert_non_null(text);
    memset(text, 'x', size);
    text[size] = '\0';
    folder_make();
    for (int k = 0; k < 3; k++) {
        struct st_writer *w = st_writer_new();
        char name[2] = { (char)('a' + k), 0 };
        st_writer_add_text(w, name, "F32", "");
        st_writer_metadata(w, "workflow", text);
        snprintf(path, sizeof path, "unet/%s.safetensors", name);
        st_writer_save(w, folder_path(path));
        st_writer_free(w);
    }
    free(text);
    test_write_text(folder_path(index_file), "{\"weight_map\":{\"a\":\"a.safetensors\",\"b\":\"b."
                                             "safetensors\",\"c\":\"c.safetensors\"}}");
    unlink(folder_path("unet/diffusion_pytorch_model.safetensors"));
    folder_must_fail(DR_ELIMIT, "headers of more than");
}

static void *stop_soon(void *stop)
{
    usleep(20000);
    atomic_store((atomic_int *)stop, 1);
    return NULL;
}

static void opening_ends_at_a_stop(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct checkpoint *c = NULL;
    atomic_int stop = 1;
    pthread_t thread;
    folder_make();
    make_shards(TENSORS / share);
    uint64_t blocks = test_blocks();
    double start = processor_seconds();
    assert_int_equal(checkpoint_open_in(NULL, folder_root(), &stop, &c, &err), DR_ECANCELED);
    assert_true(processor_seconds() - start < 1);
    assert_int_equal(test_blocks(), blocks);
    atomic_store(&stop, 0);
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, &stop), 0);
    int r = checkpoint_open_in(NULL, folder_root(), &stop, &c, &err);
    pthread_join(thread, NULL);
    assert_true(r == DR_ECANCELED || !r);
    if (!r)
        checkpoint_close(c);
}

static void json_ends_at_a_stop(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    atomic_int stop = 0;
    struct jx_limits limits = { .stop = &stop };
    json_t *value;
    assert_int_equal(jx_parse("[1]", 3, &limits, "text", &value, &err), 0);
    json_decref(value);
    atomic_store(&stop, 1);
    assert_int_equal(jx_parse("[1]", 3, &limits, "text", &value, &err), DR_ECANCELED);
}

/* Lists that are compared with each other, entry by entry. */
static void long_lists_of_tokens_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *begin, *before, *after, *end;
    } files[] = {
        { "added_tokens.json", "{", "t", ":7", "}" },
        { "special_tokens_map.json", "{\"additional_special_tokens\":[", "t", "", "]}" },
        { "tokenizer_config.json", "{\"extra_special_tokens\":[", "t", "", "]}" },
        { "tokenizer_config.json", "{\"added_tokens_decoder\":{", "", ":{\"content\":\"x\"}",
          "}}" },
    };
    const int n = 60000;
    char folder[64], path[128];
    struct text text = text_new((size_t)n * 40 + 100);
    folder_make();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct dr_error err = { 0 };
        struct tok *tok;
        text.n = 0;
        say(&text, "%s", files[i].begin);
        for (int k = 0; k < n; k++)
            say(&text, "%s\"%s%d\"%s", k ? "," : "", files[i].before, k, files[i].after);
        say(&text, "%s", files[i].end);
        snprintf(folder, sizeof folder, "tok%zu", i);
        snprintf(path, sizeof path, "%s/vocab.json", folder);
        test_write_text(folder_path(path), "{\"a\":0,\"b</w>\":1,\"ab</w>\":2}");
        snprintf(path, sizeof path, "%s/merges.txt", folder);
        test_write_text(folder_path(path), "a b</w>\n");
        snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        test_write_text(folder_path(path), text.data);
        double start = processor_seconds();
        int r = tok_open_folder(folder_path(folder), &tok, &err);
        if (r != DR_ELIMIT)
            fail_msg("%s: %d %s", files[i].name, r, err.text);
        assert_true(processor_seconds() - start < 2);
    }
    free(text.data);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_large_index_takes_linear_time),
    cmocka_unit_test(a_map_of_too_many_is_refused),
    cmocka_unit_test(long_headers_are_refused),
    cmocka_unit_test(opening_ends_at_a_stop),
    cmocka_unit_test(json_ends_at_a_stop),
    cmocka_unit_test(long_lists_of_tokens_are_refused),
};

int main(int argc, char **argv)
{
    share = argc > 1 && !strcmp(argv[1], "--oom") ? 1000 : 1;
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
