/* fuzz_inversion.c - libFuzzer target: any bytes as a file of a textual inversion. What is accepted
 * has finite vectors, fits encoders of its widths, and gives its word ids beyond the vocabulary. */
#include "testing/fuzz/fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "models/adapters/textual_inversions.h"
#include "models/tokenizers/clip_tokenizer.h"

enum { MOST = 75, VOCAB = 49408 };

static void no_warning(void *ctx, const char *text)
{
    (void)ctx;
    FUZZ_MUST(text[0]);
}

static void check_file(const struct inversion_file *f)
{
    FUZZ_MUST(f->n_parts == 1 || f->n_parts == 2);
    for (int i = 0; i < f->n_parts; i++) {
        FUZZ_MUST(f->part[i].n >= 1 && f->part[i].n <= MOST && f->part[i].width >= 1);
        for (int64_t k = 0; k < f->part[i].n * f->part[i].width; k++)
            FUZZ_MUST(isfinite(f->part[i].vectors[k]));
    }
}

/* Encoders made for it. The set's tokenizer finds the word. */
static void check_set(struct textual_inversions *s, const struct tok *tok)
{
    const struct inversion_file *f = &s->item[0].file;
    bool second = f->n_parts == 2 || f->part[0].role == INVERSION_SECOND;
    int64_t width = f->part[f->n_parts - 1].width;
    const struct inversion_encoder encoders[INVERSION_ENCODERS] = {
        { tok, VOCAB, f->part[0].width }, { second ? tok : NULL, VOCAB, width }
    };
    struct dr_error err = { 0 };
    int32_t *ids;
    int64_t n;
    int r = textual_inversions_fit(s, encoders, no_warning, NULL, &err);
    FUZZ_MUST_SAY(!r, err.text);
    for (int e = 0; e < INVERSION_ENCODERS; e++) {
        if (!s->item[0].count[e])
            continue;
        FUZZ_MUST(!tok_encode(s->tokens[e], "a new-word", 10, &ids, &n, &err));
        FUZZ_MUST(n == 1 + s->item[0].count[e] && ids[1] == VOCAB);
        FUZZ_MUST(textual_inversions_used(s, 0, e, VOCAB, ids, n));
        FUZZ_MUST(s->words[e].n == s->item[0].count[e]);
        dr_free(ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct dr_error err = { 0 };
    struct tok *tok;
    struct textual_inversions *s = calloc(1, sizeof *s);
    int fd = memfd_create("inversion", MFD_CLOEXEC);
    FUZZ_MUST(s && fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    int r = textual_inversions_add(s, fd, "input.safetensors", "new-word", MOST, &err);
    close(fd);
    if (r < 0) {
        fuzz_must_explain(r, &err);
    } else {
        FUZZ_MUST(!tok_open_builtin(TOK_CLIP_L, &tok, &err));
        check_file(&s->item[0].file);
        check_set(s, tok);
        tok_free(tok);
    }
    textual_inversions_release(s);
    free(s);
    fuzz_must_be_clean();
    return 0;
}
