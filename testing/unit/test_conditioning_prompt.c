/* test_conditioning_prompt.c - which text each encoder reads in which row, what is zeros, what is
 * cut, and what clip skip reaches. On the random-weight model of the golden vectors. */
#include "testing/helpers/odd_model.h"

#include <stdio.h>
#include <string.h>

#include "conditioning/prompt_cache.h"
#include "models/tokenizers/clip_tokenizer.h"

enum { LENGTH = 77 };

struct fixture {
    struct odd odd;
    struct tok *tok[PROMPT_ENCODERS];
    struct prompt_encoders encoders;
    struct prompt_embeds embeds;
};

static void open_fixture(struct fixture *f)
{
    struct dr_error err = { 0 };
    memset(f, 0, sizeof *f);
    odd_must(&f->odd, ODD_CPU, "scalar", 1);
    for (int i = 0; i < PROMPT_ENCODERS; i++) {
        if (checkpoint_tokenizer(f->odd.ckpt, i, NULL, &f->tok[i], &err))
            fail_msg("%s", err.text);
        f->encoders.encoder[i] = (struct prompt_encoder){
            .text = f->odd.clip[i], .tokens = f->tok[i], .pooled = i == 1, .layer = 2
        };
    }
    f->encoders.chunk = LENGTH;
    f->encoders.n_time_ids = PROMPT_TIME_IDS;
}

static void close_fixture(struct fixture *f)
{
    prompt_release(&f->embeds);
    for (int i = 0; i < PROMPT_ENCODERS; i++)
        tok_free(f->tok[i]);
    odd_close(&f->odd);
}

static struct prompt_request request(const char *prompt, const char *negative)
{
    return (struct prompt_request){
        .prompt = prompt, .negative = negative, .guidance = true, .clip_skip = 2
    };
}

static void tokenize(struct fixture *f, const struct prompt_request *q)
{
    struct dr_error err = { 0 };
    prompt_release(&f->embeds);
    if (prompt_tokenize(&f->encoders, q, &f->embeds, &err))
        fail_msg("%s", err.text);
}

static void encode(struct fixture *f, const struct prompt_request *q)
{
    struct dr_error err = { 0 };
    tokenize(f, q);
    if (prompt_encode(&f->encoders, &f->odd.x, &f->embeds, &err))
        fail_msg("%s", err.text);
}

/* Row `row` of encoder `e` holds the ids of `text`. */
static void reads(const struct fixture *f, int row, int e, const char *text)
{
    struct dr_error err = { 0 };
    int32_t ids[LENGTH];
    bool cut;
    if (tok_encode_padded(f->tok[e], text, strlen(text), LENGTH, ids, &cut, NULL, &err))
        fail_msg("%s", err.text);
    assert_memory_equal(f->embeds.ids[e] + row * LENGTH, ids, sizeof ids);
}

static void the_negative_row_is_first(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    struct prompt_request q = request("a red circle", "green triangles");
    tokenize(&f, &q);
    assert_int_equal(f.embeds.rows, 2);
    for (int e = 0; e < PROMPT_ENCODERS; e++) {
        reads(&f, 0, e, "green triangles");
        reads(&f, 1, e, "a red circle");
    }
    q.guidance = false;
    tokenize(&f, &q);
    assert_int_equal(f.embeds.rows, 1);
    reads(&f, 0, 0, "a red circle");
    assert_int_equal(f.embeds.n_warnings, 1);
    assert_non_null(strstr(f.embeds.warning[0], "the negative prompt is ignored"));
    q.negative = ""; /* asks for nothing */
    tokenize(&f, &q);
    assert_int_equal(f.embeds.n_warnings, 0);
    close_fixture(&f);
}

static void second_prompts_go_to_the_second_encoder(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    struct prompt_request q = request("a red circle", "green");
    q.prompt_2 = "the sea";
    q.negative_2 = "the dog!";
    tokenize(&f, &q);
    reads(&f, 0, 0, "green");
    reads(&f, 0, 1, "the dog!");
    reads(&f, 1, 0, "a red circle");
    reads(&f, 1, 1, "the sea");
    q.prompt_2 = q.negative_2 = ""; /* as if not given */
    tokenize(&f, &q);
    reads(&f, 0, 1, "green");
    reads(&f, 1, 1, "a red circle");
    assert_int_equal(f.embeds.n_warnings, 0);
    close_fixture(&f);
}

static bool all_zero(const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (v[i] != 0)
            return false;
    return true;
}

static void no_negative_is_zeros_where_the_model_says_so(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    struct prompt_request q = request("a red circle", NULL);
    q.zero_negative = true;
    q.negative_2 = "the dog";
    encode(&f, &q);
    struct prompt_embeds *m = &f.embeds;
    int64_t row = m->length * m->width;
    assert_true(m->zero_negative);
    assert_true(all_zero(m->text, row) && all_zero(m->pooled, m->pooled_width));
    assert_false(all_zero(m->text + row, row));
    assert_false(all_zero(m->pooled + m->pooled_width, m->pooled_width));
    reads(&f, 0, 0, "");
    reads(&f, 0, 1, "");
    assert_true(m->known[0] && !m->known[1]);
    assert_int_equal(m->n_warnings, 1);
    assert_non_null(strstr(m->warning[0], "negative_prompt_2 is ignored"));

    q.negative = ""; /* given, and empty: encoded */
    q.negative_2 = NULL;
    encode(&f, &q);
    assert_false(m->zero_negative || all_zero(m->text, row));
    assert_int_equal(m->n_warnings, 0);
    close_fixture(&f);
}

static void a_second_negative_counts_alone_where_nothing_is_zeroed(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    struct prompt_request q = request("a red circle", NULL);
    q.negative_2 = "the dog";
    tokenize(&f, &q);
    assert_int_equal(f.embeds.n_warnings, 0);
    reads(&f, 0, 0, "");
    reads(&f, 0, 1, "the dog");
    close_fixture(&f);
}

static void clip_skip_reaches_the_positive_row_only(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    struct prompt_request q = request("a red circle", "green");
    encode(&f, &q);
    struct prompt_embeds two = f.embeds, *m = &f.embeds;
    memset(m, 0, sizeof *m);
    q.clip_skip = 1;
    encode(&f, &q);
    size_t row = (size_t)(m->length * m->width) * sizeof *m->text;
    assert_memory_equal(m->text, two.text, row);
    assert_memory_not_equal((char *)m->text + row, (char *)two.text + row, row);
    assert_memory_equal(m->pooled, two.pooled, 2 * (size_t)m->pooled_width * sizeof *m->pooled);
    prompt_release(&two);
    close_fixture(&f);
}

/* The columns of the context are the first encoder's, then the second's. */
static void contexts_stand_side_by_side(void **state)
{
    (void)state;
    struct fixture f;
    struct dr_error err = { 0 };
    static float hidden[LENGTH * ODD_WIDTH2], pooled[ODD_POOLED];
    open_fixture(&f);
    struct prompt_request q = request("a red circle", "green");
    encode(&f, &q);
    const struct prompt_embeds *m = &f.embeds;
    assert_int_equal(m->width, ODD_CONTEXT);
    const float *row = m->text + m->length * m->width;
    for (int e = 0; e < PROMPT_ENCODERS; e++) {
        int64_t width = e ? ODD_WIDTH2 : ODD_WIDTH1;
        if (clip_text_encode(f.odd.clip[e], &f.odd.x, m->ids[e] + LENGTH, 1, LENGTH,
                             (struct clip_state){ .skip = 2 }, hidden, e ? pooled : NULL, &err))
            fail_msg("%s", err.text);
        for (int64_t i = 0; i < LENGTH; i++)
            assert_memory_equal(row + i * m->width + (e ? ODD_WIDTH1 : 0), hidden + i * width,
                                (size_t)width * sizeof *hidden);
    }
    assert_memory_equal(m->pooled + m->pooled_width, pooled, sizeof pooled);
    close_fixture(&f);
}

static void what_is_cut_is_said(void **state)
{
    (void)state;
    struct fixture f;
    char text[600] = "";
    open_fixture(&f);
    for (int i = 0; i < 90; i++)
        memcpy(text + 2 * i, "a ", 3);
    struct prompt_request q = request(text, text);
    tokenize(&f, &q);
    assert_int_equal(f.embeds.n_warnings, 2);
    assert_string_equal(f.embeds.warning[0],
                        "the negative prompt has 90 tokens; those after 75 are cut: "
                        "'a a a a a a a a a a a a a a a '");
    memcpy(text + 150, "the lost words of it, which are longer than forty letters", 58);
    q.prompt_2 = "short";
    tokenize(&f, &q);
    assert_int_equal(f.embeds.n_warnings, 2);
    assert_non_null(strstr(f.embeds.warning[1], "the prompt has "));
    assert_non_null(strstr(f.embeds.warning[1], " tokens for the first encoder; those after 75 are "
                                                "cut: 'the lost words of it, which are longer t"
                                                "...'"));
    q.prompt_2 = NULL;
    memset(text, 'b', 500); /* one word */
    tokenize(&f, &q);
    assert_non_null(strstr(f.embeds.warning[1], "are cut: 'bbbb"));
    memcpy(text, "a a a ", 7);
    for (int i = 0; i < 75; i++)
        memcpy(text + 2 * i, "a ", 3); /* 75 fit */
    tokenize(&f, &q);
    assert_int_equal(f.embeds.n_warnings, 0);
    close_fixture(&f);
}

static void sizes_come_height_first(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    struct prompt_request q = request("", "");
    q.original_height = 1;
    q.original_width = 2;
    q.crop_top = 3;
    q.crop_left = 4;
    q.target_height = 5;
    q.target_width = 65536;
    tokenize(&f, &q);
    static const float expected[12] = { 1, 2, 3, 4, 5, 65536, 1, 2, 3, 4, 5, 65536 };
    assert_memory_equal(f.embeds.time_ids, expected, sizeof expected);
    close_fixture(&f);
}

static void text_that_is_no_utf8_is_an_error(void **state)
{
    (void)state;
    struct fixture f;
    struct dr_error err = { 0 };
    open_fixture(&f);
    uint64_t blocks = test_blocks();
    struct prompt_request q = request("fine", "caf\xe9");
    assert_int_equal(prompt_tokenize(&f.encoders, &q, &f.embeds, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "negative"));
    assert_true(test_blocks() == blocks);
    close_fixture(&f);
}

/* ---- texts that come again ---- */

static void found(struct fixture *f, struct prompt_cache *c, const struct prompt_request *q,
                  bool first, bool second)
{
    tokenize(f, q);
    prompt_cache_find(c, &f->embeds);
    assert_int_equal(f->embeds.known[0], first);
    assert_int_equal(f->embeds.known[1], second);
}

static void a_text_is_encoded_once(void **state)
{
    (void)state;
    struct fixture f;
    struct prompt_cache c = { 0 };
    open_fixture(&f);
    struct prompt_request q = request("a red circle", "green");
    found(&f, &c, &q, false, false);
    size_t growth = prompt_cache_growth(&c, &f.embeds);
    encode(&f, &q);
    prompt_cache_keep(&c, &f.embeds);
    assert_int_equal(dr_alloc_stats(DR_TAG_PROMPT).bytes, growth);
    struct prompt_embeds computed = f.embeds, *m = &f.embeds;
    memset(m, 0, sizeof *m);
    found(&f, &c, &q, true, true);
    assert_int_equal(prompt_cache_growth(&c, m), 0);
    assert_memory_equal(m->text, computed.text, 2 * sizeof *m->text * LENGTH * ODD_CONTEXT);
    assert_memory_equal(m->pooled, computed.pooled, 2 * sizeof *m->pooled * ODD_POOLED);
    prompt_release(&computed);

    q.clip_skip = 1; /* of the positive row only */
    found(&f, &c, &q, true, false);
    assert_int_equal(prompt_cache_growth(&c, m), growth / 2);
    q = request("green", "a red circle");
    found(&f, &c, &q, true, true);
    q.prompt_2 = "a red circle";
    found(&f, &c, &q, true, false);
    q = request("a red circle", NULL);
    q.zero_negative = true;
    found(&f, &c, &q, true, true);
    assert_true(all_zero(m->text, LENGTH * ODD_CONTEXT));
    prompt_cache_release(&c);
    close_fixture(&f);
}

/* A text of one number, which is its embedding too. */
static void number(struct fixture *f, struct prompt_cache *c, int i, bool keep)
{
    char text[16];
    snprintf(text, sizeof text, "%d", i);
    struct prompt_request q = request(text, NULL);
    q.guidance = false;
    tokenize(f, &q);
    prompt_cache_find(c, &f->embeds);
    if (keep) {
        f->embeds.text[0] = (float)i;
        prompt_cache_keep(c, &f->embeds);
    }
}

static void texts_not_asked_for_go(void **state)
{
    (void)state;
    enum { MORE = 6 };
    struct fixture f;
    struct prompt_cache c = { 0 };
    open_fixture(&f);
    for (int i = 0; i < PROMPT_CACHE_ENTRIES; i++)
        number(&f, &c, i, true);
    size_t full = dr_alloc_stats(DR_TAG_PROMPT).bytes;
    number(&f, &c, 3, false); /* asked for: stays */
    for (int i = 0; i < MORE; i++)
        number(&f, &c, PROMPT_CACHE_ENTRIES + i, true);
    assert_int_equal(dr_alloc_stats(DR_TAG_PROMPT).bytes, full);
    assert_true(full <= PROMPT_CACHE_BYTES);
    for (int i = 0; i < PROMPT_CACHE_ENTRIES + MORE; i++) {
        number(&f, &c, i, false);
        assert_int_equal(f.embeds.known[0], i == 3 || i > MORE);
        assert_true(f.embeds.text[0] == (f.embeds.known[0] ? (float)i : 0));
    }
    prompt_cache_release(&c);
    assert_int_equal(dr_alloc_stats(DR_TAG_PROMPT).bytes, 0);
    close_fixture(&f);
}

/* Three chunks in a row, by hand: the later feature cuts a prompt so. */
static void glue_chunks(struct fixture *f, const char *const texts[3], struct prompt_embeds *ret)
{
    struct prompt_embeds *m = &f->embeds;
    for (int i = 0; i < 3; i++) {
        struct prompt_request q = request(texts[i], NULL);
        q.guidance = false;
        tokenize(f, &q);
        if (!i) {
            *ret = *m;
            memset(m->ids, 0, sizeof m->ids);
            m->text = m->pooled = m->time_ids = NULL;
            ret->chunks[0] = 3;
            ret->tokens[0] = 3 * LENGTH;
            ret->length = 3 * LENGTH;
            ret->text = dr_realloc(DR_TAG_JOB, ret->text,
                                   (size_t)(ret->length * ret->width) * sizeof *ret->text);
            assert_non_null(ret->text);
        }
        for (int e = 0; e < PROMPT_ENCODERS; e++) {
            if (!i)
                ret->ids[e] = dr_realloc(DR_TAG_JOB, ret->ids[e],
                                         (size_t)ret->length * sizeof *ret->ids[e]);
            else
                memcpy(ret->ids[e] + i * LENGTH, m->ids[e], LENGTH * sizeof *m->ids[e]);
        }
    }
}

/* Hidden states follow each other, the pooled embedding is the first chunk's; the cache tells texts
 * of different length apart and counts what it will take. */
static void a_text_of_three_chunks(void **state)
{
    (void)state;
    static const char *const texts[3] = { "a red circle", "green triangles", "a red circle" };
    struct fixture f;
    struct dr_error err = { 0 };
    struct prompt_cache c = { 0 };
    struct prompt_embeds m;
    open_fixture(&f);
    glue_chunks(&f, texts, &m);
    if (prompt_encode(&f.encoders, &f.odd.x, &m, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < 3; i++) {
        struct prompt_request q = request(texts[i], NULL);
        q.guidance = false;
        encode(&f, &q);
        assert_memory_equal(m.text + i * LENGTH * m.width, f.embeds.text,
                            (size_t)(LENGTH * m.width) * sizeof *m.text);
        assert_int_equal(memcmp(m.pooled, f.embeds.pooled, ODD_POOLED * sizeof(float)) == 0,
                         i != 1);
    }
    size_t growth = prompt_cache_growth(&c, &f.embeds); /* "a red circle" alone */
    prompt_cache_keep(&c, &f.embeds);
    assert_int_equal(dr_alloc_stats(DR_TAG_PROMPT).bytes, growth);
    prompt_cache_find(&c, &m);
    assert_false(m.known[0]);
    growth += prompt_cache_growth(&c, &m);
    prompt_cache_keep(&c, &m);
    assert_int_equal(dr_alloc_stats(DR_TAG_PROMPT).bytes, growth);
    float first = m.text[0];
    m.text[0] = 0;
    prompt_cache_find(&c, &m);
    assert_true(m.known[0] && m.text[0] == first);
    m.known[0] = false;
    m.ids[0][2 * LENGTH + 1] ^= 1; /* in the last chunk */
    prompt_cache_find(&c, &m);
    assert_false(m.known[0]);
    prompt_cache_release(&c);
    prompt_release(&m);
    close_fixture(&f);
}

static int scenario(void *ctx, struct dr_error *err)
{
    struct fixture *f = ctx;
    struct prompt_request q = request("a red circle", "green");
    struct prompt_embeds m;
    int r = prompt_tokenize(&f->encoders, &q, &m, err);
    if (r < 0)
        return r;
    struct prompt_cache cache = { 0 };
    r = prompt_encode(&f->encoders, &f->odd.x, &m, err);
    if (!r)
        prompt_cache_keep(&cache, &m);
    prompt_cache_release(&cache);
    prompt_release(&m);
    return r;
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    test_oom_walk(scenario, &f);
    close_fixture(&f);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_negative_row_is_first),
        cmocka_unit_test(second_prompts_go_to_the_second_encoder),
        cmocka_unit_test(no_negative_is_zeros_where_the_model_says_so),
        cmocka_unit_test(a_second_negative_counts_alone_where_nothing_is_zeroed),
        cmocka_unit_test(clip_skip_reaches_the_positive_row_only),
        cmocka_unit_test(contexts_stand_side_by_side),
        cmocka_unit_test(what_is_cut_is_said),
        cmocka_unit_test(sizes_come_height_first),
        cmocka_unit_test(text_that_is_no_utf8_is_an_error),
        cmocka_unit_test(a_text_is_encoded_once),
        cmocka_unit_test(texts_not_asked_for_go),
        cmocka_unit_test(a_text_of_three_chunks),
        cmocka_unit_test(survives_failing_allocations),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
