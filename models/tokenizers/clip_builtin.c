/* clip_builtin.c - the tokenizer that needs no model folder: CLIP's own table, from share/.
 *
 * CLIP numbers its tokens by rule (openai/CLIP, clip/simple_tokenizer.py): the 256 bytes, printable
 * ones first; the same at the end of a word; one token per merge; then the two markers. So the
 * list of merges is all there is to ship. Special tokens are plain strings here, which makes them
 * case-sensitive and matched in the raw text.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "models/tokenizers/clip_internal.h"
#include "models/tokenizers/zst.h"

enum { MAX_MERGES = 2 << 20 };

static const char merges_name[] = "tokenizers/clip/merges.txt.zst";
static const char bos[] = "<|startoftext|>";
static const char eos[] = "<|endoftext|>";

/* The bytes whose character is themselves come first, both groups ascending. */
static int add_bytes(struct bpe *bpe, const char *suffix, struct dr_error *err)
{
    for (int printable = 1; printable >= 0; printable--) {
        for (int byte = 0; byte < 256; byte++) {
            char spelling[8];
            size_t n = bpe_byte_char((uint8_t)byte, spelling);
            bool same = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
            if (same != printable)
                continue;
            memcpy(spelling + n, suffix, strlen(suffix) + 1);
            int r = bpe_add_token(bpe, spelling, strlen(spelling), bpe->n_tokens, err);
            if (r)
                return r;
        }
    }
    return 0;
}

/* A token for each line after the version: the line without its space. */
static int add_joined(struct bpe *bpe, const char *text, size_t size, struct dr_error *err)
{
    const char *line = memchr(text, '\n', size);
    const char *stop = text + size, *end;
    for (; line && ++line < stop; line = end) {
        char joined[BPE_MAX_TOKEN];
        end = memchr(line, '\n', (size_t)(stop - line));
        size_t n = (size_t)((end ? end : stop) - line);
        const char *space = memchr(line, ' ', n);
        if (!space || n > sizeof joined)
            return dr_fail(err, DR_EFORMAT, "%s: a malformed merge", merges_name);
        size_t left = (size_t)(space - line);
        memcpy(joined, line, left);
        memcpy(joined + left, space + 1, n - left - 1);
        int r = bpe_add_token(bpe, joined, n - 1, bpe->n_tokens, err);
        if (r)
            return dr_while(err, r, "reading %s", merges_name);
    }
    return 0;
}

static int fill(struct tok *tok, const char *text, size_t size, struct dr_error *err)
{
    struct bpe *bpe = &tok->bpe;
    int r = add_bytes(bpe, "", err);
    if (!r)
        r = add_bytes(bpe, "</w>", err);
    if (!r)
        r = add_joined(bpe, text, size, err);
    if (!r)
        r = bpe_add_token(bpe, bos, strlen(bos), bpe->n_tokens, err);
    if (!r)
        r = bpe_add_token(bpe, eos, strlen(eos), bpe->n_tokens, err);
    return r ? r : tok_parse_merges(tok, text, size, merges_name, err);
}

int tok_open_builtin(enum tok_builtin which, struct tok **ret_tok, struct dr_error *err)
{
    const char *pad = which == TOK_CLIP_BIGG ? "!" : eos;
    const struct added_spec specs[] = {
        { .content = bos, .plain = true, .special = true },
        { .content = eos, .plain = true, .special = true },
        { .content = pad, .plain = true, .special = true },
    };
    char *text;
    size_t size;
    struct tok *tok;
    int r = zst_read_share(merges_name, MAX_MERGES, &text, &size, err);
    if (r)
        return r;
    if (!(r = tok_new(&tok, err))) {
        r = fill(tok, text, size, err);
        if (!r)
            r = tok_complete(tok, bos, eos, eos, pad, specs, sizeof specs / sizeof *specs, err);
        if (r)
            tok_free(tok);
        else
            *ret_tok = tok;
    }
    dr_free(text);
    return r;
}

int tok_builtin_texts(struct buf *ret_vocab, struct buf *ret_merges, struct dr_error *err)
{
    struct tok *tok = NULL;
    char *text = NULL;
    size_t size = 0;
    json_t *vocab = json_object();
    buf_init(ret_vocab, DR_TAG_FILE, 0);
    buf_init(ret_merges, DR_TAG_FILE, 0);
    int r = zst_read_share(merges_name, MAX_MERGES, &text, &size, err);
    if (!r)
        r = tok_open_builtin(TOK_CLIP_L, &tok, err);
    for (int32_t i = 0; !r && i < tok->bpe.n_tokens; i++)
        if (jx_set(vocab, bpe_spelling(&tok->bpe, i), json_integer(i)))
            r = dr_fail(err, DR_ENOMEM, "out of memory for a vocabulary");
    if (!r && (jx_dump(vocab, ret_vocab) || buf_append(ret_merges, text, size)))
        r = dr_fail(err, DR_ENOMEM, "out of memory for a vocabulary");
    json_decref(vocab);
    tok_free(tok);
    dr_free(text);
    return r;
}

bool tok_same(const struct tok *a, const struct tok *b)
{
    const struct bpe *x = &a->bpe, *y = &b->bpe;
    bool same = x->id_limit == y->id_limit && x->n_merges == y->n_merges &&
                a->info.pad == b->info.pad && a->info.max_length == b->info.max_length;
    for (int32_t i = 0; same && i < x->id_limit; i++) {
        const char *p = bpe_spelling(x, i), *q = bpe_spelling(y, i);
        same = p && q ? !strcmp(p, q) : p == q;
    }
    return same;
}
