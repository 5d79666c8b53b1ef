/* added.c - see added.h. */
#include "models/tokenizers/added.h"

#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

void added_init(struct added *a)
{
    memset(a, 0, sizeof *a);
    a->max_id = -1;
}

void added_free(struct added *a)
{
    for (int32_t i = 0; i < a->n; i++)
        dr_free(a->tokens[i].content);
    dr_free(a->tokens);
    for (int stage = 0; stage < ADDED_STAGES; stage++)
        dr_free(a->tries[stage].nodes);
    added_init(a);
}

static struct added_token *find(const struct added *a, const char *content)
{
    for (int32_t i = 0; i < a->n; i++)
        if (!strcmp(a->tokens[i].content, content))
            return &a->tokens[i];
    return NULL;
}

int32_t added_find(const struct added *a, const struct bpe *bpe, const char *content)
{
    const struct added_token *token = find(a, content);
    return token ? token->id : bpe_find(bpe, content, strlen(content));
}

static int32_t trie_node(struct added_trie *t, uint8_t byte)
{
    if (t->n == t->cap) {
        int32_t cap = t->cap ? t->cap * 2 : 64;
        void *nodes = dr_realloc(DR_TAG_TOKENIZER, t->nodes, (size_t)cap * sizeof *t->nodes);
        if (!nodes)
            return -1;
        t->nodes = nodes;
        t->cap = cap;
    }
    t->nodes[t->n] = (struct added_node){ -1, -1, -1, byte };
    return t->n++;
}

static int32_t trie_child(const struct added_trie *t, int32_t node, uint8_t byte)
{
    int32_t i = t->nodes[node].child;
    while (i >= 0 && t->nodes[i].byte != byte)
        i = t->nodes[i].sibling;
    return i;
}

/* The first of equal patterns wins. */
static int trie_add(struct added_trie *t, const char *pattern, size_t n, int32_t token)
{
    int32_t node = t->n ? 0 : trie_node(t, 0);
    for (size_t i = 0; i < n && node >= 0; i++) {
        int32_t child = trie_child(t, node, (uint8_t)pattern[i]);
        if (child < 0 && (child = trie_node(t, (uint8_t)pattern[i])) >= 0) {
            t->nodes[child].sibling = t->nodes[node].child;
            t->nodes[node].child = child;
        }
        node = child;
    }
    if (node < 0)
        return DR_ENOMEM;
    if (t->nodes[node].token < 0)
        t->nodes[node].token = token;
    return 0;
}

/* Length of the longest pattern that text begins with, 0 if none; its token. */
static size_t trie_longest(const struct added_trie *t, const char *text, size_t len,
                           int32_t *ret_token)
{
    size_t longest = 0;
    int32_t node = 0;
    for (size_t i = 0; i < len && (node = trie_child(t, node, (uint8_t)text[i])) >= 0; i++) {
        if (t->nodes[node].token >= 0) {
            longest = i + 1;
            *ret_token = t->nodes[node].token;
        }
    }
    return longest;
}

static int add_pattern(struct added *a, const struct uni *uni, int32_t index)
{
    const struct added_token *token = &a->tokens[index];
    if (!token->normalized)
        return trie_add(&a->tries[ADDED_RAW], token->content, strlen(token->content), index);
    struct buf text;
    buf_init(&text, DR_TAG_TOKENIZER, 0);
    int r = uni_normalize(uni, token->content, strlen(token->content), &text);
    if (!r)
        r = trie_add(&a->tries[ADDED_NORMALIZED], buf_text(&text), text.len, index);
    buf_free(&text);
    return r;
}

static struct added_token *append(struct added *a, const char *content)
{
    if (a->n == a->cap) {
        int32_t cap = a->cap ? a->cap * 2 : 8;
        void *tokens = dr_realloc(DR_TAG_TOKENIZER, a->tokens, (size_t)cap * sizeof *a->tokens);
        if (!tokens)
            return NULL;
        a->tokens = tokens;
        a->cap = cap;
    }
    struct added_token *token = &a->tokens[a->n];
    *token = (struct added_token){ .content = dr_strdup(DR_TAG_TOKENIZER, content), .count = 1 };
    if (!token->content)
        return NULL;
    a->n++;
    return token;
}

/* The id a token has or gets, or a negative code. */
static int32_t choose_id(const struct added *a, const struct bpe *bpe, const char *content,
                         struct dr_error *err)
{
    int32_t id = bpe_find(bpe, content, strlen(content));
    if (id >= 0)
        return id;
    id = a->max_id >= bpe->n_tokens ? a->max_id + 1 : bpe->n_tokens;
    if (!bpe_spelling(bpe, id))
        return id;
    return dr_fail(err, DR_EFORMAT,
                   "added token '%s' would get id %d, which is '%s': the vocabulary has holes",
                   content, id, bpe_spelling(bpe, id));
}

static int take(struct added *a, const struct bpe *bpe, const struct added_spec *spec,
                struct dr_error *err)
{
    struct added_token *token = find(a, spec->content);
    if (!token) {
        int32_t id = choose_id(a, bpe, spec->content, err);
        if (id < 0)
            return id;
        if (!(token = append(a, spec->content)))
            return dr_fail(err, DR_ENOMEM, "out of memory for the added tokens");
        token->id = id;
        if (id > a->max_id)
            a->max_id = id;
    }
    token->single_word = spec->single_word;
    token->lstrip = spec->lstrip;
    token->rstrip = spec->rstrip;
    token->normalized = spec->normalized;
    return 0;
}

static int check(const struct added_spec *spec, struct dr_error *err)
{
    size_t n = strlen(spec->content);
    if (n > BPE_MAX_TOKEN)
        return dr_fail(err, DR_EFORMAT, "an added token of %zu bytes, at most %d expected", n,
                       BPE_MAX_TOKEN);
    return dr_check_utf8(spec->content, n, "added token", err);
}

/* Patterns of all tokens. */
static int add_patterns(struct added *a, const struct uni *uni, struct dr_error *err)
{
    int r = 0;
    for (int32_t i = 0; i < a->n && !r; i++)
        if ((r = add_pattern(a, uni, i)))
            dr_fail(err, r, "added token '%s': %s", a->tokens[i].content, dr_code_meaning(r));
    return r;
}

/* Of several entries with one content the first fixes the id and the last the flags. Of contents
 * that become equal when normalised the first is matched (the reference picks by hash order). */
int added_fill(struct added *a, const struct bpe *bpe, const struct uni *uni,
               const struct added_spec *specs, size_t n, struct dr_error *err)
{
    int r = 0;
    if (n > ADDED_MAX)
        return dr_fail(err, DR_ELIMIT, "%zu added tokens, at most %d expected", n, ADDED_MAX);
    for (size_t i = 0; i < n && !r; i++) {
        if (!specs[i].content[0])
            continue;
        r = check(&specs[i], err);
        if (!r)
            r = take(a, bpe, &specs[i], err);
    }
    return r ? r : add_patterns(a, uni, err);
}

static bool word_at(const struct uni *uni, const char *text, size_t len, size_t at)
{
    uint32_t scalar;
    return at < len && utf8_decode(text + at, len - at, &scalar) &&
           uni_flags(uni, scalar) & UNI_WORD;
}

/* Start of the scalar that ends before `at`, which is above 0. */
static size_t back(const char *text, size_t at)
{
    do
        at--;
    while (at && ((unsigned char)text[at] & 0xC0) == 0x80);
    return at;
}

static size_t strip_left(const struct uni *uni, const char *text, size_t at)
{
    uint32_t scalar;
    while (at) {
        size_t before = back(text, at);
        if (!utf8_decode(text + before, at - before, &scalar) ||
            !(uni_flags(uni, scalar) & UNI_STRIP))
            break;
        at = before;
    }
    return at;
}

static size_t strip_right(const struct uni *uni, const char *text, size_t len, size_t at)
{
    uint32_t scalar;
    size_t n;
    while (at < len && (n = utf8_decode(text + at, len - at, &scalar)) &&
           uni_flags(uni, scalar) & UNI_STRIP)
        at += n;
    return at;
}

static int extend(struct added *a, const struct added *base, const struct uni *uni,
                  const struct added_word *words, size_t n, struct dr_error *err)
{
    for (size_t i = 0; i < (size_t)base->n + n; i++) {
        const struct added_word *word = i < (size_t)base->n ? NULL : &words[i - (size_t)base->n];
        const char *text = word ? word->text : base->tokens[i].content;
        struct added_token *token = append(a, text);
        if (!token)
            return dr_fail(err, DR_ENOMEM, "out of memory for the added tokens");
        char *content = token->content;
        size_t len = strlen(text);
        if (!word) {
            *token = base->tokens[i];
            token->content = content;
            continue;
        }
        token->id = word->id;
        token->count = word->count;
        token->normalized = true;
        token->single_word = len && (word_at(uni, text, len, 0) ||
                                     word_at(uni, text, len, back(text, len)));
    }
    a->max_id = base->max_id;
    return add_patterns(a, uni, err);
}

int added_extend(struct added *ret, const struct added *base, const struct uni *uni,
                 const struct added_word *words, size_t n, struct dr_error *err)
{
    struct added a;
    added_init(&a);
    int r = extend(&a, base, uni, words, n, err);
    if (r < 0)
        added_free(&a);
    else
        *ret = a;
    return r;
}

int added_cut(const struct added *a, enum added_stage stage, const struct uni *uni,
              const char *text, size_t len, added_piece_fn *piece, added_token_fn *token, void *ctx,
              struct dr_error *err)
{
    const struct added_trie *trie = &a->tries[stage];
    size_t done = 0;
    int r = 0;
    for (size_t at = 0; at < len && trie->n && !r;) {
        int32_t index = -1;
        size_t n = trie_longest(trie, text + at, len - at, &index);
        if (!n) {
            at++;
            continue;
        }
        const struct added_token *t = &a->tokens[index];
        size_t start = at, stop = at + n;
        at = stop;
        if (t->single_word && ((start && word_at(uni, text, len, back(text, start))) ||
                               word_at(uni, text, len, stop)))
            continue;
        if (t->lstrip) {
            start = strip_left(uni, text, start);
            start = start > done ? start : done;
        }
        if (t->rstrip)
            stop = strip_right(uni, text, len, stop);
        if (done < start)
            r = piece(ctx, text + done, start - done, err);
        for (int32_t k = 0; !r && start < stop && k < t->count; k++)
            r = token(ctx, t->id + k, err); /* else the token before has stripped it away */
        done = stop;
    }
    if (!r && done < len)
        r = piece(ctx, text + done, len - done, err);
    return r;
}
