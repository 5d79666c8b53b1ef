/* fuzz_prompt.c - libFuzzer target: any text as a prompt in every language. Spans lie in their
 * text, weights are finite; what is drawn at a step is never longer than the text, and is the text
 * itself where nothing is a choice; phases follow each other and name rows that are there. */
#include "testing/fuzz/fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conditioning/prompt_editing.h"
#include "conditioning/prompt_language.h"
#include "conditioning/prompt_script.h"
#include "conditioning/prompt_syntax.h"

enum { STEPS = 7, MOST = 16384 };

static void check_spans(const struct prompt_language *language, const char *text)
{
    struct prompt_spans s;
    struct dr_error err = { 0 };
    prompt_spans_init(&s);
    if (language->split("prompt", text, &s, &err))
        FUZZ_MUST(*err.text);
    else
        FUZZ_MUST(s.text.len <= strlen(text));
    for (int i = 0; !*err.text && i < s.n; i++) {
        FUZZ_MUST(s.span[i].at + s.span[i].n <= s.text.len);
        FUZZ_MUST(fabs(s.span[i].weight) <= PROMPT_WEIGHT);
        FUZZ_MUST(!s.span[i].ends_chunk || !s.span[i].n);
    }
    prompt_spans_release(&s);
}

static void check_editing(const char *text)
{
    struct prompt_editing e;
    struct dr_error err = { 0 };
    bool change[STEPS + 1] = { false };
    if (prompt_editing_read("prompt", text, STEPS, &e, &err))
        return;
    prompt_editing_changes(&e, STEPS, change);
    for (int step = 1; step <= STEPS; step++) {
        struct buf b;
        buf_init(&b, DR_TAG_TEST, 0);
        FUZZ_MUST(!prompt_editing_at(&e, step, &b));
        FUZZ_MUST(e.n ? b.len < strlen(text) : !strcmp(buf_text(&b), text));
        buf_free(&b);
    }
    prompt_editing_release(&e);
}

static void check_script(const char *text, const char *negative)
{
    struct prompt_request q = {
        .language = &prompt_a1111, .prompt = text, .negative = negative, .guidance = true
    };
    struct prompt_script s;
    struct dr_error err = { 0 };
    if (prompt_script_read(&q, STEPS, &s, &err)) {
        FUZZ_MUST(*err.text);
        return;
    }
    FUZZ_MUST(s.n_phases > 0 && s.phase[0].first == 0 && s.n_parts > 0);
    for (int i = 0; i < s.n_phases; i++) {
        const struct prompt_phase *p = &s.phase[i];
        FUZZ_MUST(!i || p->first > p[-1].first);
        FUZZ_MUST(p->negative >= 0 && p->negative < s.negatives && p->first < STEPS);
        for (int k = 0; k < p->n_parts; k++)
            FUZZ_MUST(p->part[k] >= s.negatives && p->part[k] < s.n_rows);
    }
    FUZZ_MUST(prompt_is_composed(&prompt_a1111, text) || (s.n_parts == 1 && s.weight[0] == 1));
    prompt_script_release(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char warning[700];
    n = n < MOST ? n : MOST;
    char *text = malloc(n + 1);
    FUZZ_MUST(text);
    memcpy(text, bytes, n);
    text[n] = '\0';
    const char *texts[] = { text };
    check_spans(&prompt_a1111, text);
    check_spans(&prompt_comfyui, text);
    check_editing(text);
    check_script(text, "");
    check_script("a", text);
    prompt_syntax(&prompt_plain, texts, 1, warning, sizeof warning);
    free(text);
    return 0;
}
