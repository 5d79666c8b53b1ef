/* clip_folder.c - a tokenizer from a folder of the diffusers layout.
 *
 * As in transformers 5.23, tokenizer.json supplies vocabulary and merges when it is there, else
 * vocab.json and merges.txt do; its normalizer and pre-tokenizer are not used, CLIP's own are.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/utf8.h"
#include "models/tokenizers/clip_internal.h"
#include "models/tokenizers/clip_special.h"

enum { MAX_MERGES_BYTES = 32 << 20, LONG_NUMBER = 18 };

static const struct jx_limits config_limits = { .bytes = 4 << 20, .depth = 16, .members = 100000 };
static const struct jx_limits vocab_limits = { .bytes = 32 << 20, .depth = 4, .members = 2 << 20 };
static const struct jx_limits whole_limits = { .bytes = 96 << 20, .depth = 32, .members = 8 << 20 };

struct folder {
    const char *path;
    struct special_files files;
    json_t *vocab; /* vocab.json */
};

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

/* transformers writes an absent model_max_length as 10^30, which is no JSON integer of 64 bits:
 * integers of more than 18 digits, outside strings, become 18 nines followed by spaces. */
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
        r = jx_parse(buf_text(&text), text.len, &config_limits, path, &f->files.config, err);
    }
    buf_free(&text);
    if (!r && !json_is_object(f->files.config))
        r = dr_fail(err, DR_EFORMAT, "%s: %s, expected an object", path, jx_kind(f->files.config));
    return r;
}

static int read_files(struct folder *f, struct dr_error *err)
{
    int r = read_config(f, err);
    if (!r)
        r = read_object(f, "tokenizer.json", &whole_limits, &f->files.whole, err);
    if (!r && !f->files.whole)
        r = read_object(f, "vocab.json", &vocab_limits, &f->vocab, err);
    if (r || json_object_get(f->files.config, "added_tokens_decoder"))
        return r;
    r = read_object(f, "special_tokens_map.json", &config_limits, &f->files.special, err);
    if (!r)
        r = read_object(f, "added_tokens.json", &config_limits, &f->files.legacy, err);
    return r;
}

static int load_vocab(struct tok *tok, const json_t *vocab, const char *file, struct dr_error *err)
{
    const char *key;
    json_t *value;
    if (!json_object_size(vocab))
        return dr_fail(err, DR_EFORMAT, "%s: no vocabulary", file);
    json_object_foreach((json_t *)vocab, key, value)
    {
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
            return dr_fail(err, DR_EFORMAT, "'%s', expected two tokens with a space between them",
                           text);
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
    json_array_foreach(merges, i, merge) if ((r = load_merge(tok, merge, err))) return dr_while(
        err, r, "reading %s, merge %zu", file, i + 1);
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
    if (f->files.whole)
        return load_whole(tok, f->files.whole, err);
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
    if (!f->files.config)
        return 0;
    for (int i = 0; i < 2 && !r; i++) {
        const char *side = "right";
        r = jx_opt_string(f->files.config, file, sides[i], &side, err);
        if (!r && strcmp(side, "right"))
            r = dr_fail(err, DR_EUNSUPPORTED, "%s: %s is '%s', only 'right' is supported", file,
                        sides[i], side);
    }
    if (!r)
        r = jx_opt_bool(f->files.config, file, "split_special_tokens", &split, err);
    if (!r && split)
        r = dr_fail(err, DR_EUNSUPPORTED, "%s: split_special_tokens is not supported", file);
    if (!r)
        r = jx_opt_number(f->files.config, file, "model_max_length", &length, err);
    if (!r && !(length >= 2))
        r = dr_fail(err, DR_EFORMAT, "%s: model_max_length is %g, expected at least 2", file,
                    length);
    if (!r)
        tok->info.max_length = length <= 1 << 20 ? (int64_t)length : TOK_CLIP_LENGTH;
    return r;
}

static int name_and_add(struct tok *tok, const struct folder *f, struct dr_error *err)
{
    struct special special = { 0 };
    int r = special_collect(&special, &f->files, err);
    if (!r)
        r = tok_complete(
            tok, special.named[SPECIAL_BOS].spec.content, special.named[SPECIAL_EOS].spec.content,
            special.named[SPECIAL_UNK].spec.content, special.named[SPECIAL_PAD].spec.content,
            special.specs, special.n_specs, err);
    special_free(&special);
    return r;
}

int tok_open_folder(const char *folder, struct tok **ret_tok, struct dr_error *err)
{
    struct folder f = { .path = folder };
    struct tok *tok;
    if (!dr_is_dir(folder))
        return dr_fail(err, DR_ENOENT, "%s: no such folder", folder);
    jx_init();
    int r = tok_new(&tok, err);
    if (r)
        return r;
    if (!(r = read_files(&f, err)) && !(r = load_settings(tok, &f, err)) &&
        !(r = load_model(tok, &f, err)))
        r = name_and_add(tok, &f, err);
    json_decref(f.files.config);
    json_decref(f.files.special);
    json_decref(f.files.legacy);
    json_decref(f.files.whole);
    json_decref(f.vocab);
    if (r) {
        tok_free(tok);
        return dr_while(err, r, "loading the tokenizer in %s", folder);
    }
    *ret_tok = tok;
    return 0;
}
