/* clip_folder.c - a tokenizer from a folder of the diffusers layout.
 *
 * What is read, and what wins, follows transformers 5.23 (from_pretrained of CLIPTokenizer):
 * tokenizer.json supplies vocabulary and merges when it is there, else vocab.json and merges.txt do;
 * its normalizer and pre-tokenizer are not used, CLIP's own are. Added tokens are those of
 * `added_tokens_decoder` in tokenizer_config.json; only without that key do special_tokens_map.json (which
 * then overrides tokenizer_config.json), added_tokens.json and tokenizer.json speak. They are added in
 * the order of their numbers; then the named special tokens, then the extra ones.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/utf8.h"
#include "models/tokenizers/clip_internal.h"

enum { MAX_NAMED = 64, MAX_MERGES_BYTES = 32 << 20, LONG_NUMBER = 18 };

static const struct jx_limits config_limits = { .bytes = 4 << 20, .depth = 16, .members = 100000 };
static const struct jx_limits vocab_limits = { .bytes = 32 << 20, .depth = 4, .members = 2 << 20 };
static const struct jx_limits whole_limits = { .bytes = 96 << 20, .depth = 32, .members = 8 << 20 };

/* An added token and the number that orders it. */
struct numbered {
    int64_t number;
    struct added_spec spec;
};

/* A special token with a name: "bos_token". */
struct named {
    const char *key;
    struct added_spec spec; /* content NULL: none */
};

struct folder {
    const char *path;
    json_t *config;  /* tokenizer_config.json */
    json_t *special; /* special_tokens_map.json */
    json_t *legacy;  /* added_tokens.json */
    json_t *whole;   /* tokenizer.json */
    json_t *vocab;   /* vocab.json */
    struct numbered *numbered;
    size_t n_numbered, numbered_cap;
    struct named named[MAX_NAMED]; /* the first NAMED_FIXED have these keys */
    size_t n_named;
    struct added_spec *specs; /* everything in order */
    size_t n_specs, specs_cap;
};

enum { BOS, EOS, UNK, SEP, PAD, CLS, MASK, NAMED_FIXED };
static const char *const named_keys[NAMED_FIXED] = { "bos_token", "eos_token", "unk_token",
                                                     "sep_token", "pad_token", "cls_token",
                                                     "mask_token" };

static int no_memory(struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "no memory for a tokenizer's files");
}

/* DIR/NAME in dst; DR_ENOENT without an error text when there is no such file. */
static int locate(const struct folder *f, const char *name, char dst[DR_PATH_MAX],
                  struct dr_error *err)
{
    int r = dr_path_join(dst, DR_PATH_MAX, f->path, name);
    if (r)
        return dr_fail(err, r, "%s: the path is too long", f->path);
    return dr_is_file(dst) ? 0 : DR_ENOENT;
}

/* A JSON object from a file of the folder, NULL when there is none. */
static int read_object(const struct folder *f, const char *name, const struct jx_limits *limits,
                       json_t **ret_object, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    json_t *value;
    int r = locate(f, name, path, err);
    if (r == DR_ENOENT)
        return 0;
    if (r || (r = jx_parse_file(path, limits, &value, err)))
        return r;
    if (!json_is_object(value)) {
        r = dr_fail(err, DR_EFORMAT, "%s: %s, expected an object", path, jx_kind(value));
        json_decref(value);
        return r;
    }
    *ret_object = value;
    return 0;
}

/* transformers writes an absent model_max_length as 10^30, which is no JSON integer of 64 bits: integers
 * of more than 18 digits, outside strings, become 999999999999999999 followed by spaces. */
static void shorten_integers(char *text, size_t n)
{
    bool string = false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '"')
            string = !string;
        else if (string && text[i] == '\\')
            i++;
        if (string || text[i] < '0' || text[i] > '9')
            continue;
        size_t start = i;
        while (i < n && text[i] >= '0' && text[i] <= '9')
            i++;
        bool whole = (!start || (text[start - 1] != '.' && text[start - 1] != '+' &&
                                 text[start - 1] != 'e' && text[start - 1] != 'E')) &&
                     (i == n || (text[i] != '.' && text[i] != 'e' && text[i] != 'E'));
        if (whole && i - start > LONG_NUMBER) {
            memset(text + start, '9', LONG_NUMBER);
            memset(text + start + LONG_NUMBER, ' ', i - start - LONG_NUMBER);
        }
        i--;
    }
}

static int read_config(struct folder *f, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct buf text;
    int r = locate(f, "tokenizer_config.json", path, err);
    if (r)
        return r == DR_ENOENT ? 0 : r;
    buf_init(&text, DR_TAG_TOKENIZER, 0);
    r = dr_read_file(path, config_limits.bytes, &text, err);
    if (!r) {
        shorten_integers(text.data, text.len);
        r = jx_parse(buf_text(&text), text.len, &config_limits, path, &f->config, err);
    }
    buf_free(&text);
    if (!r && !json_is_object(f->config))
        r = dr_fail(err, DR_EFORMAT, "%s: %s, expected an object", path, jx_kind(f->config));
    return r;
}

static int read_files(struct folder *f, struct dr_error *err)
{
    int r = read_config(f, err);
    if (!r)
        r = read_object(f, "tokenizer.json", &whole_limits, &f->whole, err);
    if (!r && !f->whole)
        r = read_object(f, "vocab.json", &vocab_limits, &f->vocab, err);
    if (r || json_object_get(f->config, "added_tokens_decoder"))
        return r;
    r = read_object(f, "special_tokens_map.json", &config_limits, &f->special, err);
    if (!r)
        r = read_object(f, "added_tokens.json", &config_limits, &f->legacy, err);
    return r;
}

/* A token as a file gives it: a string, or an object of content and flags. */
static int parse_spec(const json_t *value, const char *where, bool special_by_place,
                      struct added_spec *ret_spec, struct dr_error *err)
{
    struct added_spec spec = { .special = special_by_place };
    if (json_is_string(value)) {
        spec.plain = spec.special = true;
        spec.content = json_string_value(value);
        *ret_spec = spec;
        return 0;
    }
    if (!json_is_object(value))
        return dr_fail(err, DR_EFORMAT, "%s: %s, expected a token", where, jx_kind(value));
    int r = jx_get_string(value, where, "content", &spec.content, err);
    if (!r && !special_by_place)
        r = jx_opt_bool(value, where, "special", &spec.special, err);
    spec.normalized = !spec.special;
    if (!r)
        r = jx_opt_bool(value, where, "normalized", &spec.normalized, err);
    if (!r)
        r = jx_opt_bool(value, where, "single_word", &spec.single_word, err);
    if (!r)
        r = jx_opt_bool(value, where, "lstrip", &spec.lstrip, err);
    if (!r)
        r = jx_opt_bool(value, where, "rstrip", &spec.rstrip, err);
    if (!r)
        *ret_spec = spec;
    return r;
}

static int add_numbered(struct folder *f, int64_t number, const struct added_spec *spec,
                        struct dr_error *err)
{
    if (number < 0 || number >= BPE_MAX_IDS)
        return dr_fail(err, DR_EFORMAT, "added token '%s' has id %lld, expected 0 to %d", spec->content,
                       (long long)number, BPE_MAX_IDS - 1);
    for (size_t i = 0; i < f->n_numbered; i++) {
        if (f->numbered[i].number == number) { /* the later file wins */
            f->numbered[i].spec = *spec;
            return 0;
        }
    }
    if (f->n_numbered >= ADDED_MAX)
        return dr_fail(err, DR_ELIMIT, "more than %d added tokens", ADDED_MAX);
    if (f->n_numbered == f->numbered_cap) {
        size_t cap = f->numbered_cap ? f->numbered_cap * 2 : 16;
        void *p = dr_realloc(DR_TAG_TOKENIZER, f->numbered, cap * sizeof *f->numbered);
        if (!p)
            return no_memory(err);
        f->numbered = p;
        f->numbered_cap = cap;
    }
    f->numbered[f->n_numbered++] = (struct numbered){ number, *spec };
    return 0;
}

static int numbered_from_decoder(struct folder *f, const json_t *decoder, struct dr_error *err)
{
    static const char where[] = "tokenizer_config.json: added_tokens_decoder";
    const char *key;
    json_t *value;
    if (!json_is_object(decoder))
        return dr_fail(err, DR_EFORMAT, "%s: %s, expected an object", where, jx_kind(decoder));
    json_object_foreach((json_t *)decoder, key, value) {
        char *end;
        struct added_spec spec;
        long long number = strtoll(key, &end, 10);
        if (end == key || *end)
            return dr_fail(err, DR_EFORMAT, "%s: '%s' is no id", where, key);
        if (!json_is_object(value))
            return dr_fail(err, DR_EFORMAT, "%s: %s under '%s', expected an object", where,
                           jx_kind(value), key);
        int r = parse_spec(value, where, false, &spec, err);
        if (!r)
            r = add_numbered(f, number, &spec, err);
        if (r)
            return r;
    }
    return 0;
}

static bool names_special(const struct folder *f, const char *content)
{
    for (size_t i = 0; i < f->n_named; i++)
        if (f->named[i].spec.content && !strcmp(f->named[i].spec.content, content))
            return true;
    return false;
}

/* added_tokens.json: {"token": id}. */
static int numbered_from_legacy(struct folder *f, struct dr_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(f->legacy, key, value) {
        if (!json_is_integer(value))
            return dr_fail(err, DR_EFORMAT, "added_tokens.json: '%s' has %s, expected an id", key,
                           jx_kind(value));
        bool special = names_special(f, key);
        struct added_spec spec = { .content = key, .special = special, .normalized = !special };
        int r = add_numbered(f, json_integer_value(value), &spec, err);
        if (r)
            return r;
    }
    return 0;
}

/* "added_tokens" of tokenizer.json: a list of tokens with ids. */
static int numbered_from_whole(struct folder *f, struct dr_error *err)
{
    static const char where[] = "tokenizer.json: added_tokens";
    size_t i;
    json_t *value, *list = json_object_get(f->whole, "added_tokens");
    if (list && !json_is_array(list))
        return dr_fail(err, DR_EFORMAT, "%s: %s, expected an array", where, jx_kind(list));
    json_array_foreach(list, i, value) {
        int64_t id;
        struct added_spec spec;
        if (!json_is_object(value))
            return dr_fail(err, DR_EFORMAT, "%s: %s, expected a token", where, jx_kind(value));
        int r = jx_get_int(value, where, "id", 0, BPE_MAX_IDS - 1, &id, err);
        if (!r)
            r = parse_spec(value, where, false, &spec, err);
        if (!r)
            r = add_numbered(f, id, &spec, err);
        if (r)
            return r;
    }
    return 0;
}

static int set_named(struct folder *f, const char *key, const struct added_spec *spec,
                     struct dr_error *err)
{
    size_t i = 0;
    while (i < f->n_named && strcmp(f->named[i].key, key))
        i++;
    if (i == MAX_NAMED)
        return dr_fail(err, DR_ELIMIT, "more than %d named special tokens", MAX_NAMED);
    f->named[i].key = key;
    f->named[i].spec = *spec;
    if (i == f->n_named)
        f->n_named++;
    return 0;
}

static bool is_fixed(const char *key)
{
    for (int i = 0; i < NAMED_FIXED; i++)
        if (!strcmp(named_keys[i], key))
            return true;
    return false;
}

/* Members "*_token" of an object: the seven known names, and others that a model brings (those only when
 * they are tokens at all: add_bos_token is a flag). */
static int collect_named(struct folder *f, const json_t *object, const char *file, bool special,
                         struct dr_error *err)
{
    static const char ending[] = "_token";
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        size_t n = strlen(key);
        struct added_spec spec = { 0 };
        bool token = json_is_string(value) || json_is_object(value);
        if (n < sizeof ending || strcmp(key + n - (sizeof ending - 1), ending))
            continue;
        if (!token && !is_fixed(key))
            continue;
        int r = json_is_null(value) ? 0 : parse_spec(value, file, special, &spec, err);
        if (!r)
            r = set_named(f, key, &spec, err);
        if (r)
            return r;
    }
    return 0;
}

/* Defaults, then tokenizer_config.json, then special_tokens_map.json if it is heard. */
static int name_tokens(struct folder *f, struct dr_error *err)
{
    static const char start[] = "<|startoftext|>", end[] = "<|endoftext|>";
    for (int i = 0; i < NAMED_FIXED; i++) {
        struct added_spec spec = { .plain = true, .special = true };
        if (i == BOS || i == EOS || i == UNK || i == PAD)
            spec.content = i == BOS ? start : end;
        set_named(f, named_keys[i], &spec, NULL);
    }
    int r = collect_named(f, f->config, "tokenizer_config.json", false, err);
    return r ? r : collect_named(f, f->special, "special_tokens_map.json", true, err);
}

static int by_number(const void *a, const void *b)
{
    const struct numbered *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static int number_tokens(struct folder *f, struct dr_error *err)
{
    const json_t *decoder = json_object_get(f->config, "added_tokens_decoder");
    int r = 0;
    if (decoder) {
        r = numbered_from_decoder(f, decoder, err);
    } else {
        r = numbered_from_legacy(f, err);
        if (!r)
            r = numbered_from_whole(f, err);
    }
    if (r || !f->n_numbered)
        return r;
    qsort(f->numbered, f->n_numbered, sizeof *f->numbered, by_number);
    for (size_t i = 0; i < f->n_named; i++) {
        struct named *named = &f->named[i];
        if (i >= NAMED_FIXED || !named->spec.content)
            continue;
        for (size_t k = f->n_numbered; k--;) {
            if (!strcmp(f->numbered[k].spec.content, named->spec.content)) {
                named->spec = f->numbered[k].spec;
                break;
            }
        }
    }
    return 0;
}

static int add_spec(struct folder *f, const struct added_spec *spec, struct dr_error *err)
{
    if (f->n_specs == f->specs_cap) {
        size_t cap = f->specs_cap ? f->specs_cap * 2 : 16;
        void *p = dr_realloc(DR_TAG_TOKENIZER, f->specs, cap * sizeof *f->specs);
        if (!p)
            return no_memory(err);
        f->specs = p;
        f->specs_cap = cap;
    }
    f->specs[f->n_specs++] = *spec;
    return 0;
}

static bool same_spec(const struct added_spec *a, const struct added_spec *b)
{
    return !strcmp(a->content, b->content) && a->plain == b->plain &&
           a->single_word == b->single_word && a->lstrip == b->lstrip && a->rstrip == b->rstrip &&
           a->normalized == b->normalized && a->special == b->special;
}

/* Adds a special token unless a numbered one has its content or the very same entry is there. */
static int add_special(struct folder *f, const struct added_spec *spec, struct dr_error *err)
{
    for (size_t i = 0; i < f->n_numbered; i++)
        if (!strcmp(f->numbered[i].spec.content, spec->content))
            return 0;
    for (size_t i = 0; i < f->n_specs; i++)
        if (same_spec(&f->specs[i], spec))
            return 0;
    return add_spec(f, spec, err);
}

/* The tokens of a list, or the values of an object. Anything else holds none. */
static int add_all(struct folder *f, json_t *list, const char *file, struct dr_error *err)
{
    size_t i;
    const char *key;
    json_t *value;
    struct added_spec spec;
    int r = 0;
    json_array_foreach(list, i, value) {
        if (!(r = parse_spec(value, file, false, &spec, err)))
            r = add_special(f, &spec, err);
        if (r)
            return r;
    }
    if (!json_is_object(list))
        return 0;
    json_object_foreach(list, key, value) {
        if (!(r = parse_spec(value, file, false, &spec, err)))
            r = add_special(f, &spec, err);
        if (r)
            return r;
    }
    return 0;
}

/* "extra_special_tokens", which older files call "additional_special_tokens". The old name counts in
 * special_tokens_map.json only when nothing else has spoken. */
static int add_extra(struct folder *f, struct dr_error *err)
{
    json_t *extra = json_object_get(f->config, "extra_special_tokens");
    json_t *old = json_object_get(f->config, "additional_special_tokens");
    bool said = extra || old;
    if (!json_array_size(extra) && !json_object_size(extra) && old)
        extra = old;
    int r = add_all(f, extra, "tokenizer_config.json", err);
    extra = json_object_get(f->special, "extra_special_tokens");
    if (!extra && !said)
        extra = json_object_get(f->special, "additional_special_tokens");
    return r ? r : add_all(f, extra, "special_tokens_map.json", err);
}

static int order_tokens(struct folder *f, struct dr_error *err)
{
    int r = 0;
    for (size_t i = 0; i < f->n_numbered && !r; i++)
        r = add_spec(f, &f->numbered[i].spec, err);
    for (size_t i = 0; i < f->n_named && !r; i++)
        if (f->named[i].spec.content)
            r = add_special(f, &f->named[i].spec, err);
    return r ? r : add_extra(f, err);
}

static int load_vocab(struct tok *tok, const json_t *vocab, const char *file, struct dr_error *err)
{
    const char *key;
    json_t *value;
    if (!json_object_size(vocab))
        return dr_fail(err, DR_EFORMAT, "%s: no vocabulary", file);
    json_object_foreach((json_t *)vocab, key, value) {
        if (!json_is_integer(value))
            return dr_fail(err, DR_EFORMAT, "%s: token '%s' has %s, expected an id", file, key,
                           jx_kind(value));
        int r = bpe_add_token(&tok->bpe, key, strlen(key), json_integer_value(value), err);
        if (r)
            return dr_while(err, r, "reading %s", file);
    }
    return 0;
}

/* One merge of tokenizer.json: "LEFT RIGHT" or ["LEFT", "RIGHT"]. */
static int load_merge(struct tok *tok, const json_t *merge, struct dr_error *err)
{
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge), *space = strchr(text, ' ');
        if (!space || strchr(space + 1, ' '))
            return dr_fail(err, DR_EFORMAT, "'%s', expected two tokens with a space between them", text);
        return bpe_add_merge(&tok->bpe, text, (size_t)(space - text), space + 1, strlen(space + 1),
                             err);
    }
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right))
        return dr_fail(err, DR_EFORMAT, "%s, expected two tokens", jx_kind(merge));
    return bpe_add_merge(&tok->bpe, json_string_value(left), json_string_length(left),
                         json_string_value(right), json_string_length(right), err);
}

static int load_whole(struct tok *tok, const json_t *whole, struct dr_error *err)
{
    static const char file[] = "tokenizer.json";
    json_t *model, *vocab, *merges, *merge;
    const char *type = "BPE";
    size_t i;
    int r = jx_get_object(whole, file, "model", &model, err);
    if (!r)
        r = jx_opt_string(model, "tokenizer.json: model", "type", &type, err);
    if (!r && strcmp(type, "BPE"))
        r = dr_fail(err, DR_EUNSUPPORTED, "%s: a model of type '%s', expected 'BPE'", file, type);
    if (!r)
        r = jx_get_object(model, "tokenizer.json: model", "vocab", &vocab, err);
    if (!r)
        r = jx_get_array(model, "tokenizer.json: model", "merges", &merges, err);
    if (!r)
        r = load_vocab(tok, vocab, file, err);
    if (r)
        return r;
    json_array_foreach(merges, i, merge)
        if ((r = load_merge(tok, merge, err)))
            return dr_while(err, r, "reading %s, merge %zu", file, i + 1);
    return 0;
}

static int load_merges(struct tok *tok, const struct folder *f, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct buf text;
    int r = locate(f, "merges.txt", path, err);
    if (r)
        return r == DR_ENOENT ? dr_fail(err, r, "%s: no such file", path) : r;
    buf_init(&text, DR_TAG_TOKENIZER, 0);
    r = dr_read_file(path, MAX_MERGES_BYTES, &text, err);
    if (!r)
        r = utf8_check(buf_text(&text), text.len, path, err);
    if (!r)
        r = tok_parse_merges(tok, buf_text(&text), text.len, "merges.txt", err);
    buf_free(&text);
    return r;
}

static int load_model(struct tok *tok, const struct folder *f, struct dr_error *err)
{
    if (f->whole)
        return load_whole(tok, f->whole, err);
    if (!f->vocab)
        return dr_fail(err, DR_ENOENT, "%s: neither tokenizer.json nor vocab.json", f->path);
    int r = load_vocab(tok, f->vocab, "vocab.json", err);
    return r ? r : load_merges(tok, f, err);
}

/* Settings that change ids and that no CLIP tokenizer uses are refused. */
static int load_settings(struct tok *tok, const struct folder *f, struct dr_error *err)
{
    static const char file[] = "tokenizer_config.json";
    static const char *const sides[] = { "padding_side", "truncation_side" };
    double length = TOK_CLIP_LENGTH;
    bool split = false;
    int r = 0;
    if (!f->config)
        return 0;
    for (int i = 0; i < 2 && !r; i++) {
        const char *side = "right";
        r = jx_opt_string(f->config, file, sides[i], &side, err);
        if (!r && strcmp(side, "right"))
            r = dr_fail(err, DR_EUNSUPPORTED, "%s: %s is '%s', only 'right' is supported", file,
                        sides[i], side);
    }
    if (!r)
        r = jx_opt_bool(f->config, file, "split_special_tokens", &split, err);
    if (!r && split)
        r = dr_fail(err, DR_EUNSUPPORTED, "%s: split_special_tokens is not supported", file);
    if (!r)
        r = jx_opt_number(f->config, file, "model_max_length", &length, err);
    if (!r && !(length >= 2))
        r = dr_fail(err, DR_EFORMAT, "%s: model_max_length is %g, expected at least 2", file, length);
    if (!r)
        tok->info.max_length = length <= 1 << 20 ? (int64_t)length : TOK_CLIP_LENGTH;
    return r;
}

static int build(struct folder *f, struct tok *tok, struct dr_error *err)
{
    int r = read_files(f, err);
    if (!r)
        r = load_settings(tok, f, err);
    if (!r)
        r = load_model(tok, f, err);
    if (!r)
        r = name_tokens(f, err);
    if (!r)
        r = number_tokens(f, err);
    if (!r)
        r = order_tokens(f, err);
    if (r)
        return r;
    for (int i = 0; i < NAMED_FIXED; i++)
        if (!f->named[i].spec.content && (i == BOS || i == EOS || i == UNK || i == PAD))
            return dr_fail(err, DR_EFORMAT, "%s is null, expected a token", named_keys[i]);
    return tok_complete(tok, f->named[BOS].spec.content, f->named[EOS].spec.content,
                        f->named[UNK].spec.content, f->named[PAD].spec.content, f->specs, f->n_specs,
                        err);
}

int tok_open_folder(const char *folder, struct tok **ret_tok, struct dr_error *err)
{
    struct folder f = { .path = folder };
    struct tok *tok;
    if (!dr_is_dir(folder))
        return dr_fail(err, DR_ENOENT, "%s: no such folder", folder);
    int r = tok_new(&tok, err);
    if (r)
        return r;
    jx_init();
    r = build(&f, tok, err);
    json_decref(f.config);
    json_decref(f.special);
    json_decref(f.legacy);
    json_decref(f.whole);
    json_decref(f.vocab);
    dr_free(f.numbered);
    dr_free(f.specs);
    if (r) {
        tok_free(tok);
        return dr_while(err, r, "loading the tokenizer in %s", folder);
    }
    *ret_tok = tok;
    return 0;
}
