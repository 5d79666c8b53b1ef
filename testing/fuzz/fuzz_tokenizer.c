/* fuzz_tokenizer.c - libFuzzer target: the files of a tokenizer folder, and a text to encode.
 *
 *     @@vocab.json
 *     {"a": 0, ...}
 *     @@merges.txt
 *     a b</w>
 *     @@text
 *     a text
 *
 * Sections are of any order and number; those with a name that no file has go nowhere. Of what
 * opens: ids in range and with a spelling, padding as documented, and every word merged as the
 * definition of byte-pair encoding says, which here takes the lowest rank of all pairs each time
 * instead of keeping a heap. */
#include "testing/helpers/model_access.h"
#include "testing/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "models/tokenizers/clip_internal.h"
#include "models/tokenizers/clip_tokenizer.h"

enum { LENGTH = 77, WORD = 64, TEXT = 2048 };

static const char *const files[] = { "tokenizer.json",    "vocab.json",
                                     "merges.txt",        "tokenizer_config.json",
                                     "added_tokens.json", "special_tokens_map.json" };
enum { FILES = sizeof files / sizeof *files };

static void path_of(const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", fuzz_folder(), name);
}

static void write_section(const char *name, const char *text, size_t n)
{
    char path[128];
    path_of(name, path);
    for (int i = 0; i < FILES; i++) {
        if (strcmp(files[i], name))
            continue;
        FILE *f = fopen(path, "wb");
        FUZZ_MUST(f && fwrite(text, 1, n, f) == n);
        fclose(f);
    }
}

/* The sections to files; the text's is returned, with its length. */
static const char *unpack(const char *input, size_t n, size_t *ret_n)
{
    const char *text = "", *at = input, *end = input + n;
    *ret_n = 0;
    while (end - at > 2 && !memcmp(at, "@@", 2)) {
        char name[32];
        const char *line = memchr(at, '\n', (size_t)(end - at));
        if (!line)
            break;
        size_t n_name = (size_t)(line - at - 2), n_body = (size_t)(end - line - 1);
        snprintf(name, sizeof name, "%.*s", (int)(n_name < 31 ? n_name : 31), at + 2);
        const char *body = line + 1, *next = memmem(line, (size_t)(end - line), "\n@@", 3);
        if (next)
            n_body = next < body ? 0 : (size_t)(next - body);
        write_section(name, body, n_body);
        if (!strcmp(name, "text")) {
            text = body;
            *ret_n = n_body;
        }
        at = next ? next + 1 : end;
    }
    return text;
}

/* The lowest merge of any two neighbours, leftmost first; false: there is none. */
static bool merge_once(const struct bpe *b, int32_t *ids, size_t *n)
{
    const struct bpe_merge *best = NULL;
    size_t at = 0;
    for (size_t i = 0; i + 1 < *n; i++) {
        uint64_t pair = (uint64_t)(uint32_t)ids[i] << 32 | (uint32_t)ids[i + 1];
        for (size_t k = 0; k < b->n_merge_slots; k++) {
            const struct bpe_merge *m = &b->merges[k];
            if (m->pair == pair && (!best || m->rank < best->rank)) {
                best = m;
                at = i;
            }
        }
    }
    if (!best)
        return false;
    ids[at] = best->id;
    memmove(ids + at + 1, ids + at + 2, (*n - at - 2) * sizeof *ids);
    --*n;
    return true;
}

/* Where two merges give the same token, the definition leaves open which comes first: the order of
 * the reference's heap decides. */
static bool ambiguous(const struct bpe *b)
{
    for (size_t i = 0; i < b->n_merge_slots; i++)
        for (size_t k = 0; k < i; k++)
            if (b->merges[i].pair != BPE_NO_PAIR && b->merges[k].pair != BPE_NO_PAIR &&
                b->merges[i].id == b->merges[k].id)
                return true;
    return false;
}

static void check_word(const struct bpe *b, const char *word, size_t n)
{
    struct bpe_scratch scratch = { 0 };
    struct bpe_ids ids = { 0 };
    struct dr_error err = { 0 };
    int32_t plain[WORD];
    size_t n_plain = n;
    bool known = true;
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->byte_id[i + 1 == n][(uint8_t)word[i]];
        plain[i] = id >= 0 ? id : b->unk;
        known = known && plain[i] >= 0;
    }
    int r = bpe_word(b, word, n, &scratch, &ids, &err);
    if (r)
        fuzz_must_explain(r, &err);
    FUZZ_MUST(known == !r);
    while (!r && merge_once(b, plain, &n_plain)) {}
    FUZZ_MUST(r || (ids.n == n_plain && !memcmp(ids.v, plain, n_plain * sizeof *plain)));
    bpe_scratch_free(&scratch);
    dr_free(ids.v);
}

static void check_words(const struct bpe *b, const char *text, size_t n)
{
    if (b->n_merge_slots > 256 || ambiguous(b))
        return;
    for (size_t at = 0; at < n; at += WORD)
        check_word(b, text + at, n - at < WORD ? n - at : WORD);
}

static void check_encoding(const struct tok *tok, const char *text, size_t n)
{
    struct tok_info info = tok_info(tok);
    struct dr_error err = { 0 };
    int32_t *ids, padded[LENGTH];
    int64_t n_ids, uncut;
    bool cut;
    int r = tok_encode(tok, text, n, &ids, &n_ids, &err);
    int s = tok_encode_padded(tok, text, n, LENGTH, padded, &cut, &uncut, NULL);
    FUZZ_MUST(r == s);
    if (r) {
        fuzz_must_explain(r, &err);
        return;
    }
    int64_t kept = n_ids < LENGTH - 2 ? n_ids : LENGTH - 2;
    FUZZ_MUST(uncut == n_ids && cut == (n_ids > kept));
    FUZZ_MUST(padded[0] == info.bos && padded[kept + 1] == info.eos);
    FUZZ_MUST(!memcmp(padded + 1, ids, (size_t)kept * sizeof *ids));
    for (int64_t i = kept + 2; i < LENGTH; i++)
        FUZZ_MUST(padded[i] == info.pad);
    for (int64_t i = 0; i < n_ids; i++)
        FUZZ_MUST(ids[i] >= 0 && ids[i] < info.id_limit && tok_spelling(tok, ids[i]));
    dr_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct tok *tok;
    struct dr_error err = { 0 };
    char path[128];
    size_t n_text;
    char *input = fuzz_text(bytes, n);
    const char *text = unpack(input, n, &n_text);
    n_text = utf8_valid_prefix(text, n_text < TEXT ? n_text : TEXT);
    int r = tok_open_folder(fuzz_folder(), &tok, &err);
    if (r) {
        fuzz_must_explain(r, &err);
    } else {
        check_encoding(tok, text, n_text);
        check_words(&tok->bpe, text, n_text);
        tok_free(tok);
    }
    for (int i = 0; i < FILES; i++) {
        path_of(files[i], path);
        unlink(path);
    }
    free(input);
    fuzz_must_be_clean();
    return 0;
}
