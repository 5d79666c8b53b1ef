/* test_conditioning_embeddings.c - prompts with textual inversions: the reference's embeddings,
 * which row has which word, what the cache keeps apart. On the model and the vectors of
 * tools/golden/embeddings.py. */
#include "testing/helpers/odd_model.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conditioning/prompt_cache.h"
#include "models/adapters/textual_inversions.h"
#include "models/tokenizers/clip_tokenizer.h"
#include "testing/helpers/base_files.h"

enum { LENGTH = 77 };

struct fixture {
    struct odd odd;
    struct tok *tok[PROMPT_ENCODERS];
    struct prompt_encoders encoders;
    struct prompt_embeds embeds;
    struct textual_inversions *set;
    int warnings;
    char warning[400];
};

static void open_fixture(struct fixture *f, const char *kernels)
{
    struct dr_error err = { 0 };
    memset(f, 0, sizeof *f);
    odd_must(&f->odd, ODD_CPU, kernels, 1);
    for (int i = 0; i < PROMPT_ENCODERS; i++) {
        if (checkpoint_tokenizer(f->odd.ckpt, i, NULL, &f->tok[i], &err))
            fail_msg("%s", err.text);
        f->encoders.encoder[i] = (struct prompt_encoder){
            .text = f->odd.clip[i], .tokens = f->tok[i], .pooled = i == 1, .layer = 2
        };
    }
    f->encoders.chunk = LENGTH;
    f->set = dr_calloc(DR_TAG_TEST, 1, sizeof *f->set);
    assert_non_null(f->set);
}

static void close_fixture(struct fixture *f)
{
    prompt_release(&f->embeds);
    textual_inversions_release(f->set);
    dr_free(f->set);
    for (int i = 0; i < PROMPT_ENCODERS; i++)
        tok_free(f->tok[i]);
    odd_close(&f->odd);
}

static int add(struct fixture *f, const char *file, const char *name, struct dr_error *err)
{
    char relative[160];
    snprintf(relative, sizeof relative, "testing/golden/embeddings/%s.safetensors", file);
    const char *path = test_source(relative);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    int r = textual_inversions_add(f->set, fd, path, name, LENGTH - 2, err);
    close(fd);
    return r;
}

static void on_warning(void *ctx, const char *text)
{
    struct fixture *f = ctx;
    f->warnings++;
    snprintf(f->warning, sizeof f->warning, "%s", text);
}

static int fit(struct fixture *f, struct dr_error *err)
{
    struct inversion_encoder encoders[INVERSION_ENCODERS];
    for (int i = 0; i < INVERSION_ENCODERS; i++)
        encoders[i] = (struct inversion_encoder){ f->tok[i], ODD_VOCAB,
                                                  i ? ODD_WIDTH2 : ODD_WIDTH1 };
    return textual_inversions_fit(f->set, encoders, on_warning, f, err);
}

/* All three, named as the reference has them. */
static void add_all(struct fixture *f)
{
    struct dr_error err = { 0 };
    if (add(f, "sea-style", "<sea-style>", &err) || add(f, "bad-hand", NULL, &err) ||
        add(f, "learned", NULL, &err) || fit(f, &err))
        fail_msg("%s", err.text);
}

static void encode(struct fixture *f, const char *prompt, const char *negative, bool compute)
{
    struct dr_error err = { 0 };
    struct prompt_request q = { .prompt = prompt,
                                .negative = negative,
                                .guidance = negative != NULL,
                                .clip_skip = 2,
                                .embeddings = f->set->n ? f->set : NULL };
    prompt_release(&f->embeds);
    if (prompt_tokenize(&f->encoders, &q, &f->embeds, &err) ||
        (compute && prompt_encode(&f->encoders, &f->odd.x, &f->embeds, &err)))
        fail_msg("%s", err.text);
}

static void must_agree(const char *name, const float *values, int64_t n)
{
    char path[160];
    struct npy reference;
    struct dr_error err = { 0 };
    snprintf(path, sizeof path, "testing/golden/embeddings/%s.npy", name);
    if (npy_load(test_source(path), &reference, &err))
        fail_msg("%s", err.text);
    assert_int_equal(reference.count, n);
    double error = test_rel_l2(values, reference.data, (size_t)n);
    print_message("%s: %.2g\n", name, error);
    if (!(error <= 1e-5))
        fail_msg("%s: %g from the reference", name, error);
    npy_free(&reference);
}

/* Two words of a pair, a word of one encoder in the negative, one of the other in the prompt; a
 * word that is cut in two at the end of the text. */
static void embeddings_are_the_reference_s(void **state)
{
    (void)state;
    static const char *const sets[] = { "scalar", NULL };
    char prompt[600];
    size_t used = 0;
    for (int i = 0; i < 16; i++)
        used += (size_t)snprintf(prompt + used, sizeof prompt - used, "the small red circle ");
    snprintf(prompt + used, sizeof prompt - used, "the old <sea-style>");
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct fixture f;
        open_fixture(&f, sets[i]);
        add_all(&f);
        assert_int_equal(f.warnings, 2); /* of each of the two that one encoder lacks */
        encode(&f, "a <sea-style> photo of the red <cat>, <sea-style>", "bad-hand", true);
        must_agree("both_text", f.embeds.text, 2 * LENGTH * ODD_CONTEXT);
        must_agree("both_pooled", f.embeds.pooled, 2 * ODD_POOLED);
        assert_int_equal(f.embeds.n_warnings, 0);
        encode(&f, prompt, NULL, true);
        must_agree("cut_text", f.embeds.text, LENGTH * ODD_CONTEXT);
        must_agree("cut_pooled", f.embeds.pooled, ODD_POOLED);
        close_fixture(&f);
    }
}

/* How many of the row's ids are of item i. */
static int count(const struct fixture *f, int item, int encoder, int row)
{
    const int32_t *ids = f->embeds.ids[encoder] + row * LENGTH;
    int n = 0;
    for (int k = 0; k < LENGTH; k++)
        n += textual_inversions_used(f->set, item, encoder, ODD_VOCAB, ids + k, 1);
    return n;
}

static void words_are_found_whole(void **state)
{
    (void)state;
    static const struct {
        const char *prompt;
        int sea, hand, cat; /* tokens: of the second, the first, the second encoder */
    } cases[] = {
        { "<sea-style>", 3, 0, 0 },
        { "x<sea-style>y <SEA-STYLE>", 6, 0, 0 },
        { "bad-hand", 0, 4, 0 },
        { "Bad-Hand, bad-hand", 0, 8, 0 },
        { "bad-hands abad-hand bad-hand_2 sbad-hand3", 0, 0, 0 },
        { "bad-hand-2", 0, 4, 0 },
        { "a <cat>, learned", 0, 0, 2 }, /* by both of its names */
        { "learnedly unlearned", 0, 0, 0 },
        { "sea style bad hand cat", 0, 0, 0 },
    };
    struct fixture f;
    open_fixture(&f, "scalar");
    add_all(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        encode(&f, cases[i].prompt, NULL, false);
        if (count(&f, 0, 1, 0) != cases[i].sea || count(&f, 1, 0, 0) != cases[i].hand ||
            count(&f, 2, 1, 0) != cases[i].cat)
            fail_msg("%s: %d, %d, %d", cases[i].prompt, count(&f, 0, 1, 0), count(&f, 1, 0, 0),
                     count(&f, 2, 1, 0));
        int unused = !cases[i].sea + !cases[i].hand + !cases[i].cat;
        assert_int_equal(f.embeds.n_warnings, unused);
        if (unused)
            assert_non_null(strstr(f.embeds.warning[0], "is not used: no prompt has '"));
    }
    close_fixture(&f);
}

/* A text with a word of one set is another text with that of another set; one without is not. */
static void the_cache_keeps_sets_apart(void **state)
{
    (void)state;
    static struct prompt_cache cache;
    struct fixture f;
    struct dr_error err = { 0 };
    open_fixture(&f, "scalar");
    assert_int_equal(add(&f, "sea-style", "w", &err), 0);
    assert_int_equal(fit(&f, &err), 0);
    encode(&f, "a w", "the sea", true);
    prompt_cache_keep(&cache, &f.embeds);
    static float text[2 * LENGTH * ODD_CONTEXT];
    memcpy(text, f.embeds.text, sizeof text);
    encode(&f, "a w", "the sea", false);
    prompt_cache_find(&cache, &f.embeds);
    assert_true(f.embeds.known[0] && f.embeds.known[1]);
    assert_memory_equal(f.embeds.text, text, sizeof text);
    prompt_release(&f.embeds);
    textual_inversions_release(f.set);
    assert_int_equal(add(&f, "bad-hand", "w", &err), 0); /* the same word and the same first id */
    assert_int_equal(fit(&f, &err), 0);
    encode(&f, "a w", "the sea", false);
    prompt_cache_find(&cache, &f.embeds);
    assert_true(f.embeds.known[0] && !f.embeds.known[1]);
    prompt_cache_release(&cache);
    close_fixture(&f);
}

static void names_collide_with_reason(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second; /* names of two; NULL: of one */
        int code;                   /* 0: a warning */
        const char *words;
    } cases[] = {
        { "w", "W", DR_EINVAL, "another name than that of the embedding" },
        { "bad  hand", " bad hand ", DR_EINVAL, "another name" },
        { "<|endoftext|>", NULL, DR_EINVAL, "no special token of the model" },
        { "\xc2\xa0", NULL, DR_EINVAL, "a word with a visible character" },
        { " ", NULL, DR_EINVAL, "a word of 1 to 256 bytes" },
        { "", NULL, DR_EINVAL, "a word of 1 to 256 bytes" },
        { "\xff", NULL, DR_EINVAL, "UTF-8" },
        { "the", NULL, 0, "'the' is a word that the model knows" },
    };
    struct fixture f;
    open_fixture(&f, "scalar");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dr_error err = { 0 };
        uint64_t blocks = test_blocks();
        int r = add(&f, "sea-style", cases[i].first, &err);
        if (!r && cases[i].second)
            r = add(&f, "sea-style", cases[i].second, &err);
        if (!r)
            r = fit(&f, &err);
        if (r != cases[i].code || !strstr(r ? err.text : f.warning, cases[i].words))
            fail_msg("'%s': %d: %s, %s", cases[i].first, r, err.text, f.warning);
        textual_inversions_release(f.set);
        assert_true(test_blocks() == blocks);
    }
    close_fixture(&f);
}

static int scenario(void *ctx, struct dr_error *err)
{
    struct fixture *f = ctx;
    int r = add(f, "sea-style", NULL, err);
    if (!r)
        r = add(f, "learned", NULL, err);
    if (!r)
        r = fit(f, err);
    struct prompt_request q = { .prompt = "a sea-style <cat>",
                                .clip_skip = 2,
                                .embeddings = f->set };
    if (!r)
        r = prompt_tokenize(&f->encoders, &q, &f->embeds, err);
    if (!r)
        r = prompt_encode(&f->encoders, &f->odd.x, &f->embeds, err);
    prompt_release(&f->embeds);
    textual_inversions_release(f->set);
    return r;
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, "scalar");
    test_oom_walk(scenario, &f);
    close_fixture(&f);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(embeddings_are_the_reference_s), cmocka_unit_test(words_are_found_whole),
    cmocka_unit_test(the_cache_keeps_sets_apart),     cmocka_unit_test(names_collide_with_reason),
    cmocka_unit_test(survives_failing_allocations),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
