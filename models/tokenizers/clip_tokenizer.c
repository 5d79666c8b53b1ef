/* clip_tokenizer.c - see clip_tokenizer.h. Words are split as by the pattern
 *
 *     <\|startoftext\|> | <\|endoftext\|> | 's | 't | 're | 've | 'm | 'll | 'd
 *     | \p{L}+ | \p{N} | [^\s\p{L}\p{N}]+
 *
 * of transformers' CLIPTokenizer, white space falling away between them. The reference then
 * splits each word again by GPT-2's pattern, which changes only the first two: they come apart at
 * "|>" and "<|".
 */
#include "models/tokenizers/clip_tokenizer.h"

#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "models/tokenizers/clip_internal.h"

/* One encoding under way. */
struct encoding {
    const struct tok *tok;
    struct buf text; /* the normalised piece */
    struct bpe_scratch scratch;
    struct bpe_ids ids;
};

int tok_new(struct tok **ret_tok, struct dr_error *err)
{
    struct tok *tok = dr_calloc(DR_TAG_TOKENIZER, 1, sizeof *tok);
    if (!tok)
        return dr_fail(err, DR_ENOMEM, "out of memory for a tokenizer");
    bpe_init(&tok->bpe);
    added_init(&tok->added);
    tok->info.max_length = TOK_CLIP_LENGTH;
    int r = uni_open(&tok->uni, err);
    if (r)
        tok_free(tok);
    else
        *ret_tok = tok;
    return r;
}

void tok_free(struct tok *tok)
{
    if (!tok)
        return;
    if (!tok->base) {
        uni_free(tok->uni);
        bpe_free(&tok->bpe);
    }
    added_free(&tok->added);
    dr_free(tok);
}

int tok_extend(const struct tok *base, const struct added_word *words, size_t n,
               struct tok **ret_tok, struct dr_error *err)
{
    struct tok *tok = dr_malloc(DR_TAG_TOKENIZER, sizeof *tok);
    if (!tok)
        return dr_fail(err, DR_ENOMEM, "out of memory for a tokenizer");
    *tok = *base;
    tok->base = base;
    int r = added_extend(&tok->added, &base->added, base->uni, words, n, err);
    if (r < 0)
        dr_free(tok);
    else
        *ret_tok = tok;
    return r;
}

int tok_normal_form(const struct tok *tok, const char *word, struct buf *dst, struct dr_error *err)
{
    int r = dr_check_utf8(word, strlen(word), "token", err);
    if (r)
        return r;
    r = uni_normalize(tok->uni, word, strlen(word), dst);
    return r ? dr_fail(err, r, "token '%s': %s", word, dr_code_meaning(r)) : 0;
}

struct tok_info tok_info(const struct tok *tok)
{
    return tok->info;
}

int tok_complete(struct tok *tok, const char *bos, const char *eos, const char *unk,
                 const char *pad, const struct added_spec *specs, size_t n, struct dr_error *err)
{
    bpe_finish(&tok->bpe, unk);
    int r = added_fill(&tok->added, &tok->bpe, tok->uni, specs, n, err);
    if (r)
        return r;
    struct tok_info *info = &tok->info;
    info->vocab_size = tok->bpe.n_tokens;
    info->bos = added_find(&tok->added, &tok->bpe, bos);
    info->eos = added_find(&tok->added, &tok->bpe, eos);
    info->unk = added_find(&tok->added, &tok->bpe, unk);
    info->pad = added_find(&tok->added, &tok->bpe, pad);
    info->id_limit = tok->bpe.id_limit;
    if (tok->added.max_id >= info->id_limit)
        info->id_limit = tok->added.max_id + 1;
    if (info->bos < 0 || info->eos < 0 || info->pad < 0)
        return dr_fail(err, DR_EFORMAT, "%s token '%s' is empty",
                       info->bos < 0   ? "bos"
                       : info->eos < 0 ? "eos"
                                       : "pad",
                       info->bos < 0   ? bos
                       : info->eos < 0 ? eos
                                       : pad);
    return 0;
}

static int merge_line(struct tok *tok, const char *line, size_t n, struct dr_error *err)
{
    const char *space = memchr(line, ' ', n);
    if (!space || memchr(space + 1, ' ', n - (size_t)(space - line) - 1))
        return dr_fail(err, DR_EFORMAT, "expected two tokens with a space between them");
    return bpe_add_merge(&tok->bpe, line, (size_t)(space - line), space + 1,
                         n - (size_t)(space - line) - 1, err);
}

int tok_parse_merges(struct tok *tok, const char *text, size_t n, const char *what,
                     struct dr_error *err)
{
    static const char version[] = "#version";
    int line = 0;
    for (size_t at = 0; at < n;) {
        const char *start = text + at;
        const char *end = memchr(start, '\n', n - at);
        size_t len = end ? (size_t)(end - start) : n - at;
        at += len + 1;
        line++;
        if (len && start[len - 1] == '\r')
            len--;
        if (len >= sizeof version - 1 && !memcmp(start, version, sizeof version - 1))
            continue;
        int r = merge_line(tok, start, len, err);
        if (r)
            return dr_while(err, r, "reading %s, line %d", what, line);
    }
    return 0;
}

static int word(struct encoding *job, const char *s, size_t n, struct dr_error *err)
{
    return bpe_word(&job->tok->bpe, s, n, &job->scratch, &job->ids, err);
}

/* Length of the contraction that s begins with, 0 if none. */
static size_t contraction(const char *s, size_t n)
{
    static const char *const endings[] = { "s", "t", "re", "ve", "m", "ll", "d" };
    if (s[0] != '\'')
        return 0;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t len = strlen(endings[i]);
        if (n > len && !memcmp(s + 1, endings[i], len))
            return len + 1;
    }
    return 0;
}

/* Length of a bracketed marker spelled out in the text, 0 if none. */
static size_t marker(const char *s, size_t n)
{
    static const char *const markers[] = { "<|startoftext|>", "<|endoftext|>" };
    for (size_t i = 0; i < sizeof markers / sizeof *markers; i++) {
        size_t len = strlen(markers[i]);
        if (n >= len && !memcmp(s, markers[i], len))
            return len;
    }
    return 0;
}

/* Bytes of the letters, or of the other characters, that s begins with. */
static size_t span(const struct uni *uni, const char *s, size_t n, unsigned kind)
{
    uint32_t scalar;
    size_t at = 0, used;
    while (at < n && (used = utf8_decode(s + at, n - at, &scalar)) &&
           (uni_flags(uni, scalar) & UNI_CLASS) == kind)
        at += used;
    return at;
}

/* The next word of s, or the white space that it begins with; its length in bytes. */
static int next_word(struct encoding *job, const char *s, size_t n, size_t *ret_len,
                     struct dr_error *err)
{
    uint32_t scalar;
    size_t len = utf8_decode(s, n, &scalar), m;
    if (!len)
        return dr_fail(err, DR_EINTERNAL, "normalised text is not UTF-8");
    unsigned kind = uni_flags(job->tok->uni, scalar) & UNI_CLASS;
    *ret_len = len;
    if (kind == UNI_SPACE)
        return 0;
    if ((m = marker(s, n))) {
        *ret_len = m;
        int r = word(job, s, 2, err);
        if (!r)
            r = word(job, s + 2, m - 4, err);
        return r ? r : word(job, s + m - 2, 2, err);
    }
    if ((m = contraction(s, n)))
        *ret_len = m;
    else if (kind != UNI_NUMBER)
        *ret_len = span(job->tok->uni, s, n, kind);
    return word(job, s, *ret_len, err);
}

static int take_words(void *ctx, const char *piece, size_t len, struct dr_error *err)
{
    struct encoding *job = ctx;
    int r = 0;
    for (size_t at = 0, used = 0; at < len && !r; at += used)
        r = next_word(job, piece + at, len - at, &used, err);
    return r;
}

static int take_token(void *ctx, int32_t id, struct dr_error *err)
{
    struct encoding *job = ctx;
    return bpe_ids_add(&job->ids, id) ? dr_fail(err, DR_ENOMEM, "out of memory for the ids") : 0;
}

static int take_raw(void *ctx, const char *piece, size_t len, struct dr_error *err)
{
    struct encoding *job = ctx;
    const struct tok *tok = job->tok;
    buf_clear(&job->text);
    int r = uni_normalize(tok->uni, piece, len, &job->text);
    if (r)
        return dr_fail(err, r, "normalising %zu bytes of text: %s", len, dr_code_meaning(r));
    return added_cut(&tok->added, ADDED_NORMALIZED, tok->uni, buf_text(&job->text), job->text.len,
                     take_words, take_token, job, err);
}

int tok_encode(const struct tok *tok, const char *text, size_t len, int32_t **ret_ids,
               int64_t *ret_n, struct dr_error *err)
{
    if (len > TOK_MAX_TEXT)
        return dr_fail(err, DR_ELIMIT, "a text of %zu bytes, at most %d expected", len,
                       TOK_MAX_TEXT);
    int r = dr_check_utf8(text, len, "text", err);
    if (r)
        return r;
    struct encoding job = { .tok = tok };
    buf_init(&job.text, DR_TAG_TOKENIZER, 0);
    r = added_cut(&tok->added, ADDED_RAW, tok->uni, text, len, take_raw, take_token, &job, err);
    if (!r && !job.ids.v && !(job.ids.v = dr_malloc(DR_TAG_TOKENIZER, sizeof *job.ids.v)))
        r = dr_fail(err, DR_ENOMEM, "out of memory for the ids");
    buf_free(&job.text);
    bpe_scratch_free(&job.scratch);
    if (r) {
        dr_free(job.ids.v);
        return r;
    }
    *ret_ids = job.ids.v;
    *ret_n = (int64_t)job.ids.n;
    return 0;
}

int tok_encode_padded(const struct tok *tok, const char *text, size_t len, int64_t length,
                      int32_t *ids, bool *ret_cut, int64_t *ret_n, struct dr_error *err)
{
    int32_t *raw;
    int64_t n;
    if (length < 2)
        return dr_fail(err, DR_EINVAL, "%lld tokens have no room for bos and eos",
                       (long long)length);
    int r = tok_encode(tok, text, len, &raw, &n, err);
    if (r)
        return r;
    int64_t kept = n < length - 2 ? n : length - 2;
    ids[0] = tok->info.bos;
    memcpy(ids + 1, raw, (size_t)kept * sizeof *ids);
    ids[kept + 1] = tok->info.eos;
    for (int64_t i = kept + 2; i < length; i++)
        ids[i] = tok->info.pad;
    dr_free(raw);
    if (ret_cut)
        *ret_cut = kept < n;
    if (ret_n)
        *ret_n = n;
    return 0;
}
