/* test_conditioning_language.c - what prompts mean in each language: weights, chunks, editing,
 * parts. Values of the reference programs' own documentation where it has them, and vectors of
 * tools/golden/prompts.py. */
#include "testing/helpers/odd_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conditioning/prompt_cache.h"
#include "conditioning/prompt_editing.h"
#include "conditioning/prompt_language.h"
#include "conditioning/prompt_script.h"
#include "models/tokenizers/clip_tokenizer.h"
#include "testing/helpers/base_files.h"

enum { LENGTH = 77 };

/* ---- weights ---- */

/* Spans as "words|weight; ", BREAK as "/; ". */
static void splits(const struct prompt_language *language, const char *text, const char *expected)
{
    struct prompt_spans s;
    struct dr_error err = { 0 };
    char got[2000] = "";
    size_t used = 0;
    prompt_spans_init(&s);
    if (language->split("prompt", text, &s, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < s.n; i++) {
        const struct prompt_span *span = &s.span[i];
        if (span->ends_chunk)
            used += (size_t)snprintf(got + used, sizeof got - used, "/; ");
        else if (span->n)
            used += (size_t)snprintf(got + used, sizeof got - used, "%.*s|%.10g; ", (int)span->n,
                                     buf_text(&s.text) + span->at, span->weight);
    }
    assert_string_equal(got, expected);
    prompt_spans_release(&s);
}

static void refused(const struct prompt_language *language, const char *text, int code,
                    const char *words)
{
    struct prompt_spans s;
    struct dr_error err = { 0 };
    prompt_spans_init(&s);
    assert_int_equal(language->split("prompt_2", text, &s, &err), code);
    assert_string_equal(err.path, "prompt_2");
    assert_non_null(strstr(err.text, words));
    prompt_spans_release(&s);
}

static void weights_of_automatic1111(void **state)
{
    (void)state;
    static const struct {
        const char *text, *spans;
    } cases[] = {
        { "normal text", "normal text|1; " },
        { "an (important) word", "an |1; important|1.1; "
                                 " word|1; " },
        { "(unbalanced", "unbalanced|1.1; " },
        { "\\(literal\\]", "(literal]|1; " },
        { "(unnecessary)(parens)", "unnecessaryparens|1.1; " },
        { "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
          "a |1; house|1.573;  |1.1; on|1;  a |1.1; hill|0.55; , sun, |1.1; sky|1.4641; .|1.1; " },
        { "a) b]", "a) b]|1; " },
        { "a:1.2) b", "a:1.2) b|1; " },
        { "(a: -.5 )", "a|-0.5; " },
        { "(a:b)", "a:b|1.1; " },
        { "[a (b] c)", "a |0.9090909091; b|1;  c|1.1; " },
        { "a\\b \\\\", "ab \\|1; " },
        { "a BREAK b", "a|1; /; b|1; " },
        { "BREAKFAST BREAK(b BREAK c)", "BREAKFAST|1; /; b|1.1; /; c|1.1; " },
        { "a, BREAK, b", "a,|1; /; , b|1; " },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        splits(&prompt_a1111, cases[i].text, cases[i].spans);
    refused(&prompt_a1111, "(a:1.2.3)", DR_EINVAL, "weight 1.2.3");
    refused(&prompt_a1111, "(a:200)", DR_EINVAL, "expected a number from -100 to 100");
}

static void weights_of_comfyui(void **state)
{
    (void)state;
    static const struct {
        const char *text, *spans;
    } cases[] = {
        { "a (b:1.2) c", "a |1; b|1.2;  c|1; " },
        { "((b))", "b|1.21; " },
        { "(a (b:0.5):2)", "a |2; b|0.5; " },
        { "\\(a\\) [b]", "(a) [b]|1; " },
        { "(a", "(a|1; " },
        { "a) b", "a) b|1; " },
        { "(:1.5)", ":1.5|1.1; " },
        { "(a:b)", "a:b|1.1; " },
        { "(x\\):1.3)", "x)|1.3; " },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        splits(&prompt_comfyui, cases[i].text, cases[i].spans);
    refused(&prompt_comfyui, "(a:1000)", DR_EINVAL, "weight 1000");
}

/* Brackets in a row, one after another and one inside another: time does not grow as their square,
 * which would be minutes here. */
static void long_texts_end(void **state)
{
    (void)state;
    enum { LONG = 1 << 17 };
    char *text = malloc(LONG + 1);
    struct dr_error err = { 0 };
    const struct prompt_language *const languages[] = { &prompt_a1111, &prompt_comfyui };
    static const char *const units[] = { "(a:1.1) ", "a [b] ", "a BREAK ", "((((a)))) ", "[a|b] " };
    assert_non_null(text);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t n = strlen(units[u]);
        for (size_t at = 0; at < LONG; at++)
            text[at] = units[u][at % n];
        text[LONG] = '\0';
        for (int l = 0; l < 2; l++) {
            struct prompt_spans s;
            prompt_spans_init(&s);
            assert_int_equal(languages[l]->split("prompt", text, &s, &err), 0);
            assert_true(s.text.len <= LONG);
            prompt_spans_release(&s);
        }
        struct prompt_editing e;
        assert_int_equal(prompt_editing_read("prompt", text, 20, &e, &err), 0);
        prompt_editing_release(&e);
    }
    memset(text, '(', LONG);
    refused(&prompt_a1111, text, DR_ELIMIT, "256 levels");
    struct prompt_editing e;
    assert_int_equal(prompt_editing_read("prompt", text, 20, &e, &err), DR_ELIMIT);
    memset(text + LONG / 2, ')', LONG / 2);
    refused(&prompt_comfyui, text, DR_EINVAL, "expected a number from -100 to 100");
    for (int i = 0; i < 300; i++)
        memcpy(text + 300 + 3 * i, ":1)", 4);
    refused(&prompt_comfyui, text, DR_ELIMIT, "256 levels");
    free(text);
}

/* ---- editing ---- */

/* Each text with the step it ends after, "3:a ; 10:a b". */
static void edits(const char *text, const char *expected)
{
    enum { STEPS = 10 };
    struct prompt_editing e;
    struct dr_error err = { 0 };
    bool change[STEPS + 1] = { false };
    char got[2000] = "";
    size_t used = 0;
    if (prompt_editing_read("prompt", text, STEPS, &e, &err))
        fail_msg("%s", err.text);
    prompt_editing_changes(&e, STEPS, change);
    change[STEPS] = true;
    for (int s = 1; s <= STEPS; s++) {
        struct buf b;
        if (!change[s])
            continue;
        buf_init(&b, DR_TAG_TEST, 0);
        assert_int_equal(prompt_editing_at(&e, s, &b), 0);
        used += (size_t)snprintf(got + used, sizeof got - used, "%s%d:%s", used ? ";" : "", s,
                                 buf_text(&b));
        buf_free(&b);
    }
    assert_string_equal(got, expected);
    prompt_editing_release(&e);
}

/* The first dozen are the examples of the reference's own documentation. */
static void prompts_change(void **state)
{
    (void)state;
    edits("test", "10:test");
    edits("a [b:3]", "3:a ;10:a b");
    edits("a [b: 3]", "3:a ;10:a b");
    edits("a [[[b]]:2]", "2:a ;10:a [[b]]");
    edits("[(a:2):3]", "3:;10:(a:2)");
    edits("a [b : c : 1] d", "1:a b  d;10:a  c  d");
    edits("a[b:[c:d:2]:1]e", "1:abe;2:ace;10:ade");
    edits("a [unbalanced", "10:a [unbalanced");
    edits("a [b:.5] c", "5:a  c;10:a b c");
    edits("((a][:b:c [d:3]", "3:((a][:b:c ;10:((a][:b:c d");
    edits("[a|(b:1.1)]", "1:a;2:(b:1.1);3:a;4:(b:1.1);5:a;6:(b:1.1);7:a;8:(b:1.1);9:a;10:(b:1.1)");
    edits("[fe|||]male", "1:female;2:male;3:male;4:male;5:female;6:male;7:male;8:male;9:female;"
                         "10:male");
    edits("[a::0.3] b", "3:a b;10: b");
    edits("[a:b:0] [c:d:-1] [e:f:99]", "10:b d e");
    edits("[a:b:1e1] [c:d:0.1]", "1:a c;10:a d");
    edits("\\[a:b:5\\] [c:d:5]", "5:\\[a:b:5\\] c;10:\\[a:b:5\\] d");
    edits("[a:b:c] [x:y:z:3]", "10:[a:b:c] [x:y:z:3]");
    edits("[[a|b]:c:2]", "1:a;2:b;3:c;4:c;5:c;6:c;7:c;8:c;9:c;10:c");
    edits("a | b [c:d:5]", "10:a | b [c:d:5]"); /* nothing is a choice any more */
    edits("(a|b) [c:d:5] \\", "10:(a|b) [c:d:5] \\");
}

/* ---- parts and phases ---- */

/* Phases as "EVALUATION negative/part,part; ". */
static void writes(const struct prompt_request *q, int steps, const char *expected)
{
    struct prompt_script s;
    struct dr_error err = { 0 };
    char got[2000] = "";
    size_t used = 0;
    if (prompt_script_read(q, steps, &s, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < s.n_phases; i++) {
        const struct prompt_phase *p = &s.phase[i];
        used += (size_t)snprintf(got + used, sizeof got - used, "%d ", p->first);
        if (p->negative >= 0)
            used += (size_t)snprintf(got + used, sizeof got - used, "%s",
                                     s.row[p->negative].text[0]);
        for (int k = 0; k < p->n_parts; k++)
            used += (size_t)snprintf(got + used, sizeof got - used, "%s%s*%g", k ? "," : "/",
                                     s.row[p->part[k]].text[0], s.weight[k]);
        used += (size_t)snprintf(got + used, sizeof got - used, "; ");
    }
    assert_string_equal(got, expected);
    prompt_script_release(&s);
}

static void parts_and_phases(void **state)
{
    (void)state;
    struct prompt_request q = { .language = &prompt_a1111, .prompt = "a cat", .guidance = true };
    struct prompt_script s;
    struct dr_error err = { 0 };
    writes(&q, 10, "0 /a cat*1; ");
    q.prompt = "a cat :1.2 AND dog AND :-.5";
    q.negative = "x AND y";
    writes(&q, 10, "0 x AND y/a cat*1.2, dog*1,*-0.5; ");
    q.prompt = "SAND AND_ ANDy";
    q.negative = "n";
    writes(&q, 10, "0 n/SAND AND_ ANDy*1; ");
    /* a text that ends after step s is read up to evaluation s, counted from 0 */
    q.prompt = "[a:b:2]";
    q.negative = "[c:d:.3]";
    writes(&q, 10, "0 c/a*1; 3 c/b*1; 4 d/b*1; ");
    q.prompt = "[a|b]";
    q.negative = NULL;
    writes(&q, 4, "0 /a*1; 2 /b*1; 3 /a*1; ");
    q.guidance = false;
    writes(&q, 1, "0 /a*1; ");
    writes(&q, 0, "0 /[a|b]*1; ");
    q.language = NULL;
    q.prompt = "a AND b :2";
    writes(&q, 10, "0 /a AND b :2*1; ");
    q.language = &prompt_a1111;
    q.prompt_2 = "a AND b";
    assert_int_equal(prompt_script_read(&q, 10, &s, &err), DR_EINVAL);
    assert_string_equal(err.path, "prompt_2");
    q.prompt_2 = NULL;
    q.prompt = "a AND b AND c AND d AND e AND f AND g AND h AND i";
    assert_int_equal(prompt_script_read(&q, 10, &s, &err), DR_ELIMIT);
    q.prompt = "[1|2|3|4|5|6|7|8|9] [1|2|3|4|5|6|7|8|9|10]";
    assert_int_equal(prompt_script_read(&q, 100, &s, &err), DR_ELIMIT);
    assert_non_null(strstr(err.text, "64 different texts"));
    assert_true(prompt_is_composed(&prompt_a1111, "a AND b"));
    assert_true(prompt_is_composed(&prompt_a1111, "a :0.5"));
    assert_false(prompt_is_composed(&prompt_a1111, "a SANDY b:1"));
    assert_false(prompt_is_composed(&prompt_plain, "a AND b"));
}

/* The second encoder's text changes by itself. */
static void both_encoders_are_edited(void **state)
{
    (void)state;
    struct prompt_request q = { .language = &prompt_a1111,
                                .prompt = "[a:b:2]",
                                .prompt_2 = "[c:d:4]" };
    struct prompt_script s;
    struct dr_error err = { 0 };
    assert_int_equal(prompt_script_read(&q, 10, &s, &err), 0);
    assert_int_equal(s.n_phases, 3);
    static const char *const texts[3][2] = { { "a", "c" }, { "b", "c" }, { "b", "d" } };
    for (int i = 0; i < 3; i++)
        for (int e = 0; e < PROMPT_ENCODERS; e++)
            assert_string_equal(s.row[s.phase[i].part[0]].text[e], texts[i][e]);
    prompt_script_release(&s);
}

/* ---- embeddings ---- */

struct fixture {
    struct odd odd;
    struct tok *tok[PROMPT_ENCODERS];
    struct prompt_encoders encoders;
    struct prompt_embeds embeds;
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
}

static void close_fixture(struct fixture *f)
{
    prompt_release(&f->embeds);
    for (int i = 0; i < PROMPT_ENCODERS; i++)
        tok_free(f->tok[i]);
    odd_close(&f->odd);
}

static void encode(struct fixture *f, const struct prompt_request *q)
{
    struct dr_error err = { 0 };
    prompt_release(&f->embeds);
    if (prompt_tokenize(&f->encoders, q, &f->embeds, &err) ||
        prompt_encode(&f->encoders, &f->odd.x, &f->embeds, &err))
        fail_msg("%s", err.text);
    prompt_weigh(&f->embeds);
}

static struct npy vector(const char *name, const char *what)
{
    char path[160];
    struct npy a;
    struct dr_error err = { 0 };
    snprintf(path, sizeof path, "testing/golden/prompts/%s_%s.npy", name, what);
    if (npy_load(test_source(path), &a, &err))
        fail_msg("%s", err.text);
    return a;
}

static void agrees(struct fixture *f, const char *name, const struct prompt_request *q)
{
    enum { THIRD = 3 };
    struct npy text = vector(name, "text"), pooled = vector(name, "pooled"),
               ids = vector(name, "ids");
    encode(f, q);
    const struct prompt_embeds *m = &f->embeds;
    assert_int_equal(ids.count, m->tokens[0]);
    assert_memory_equal(ids.data, m->ids[0], (size_t)ids.count * sizeof(int32_t));
    float *third = malloc((size_t)text.count * sizeof *third);
    assert_non_null(third);
    assert_int_equal(text.shape[0], (m->tokens[0] + THIRD - 1) / THIRD);
    for (int64_t i = 0; i < text.shape[0]; i++)
        memcpy(third + i * m->width, m->text + i * THIRD * m->width,
               (size_t)m->width * sizeof *third);
    double error = test_rel_l2(third, text.data, (size_t)text.count);
    double other = test_rel_l2(m->pooled, pooled.data, (size_t)pooled.count);
    print_message("%s: text %.2g, pooled %.2g\n", name, error, other);
    assert_true(error <= 1e-5 && other <= 1e-5);
    free(third);
    npy_free(&text);
    npy_free(&pooled);
    npy_free(&ids);
}

static void repeat(char *dst, size_t n, const char *text, int times)
{
    for (int i = 0; i < times; i++) {
        size_t used = strlen(dst);
        snprintf(dst + used, n - used, "%s", text);
    }
}

static void long_text(char dst[1000])
{
    *dst = '\0';
    repeat(dst, 1000, "a red circle, ", 14);
    repeat(dst, 1000, "the small blue square and a green triangle (over the old:1.4) sea, ", 1);
    repeat(dst, 1000, "a (dog:0.7), ", 12);
}

static void weights_are_the_reference_s(void **state)
{
    (void)state;
    static const char *const sets[] = { "scalar", NULL };
    char text[1000], prompt[1200];
    long_text(text);
    for (int s = 0; s < 2; s++) {
        struct fixture f;
        struct prompt_request q = { .language = &prompt_a1111, .clip_skip = 2 };
        open_fixture(&f, sets[s]);
        q.prompt = "a (red:1.3) ball, [small] \\(x\\) ((green)) BREAK the (sea [old:1.1) dog";
        agrees(&f, "a1111", &q);
        q.prompt = text;
        q.emphasis = PROMPT_EMPHASIS_NO_NORM;
        agrees(&f, "a1111_long", &q);
        snprintf(prompt, sizeof prompt, "a (red:1.3) ball ((green:0.5) tree:1.2) [x] \\(old\\) %s",
                 text);
        q = (struct prompt_request){ .language = &prompt_comfyui,
                                     .prompt = prompt,
                                     .clip_skip = 2 };
        agrees(&f, "comfyui", &q);
        close_fixture(&f);
    }
}

/* A weight of 1, however it is written, and a language without anything of its own to read. */
static void weight_one_keeps_the_bits(void **state)
{
    (void)state;
    struct fixture f;
    static const struct {
        const struct prompt_language *language;
        const char *text;
        enum prompt_emphasis emphasis;
    } same[] = {
        { &prompt_a1111, "a red circle", PROMPT_EMPHASIS_ORIGINAL },
        { &prompt_a1111, "a (red:1) circle", PROMPT_EMPHASIS_ORIGINAL },
        { &prompt_a1111, "a (red:1.5) circle", PROMPT_EMPHASIS_IGNORE },
        { &prompt_comfyui, "a red circle", PROMPT_EMPHASIS_ORIGINAL },
        { &prompt_comfyui, "a (red:1.0) circle", PROMPT_EMPHASIS_ORIGINAL },
    };
    open_fixture(&f, NULL);
    struct prompt_request q = { .prompt = "a red circle", .clip_skip = 2 };
    encode(&f, &q);
    size_t bytes = (size_t)(LENGTH * ODD_CONTEXT) * sizeof(float);
    float *plain = malloc(bytes);
    assert_non_null(plain);
    memcpy(plain, f.embeds.text, bytes);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        q.language = same[i].language;
        q.prompt = same[i].text;
        q.emphasis = same[i].emphasis;
        encode(&f, &q);
        assert_int_equal(f.embeds.rows, 1);
        assert_memory_equal(f.embeds.text, plain, bytes);
    }
    q.language = &prompt_a1111;
    q.emphasis = PROMPT_EMPHASIS_ORIGINAL;
    q.prompt = "a (red:1.01) circle";
    encode(&f, &q);
    assert_memory_not_equal(f.embeds.text, plain, bytes);
    free(plain);
    close_fixture(&f);
}

/* BREAK: chunks in order, each as if it were alone; texts that take turns have equally many. */
static void chunks_are_as_they_are_alone(void **state)
{
    (void)state;
    struct fixture f;
    const size_t bytes = (size_t)(LENGTH * ODD_CONTEXT) * sizeof(float);
    open_fixture(&f, NULL);
    struct prompt_request q = { .language = &prompt_a1111,
                                .prompt = "a dog BREAK the sea",
                                .clip_skip = 2 };
    encode(&f, &q);
    assert_int_equal(f.embeds.chunks[0], 2);
    float *two = malloc(2 * bytes);
    assert_non_null(two);
    memcpy(two, f.embeds.text, 2 * bytes);
    q.prompt = "a dog";
    encode(&f, &q);
    assert_memory_equal(f.embeds.text, two, bytes);
    q.prompt = "the sea";
    encode(&f, &q);
    assert_memory_equal(f.embeds.text, two + bytes / sizeof *two, bytes);
    free(two);
    q.guidance = true;
    q.prompt = "x AND a BREAK b AND y";
    encode(&f, &q); /* negative, x, a/b, y */
    const struct prompt_embeds *m = &f.embeds;
    assert_int_equal(m->rows, 4);
    assert_int_equal(m->tokens[0], LENGTH);
    for (int row = 1; row < 4; row++)
        assert_int_equal(m->tokens[row], 2 * LENGTH);
    assert_int_equal(m->chunks[1], 1);
    const float *row = m->text + m->length * m->width; /* x, then its last state again */
    for (int i = LENGTH; i < 2 * LENGTH; i++)
        assert_memory_equal(row + i * m->width, row + (LENGTH - 1) * m->width,
                            (size_t)m->width * sizeof *row);
    close_fixture(&f);
}

/* Weights are no part of what is kept: a text that was encoded with others is found. */
static void the_cache_has_no_weights(void **state)
{
    (void)state;
    struct fixture f;
    struct prompt_cache c = { 0 };
    struct dr_error err = { 0 };
    open_fixture(&f, NULL);
    struct prompt_request q = { .language = &prompt_a1111, .prompt = "a (red:1.4) dog" };
    for (int i = 0; i < 2; i++) {
        prompt_release(&f.embeds);
        assert_int_equal(prompt_tokenize(&f.encoders, &q, &f.embeds, &err), 0);
        prompt_cache_find(&c, &f.embeds);
        assert_int_equal(f.embeds.known[0], i);
        assert_int_equal(prompt_encode(&f.encoders, &f.odd.x, &f.embeds, &err), 0);
        prompt_cache_keep(&c, &f.embeds);
        prompt_weigh(&f.embeds);
        q.prompt = "a (red:0.5) dog"; /* spans are read one by one: the same ids */
    }
    prompt_cache_release(&c);
    encode(&f, &q);
    close_fixture(&f);
}

static int scenario(void *ctx, struct dr_error *err)
{
    struct fixture *f = ctx;
    struct prompt_request q = { .language = &prompt_a1111,
                                .prompt = "a ([dog:cat:3]:1.2) BREAK b AND [c|d]:2",
                                .negative = "[x]",
                                .guidance = true };
    struct prompt_script s;
    struct prompt_embeds m;
    int r = prompt_script_read(&q, 10, &s, err);
    if (r < 0)
        return r;
    q.script = &s;
    r = prompt_tokenize(&f->encoders, &q, &m, err);
    if (!r)
        prompt_release(&m);
    prompt_script_release(&s);
    return r;
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, NULL);
    test_oom_walk(scenario, &f);
    close_fixture(&f);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_of_automatic1111),
        cmocka_unit_test(weights_of_comfyui),
        cmocka_unit_test(long_texts_end),
        cmocka_unit_test(prompts_change),
        cmocka_unit_test(parts_and_phases),
        cmocka_unit_test(both_encoders_are_edited),
        cmocka_unit_test(weights_are_the_reference_s),
        cmocka_unit_test(weight_one_keeps_the_bits),
        cmocka_unit_test(chunks_are_as_they_are_alone),
        cmocka_unit_test(the_cache_has_no_weights),
        cmocka_unit_test(survives_failing_allocations),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
