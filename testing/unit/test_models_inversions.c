/* test_models_inversions.c - files of textual inversions: the forms that are read, and bad ones,
 * of which the error names file and tensor. */
#include "testing/helpers/test.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "models/adapters/textual_inversions.h"
#include "models/tokenizers/clip_tokenizer.h"
#include "testing/helpers/safetensors_writer.h"

enum { MOST = 75 };

static const char *path_of(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    return path;
}

struct tensor {
    const char *name, *dtype, *shape; /* name NULL: none */
};

static const char *write_file(const struct tensor *tensors, size_t n)
{
    struct st_writer *w = st_writer_new();
    for (size_t i = 0; i < n && tensors[i].name; i++)
        st_writer_add_text(w, tensors[i].name, tensors[i].dtype, tensors[i].shape);
    st_writer_save(w, path_of("e.safetensors"));
    st_writer_free(w);
    return path_of("e.safetensors");
}

static int read_file(const char *path, struct inversion_file *f, struct dr_error *err)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    int r = inversion_read(fd, path, MOST, f, err);
    close(fd);
    return r;
}

static void all_forms_are_read(void **state)
{
    (void)state;
    static const struct {
        struct tensor tensor[4];
        int parts;
        int64_t n[2], width[2];
        enum inversion_role role[2];
        const char *token;
    } cases[] = {
        { { { "emb_params", "F32", "3x768" } }, 1, { 3 }, { 768 }, { INVERSION_ANY }, NULL },
        { { { "string_to_param.*", "F16", "2x768" }, { "string_to_token.*", "I64", "" } },
          1,
          { 2 },
          { 768 },
          { INVERSION_ANY },
          NULL },
        { { { "<cat>", "BF16", "768" } }, 1, { 1 }, { 768 }, { INVERSION_ANY }, "<cat>" },
        { { { "cat", "F64", "1x1024" } }, 1, { 1 }, { 1024 }, { INVERSION_ANY }, NULL },
        { { { "clip_l", "F32", "2x768" }, { "clip_g", "F16", "3x1280" } },
          2,
          { 2, 3 },
          { 768, 1280 },
          { INVERSION_FIRST, INVERSION_SECOND },
          NULL },
        { { { "clip_g", "F32", "1280" } }, 1, { 1 }, { 1280 }, { INVERSION_SECOND }, NULL },
        { { { "emb_params", "F32", "75x8" } }, 1, { 75 }, { 8 }, { INVERSION_ANY }, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct inversion_file f;
        struct dr_error err = { 0 };
        const char *path = write_file(cases[i].tensor, 4);
        if (read_file(path, &f, &err))
            fail_msg("%s: %s", cases[i].tensor[0].name, err.text);
        assert_int_equal(f.n_parts, cases[i].parts);
        assert_int_equal(strlen(f.hex), 64);
        assert_true(!f.token == !cases[i].token && (!f.token || !strcmp(f.token, cases[i].token)));
        for (int k = 0; k < f.n_parts; k++) {
            assert_true(f.part[k].n == cases[i].n[k] && f.part[k].width == cases[i].width[k]);
            assert_int_equal(f.part[k].role, cases[i].role[k]);
            assert_true(isfinite(f.part[k].vectors[f.part[k].n * f.part[k].width - 1]));
        }
        inversion_release(&f);
    }
}

static void must_refuse(const char *path, int code, const char *words)
{
    struct inversion_file f;
    struct dr_error err = { 0 };
    uint64_t blocks = test_blocks();
    int r = read_file(path, &f, &err);
    if (r != code || !strstr(err.text, words) || !strstr(err.text, path))
        fail_msg("%d, expected %d and '%s': %s", r, code, words, err.text);
    assert_true(test_blocks() == blocks);
}

static void bad_files_are_named_with_their_tensor(void **state)
{
    (void)state;
    static const struct {
        struct tensor tensor[4];
        int code;
        const char *words;
    } cases[] = {
        { { { "emb_params", "F32", "0x768" } },
          DR_EFORMAT,
          "tensor emb_params: got F32 [0, 768], expected one vector or more" },
        { { { "emb_params", "F32", "3x0" } }, DR_EFORMAT, "expected one vector or more" },
        { { { "emb_params", "F16", "1000000x1" } },
          DR_ELIMIT,
          "tensor emb_params: got 1000000 vectors, expected at most 75" },
        { { { "clip_l", "F32", "2x8" }, { "clip_g", "F32", "76x8" } },
          DR_ELIMIT,
          "tensor clip_g: got 76 vectors" },
        { { { "emb_params", "I64", "3x768" } }, DR_EFORMAT, "got I64 [3, 768], expected the vec" },
        { { { "emb_params", "F32", "1x3x768" } }, DR_EFORMAT, "got F32 [1, 3, 768]" },
        { { { "emb_params", "F32", "" } }, DR_EFORMAT, "tensor emb_params: got F32 []" },
        { { { "a", "F32", "1x8" }, { "b", "F32", "1x8" } },
          DR_EFORMAT,
          "tensor b: got F32 [1, 8]" },
        { { { "clip_g", "F32", "1x8" }, { "clip_l", "F32", "1x8" }, { "x", "F32", "1x8" } },
          DR_EFORMAT,
          "tensor x: " },
        { { { "clip_g", "F32", "1x8" }, { "emb_params", "F32", "1x8" } },
          DR_EFORMAT,
          "tensor emb_params: " },
        { { { "string_to_token.*", "I64", "" } }, DR_EFORMAT, "no tensor of a textual inversion" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        must_refuse(write_file(cases[i].tensor, 4), cases[i].code, cases[i].words);
}

static void values_are_finite(void **state)
{
    (void)state;
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    const int64_t shape[] = { 3, 5 };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        float v[15] = { 1 };
        struct st_writer *w = st_writer_new();
        v[12] = bad[i];
        st_writer_add(w, "clip_l", "F32", 2, shape, v);
        st_writer_save(w, path_of("nan.safetensors"));
        st_writer_free(w);
        must_refuse(path_of("nan.safetensors"), DR_EFORMAT, "in vector 2, expected finite numbers");
    }
}

static void cut_and_foreign_files_are_refused(void **state)
{
    (void)state;
    static const struct tensor pair[] = { { "clip_l", "F32", "2x8" }, { "clip_g", "F32", "2x8" } };
    struct buf bytes;
    struct dr_error err = { 0 };
    buf_init(&bytes, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(write_file(pair, 2), 1 << 20, &bytes, &err), 0);
    for (size_t n = 0; n < bytes.len; n += 1 + bytes.len / 40) {
        assert_int_equal(dr_write_file(path_of("cut"), bytes.data, n, &err), 0);
        must_refuse(path_of("cut"), DR_EFORMAT, "");
    }
    buf_free(&bytes);
    assert_int_equal(dr_write_file(path_of("e.pt"), "PK\3\4 archive/data.pkl", 22, &err), 0);
    must_refuse(path_of("e.pt"), DR_EFORMAT, "darkroom convert");
    assert_int_equal(dr_write_file(path_of("e.bin"), "\x80\2}q\1.", 6, &err), 0);
    must_refuse(path_of("e.bin"), DR_EFORMAT, "darkroom convert");
}

/* ---- which encoder ---- */

struct heard {
    int n;
    char text[400];
};

static void on_warning(void *ctx, const char *text)
{
    struct heard *h = ctx;
    h->n++;
    snprintf(h->text, sizeof h->text, "%s", text);
}

/* Encoders of these widths (0: none); SDXL's are 768 and 1280. */
static void fits(const struct tensor *tensors, int64_t first, int64_t second, int code,
                 const char *words, int64_t count_1, int64_t count_2)
{
    struct textual_inversions *s = dr_calloc(DR_TAG_TEST, 1, sizeof *s);
    struct dr_error err = { 0 };
    struct heard heard = { .n = 0 };
    struct tok *tok = NULL;
    const char *path = write_file(tensors, 2);
    if (!s || tok_open_builtin(TOK_CLIP_L, &tok, &err))
        fail_msg("%s", err.text);
    const struct inversion_encoder encoders[INVERSION_ENCODERS] = {
        { first ? tok : NULL, 49408, first }, { second ? tok : NULL, 49408, second }
    };
    int fd = open(path, O_RDONLY);
    if (textual_inversions_add(s, fd, path, "a new word", MOST, &err))
        fail_msg("%s", err.text);
    close(fd);
    int r = textual_inversions_fit(s, encoders, on_warning, &heard, &err);
    if (r != code || !strstr(r ? err.text : heard.text, words) || (!*words && heard.n))
        fail_msg("%s, %d and %d: %d: %s %s", tensors[0].name, (int)first, (int)second, r, err.text,
                 heard.text);
    if (!r)
        assert_true(s->item[0].count[0] == count_1 && s->item[0].count[1] == count_2);
    textual_inversions_release(s);
    dr_free(s);
    tok_free(tok);
}

static void the_width_says_which_encoder(void **state)
{
    (void)state;
    static const struct tensor single[] = { { "emb_params", "F32", "2x768" }, { .name = NULL } };
    static const struct tensor sd2[] = { { "emb_params", "F32", "1x1024" }, { .name = NULL } };
    static const struct tensor big[] = { { "<g>", "F32", "1280" }, { .name = NULL } };
    static const struct tensor pair[] = { { "clip_l", "F32", "2x768" },
                                          { "clip_g", "F32", "1x1280" } };
    static const struct tensor swapped[] = { { "clip_l", "F32", "2x1280" },
                                             { "clip_g", "F32", "1x768" } };
    fits(single, 768, 0, 0, "", 2, 0);
    fits(single, 768, 1280, 0, "no vectors for the second text encoder", 2, 0);
    fits(big, 768, 1280, 0, "no vectors for the first text encoder", 0, 1);
    fits(pair, 768, 1280, 0, "", 2, 1);
    fits(sd2, 1024, 0, 0, "", 1, 0);
    fits(single, 1024, 0, DR_EINVAL,
         "tensor emb_params: got vectors of 768, expected 1024 (first text encoder)", 0, 0);
    fits(sd2, 768, 1280, DR_EINVAL, "expected 768 (first text encoder), 1280 (second", 0, 0);
    fits(pair, 768, 0, DR_EINVAL, "tensor clip_g: got vectors of 1280", 0, 0);
    fits(swapped, 768, 1280, DR_EINVAL, "tensor clip_l: got vectors of 1280", 0, 0);
    fits(pair, 0, 1280, DR_EINVAL, "tensor clip_l: got vectors of 768", 0, 0);
}

static int scenario(void *ctx, struct dr_error *err)
{
    struct inversion_file f;
    int r = read_file(ctx, &f, err);
    if (!r)
        inversion_release(&f);
    return r;
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    static const struct tensor tensors[] = { { "<cat>", "F16", "2x768" }, { .name = NULL } };
    test_oom_walk(scenario, (void *)write_file(tensors, 2));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(all_forms_are_read),
    cmocka_unit_test(bad_files_are_named_with_their_tensor),
    cmocka_unit_test(values_are_finite),
    cmocka_unit_test(cut_and_foreign_files_are_refused),
    cmocka_unit_test(the_width_says_which_encoder),
    cmocka_unit_test(survives_failing_allocations),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
