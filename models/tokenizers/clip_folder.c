/* clip_folder.c - a tokenizer from a folder of the diffusers layout.
 *
 * As in transformers 5.23, tokenizer.json supplies vocabulary and merges when it is there, else
 * vocab.json and merges.txt do; its normalizer and pre-tokenizer are not used, CLIP's own are.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/utf8.h"
#include "models/model_files.h"
#include "models/tokenizers/clip_internal.h"
#include "models/tokenizers/clip_special.h"

enum { LONG_NUMBER = 18, STOP_EVERY = 4096 /* tokens or merges */ };

/* CLIP's own: 1 MB of vocabulary, 0.5 MB of merges, 3.6 MB of both. */
enum file { CONFIG, WHOLE, VOCAB, MERGES, SPECIAL, ADDED, FILES };
static const struct {
    const char *name;
    size_t bytes, depth, members;
} known[FILES] = {
    [CONFIG] = { "tokenizer_config.json", 4 << 20, 16, 100000 },
    [WHOLE] = { "tokenizer.json", 32 << 20, 32, 1 << 20 },
    [VOCAB] = { "vocab.json", 16 << 20, 4, 1 << 20 },
    [MERGES] = { "merges.txt", 8 << 20, 0, 0 },
    [SPECIAL] = { "special_tokens_map.json", 4 << 20, 16, 100000 },
    [ADDED] = { "added_tokens.json", 4 << 20, 16, 100000 },
};

struct folder {
    struct model_files *model;
    const char *path; /* relative to the model; "" */
    const atomic_int *stop;
    struct special_files files;
    json_t *vocab; /* vocab.json */
};

static int name_of(const struct folder *f, enum file which, char dst[DR_PATH_MAX],
                   struct dr_error *err)
{
    int r = dr_path_join(dst, DR_PATH_MAX, f->path, known[which].name);
    return r ? dr_fail(err, r, "%s: the path is too long", f->path) : 0;
}

static struct jx_limits limits_of(const struct folder *f, enum file which)
{
    return (struct jx_limits){ .bytes = known[which].bytes,
                               .depth = known[which].depth,
                               .members = known[which].members,
                               .unquoted = true,
                               .stop = f->stop };
}

/* NULL when there is no such file. */
static int locate(const struct folder *f, enum file which, const struct model_file **ret,
                  struct dr_error *err)
{
    char name[DR_PATH_MAX];
    int r = name_of(f, which, name, err);
    return r ? r : model_files_find(f->model, name, known[which].bytes, ret, err);
}

/* A JSON object from a file of the folder, NULL when there is none. */
static int read_object(const struct folder *f, enum file which, json_t **ret_object,
                       struct dr_error *err)
{
    char name[DR_PATH_MAX];
    struct jx_limits limits = limits_of(f, which);
    int r = name_of(f, which, name, err);
    return r ? r : model_files_json(f->model, name, true, &limits, ret_object, err);
}

static int stopped(const struct folder *f, size_t i, struct dr_error *err)
{
    return i % STOP_EVERY == 0 && f->stop && atomic_load(f->stop)
               ? dr_fail(err, DR_ECANCELED, "%s: reading it was stopped", f->path)
               : 0;
}

/* transformers writes an absent model_max_length as 10^30, which is no 64-bit JSON integer:
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
    const struct model_file *file;
    struct jx_limits limits = limits_of(f, CONFIG);
    int r = locate(f, CONFIG, &file, err);
    if (r || !file)
        return r;
    char *text = dr_malloc(DR_TAG_TOKENIZER, file->bytes + 1);
    if (!text)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory", file->path);
    memcpy(text, file->text, file->bytes);
    text[file->bytes] = '\0';
    shorten_integers(text, file->bytes);
    r = jx_parse(text, file->bytes, &limits, file->path, &f->files.config, err);
    dr_free(text);
    if (!r && !json_is_object(f->files.config))
        r = dr_fail(err, DR_EFORMAT, "%s: %s, expected an object", file->path,
                    jx_kind(f->files.config));
    return r;
}

static int read_files(struct folder *f, struct dr_error *err)
{
    int r = read_config(f, err);
    if (!r)
        r = read_object(f, WHOLE, &f->files.whole, err);
    if (!r && !f->files.whole)
        r = read_object(f, VOCAB, &f->vocab, err);
    if (r || json_object_get(f->files.config, "added_tokens_decoder"))
        return r;
    r = read_object(f, SPECIAL, &f->files.special, err);
    if (!r)
        r = read_object(f, ADDED, &f->files.legacy, err);
    return r;
}

static int load_vocab(struct tok *tok, const struct folder *f, const json_t *vocab,
                      const char *file, struct dr_error *err)
{
    const char *key;
    json_t *value;
    size_t i = 0;
    if (!json_object_size(vocab))
        return dr_fail(err, DR_EFORMAT, "%s: no vocabulary", file);
    json_object_foreach((json_t *)vocab, key, value)
    {
        if (!json_is_integer(value))
            return dr_fail(err, DR_EFORMAT, "%s: token '%s' has %s, expected an id", file, key,
                           jx_kind(value));
        int r = stopped(f, i++, err);
        if (!r)
            r = bpe_add_token(&tok->bpe, key, strlen(key), json_integer_value(value), err);
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
            return dr_fail(err, DR_EFORMAT, "expected two tokens with a space between them");
        return bpe_add_merge(&tok->bpe, text, (size_t)(space - text), space + 1, strlen(space + 1),
                             err);
    }
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right))
        return dr_fail(err, DR_EFORMAT, "%s, expected two tokens", jx_kind(merge));
    return bpe_add_merge(&tok->bpe, json_string_value(left), json_string_length(left),
                         json_string_value(right), json_string_length(right), err);
}

static int load_whole(struct tok *tok, const struct folder *f, struct dr_error *err)
{
    static const char file[] = "tokenizer.json";
    json_t *model, *vocab, *merges, *merge;
    const char *type = "BPE";
    size_t i;
    int r = jx_get_object(f->files.whole, file, "model", &model, err);
    if (!r)
        r = jx_opt_string(model, "tokenizer.json: model", "type", &type, err);
    if (!r && strcmp(type, "BPE"))
        r = dr_fail(err, DR_EUNSUPPORTED, "%s: a model of type '%s', expected 'BPE'", file, type);
    if (!r)
        r = jx_get_object(model, "tokenizer.json: model", "vocab", &vocab, err);
    if (!r)
        r = jx_get_array(model, "tokenizer.json: model", "merges", &merges, err);
    if (!r)
        r = load_vocab(tok, f, vocab, file, err);
    if (r)
        return r;
    json_array_foreach(merges, i, merge)
    {
        r = stopped(f, i, err);
        if (!r)
            r = load_merge(tok, merge, err);
        if (r)
            return dr_while(err, r, "reading %s, merge %zu", file, i + 1);
    }
    return 0;
}

static int load_merges(struct tok *tok, const struct folder *f, struct dr_error *err)
{
    const struct model_file *file;
    int r = locate(f, MERGES, &file, err);
    if (!r && !file)
        r = dr_fail(err, DR_ENOENT, "%s: no such file", known[MERGES].name);
    if (!r)
        r = dr_check_utf8(file->text, file->bytes, file->path, err);
    return r ? r : tok_parse_merges(tok, file->text, file->bytes, known[MERGES].name, err);
}

static int load_model(struct tok *tok, const struct folder *f, struct dr_error *err)
{
    if (f->files.whole)
        return load_whole(tok, f, err);
    if (!f->vocab)
        return dr_fail(err, DR_ENOENT, "neither tokenizer.json nor vocab.json");
    int r = load_vocab(tok, f, f->vocab, known[VOCAB].name, err);
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

int tok_find_files(struct model_files *model, const char *folder, struct dr_error *err)
{
    struct folder f = { .model = model, .path = folder };
    const struct model_file *file;
    int r = 0;
    for (int i = 0; !r && i < FILES; i++)
        r = locate(&f, (enum file)i, &file, err);
    return r;
}

int tok_open_files(struct model_files *model, const char *folder, const atomic_int *stop,
                   struct tok **ret_tok, struct dr_error *err)
{
    struct folder f = { .model = model, .path = folder, .stop = stop };
    struct tok *tok;
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
        return dr_while(err, r, "loading the tokenizer in %s%s%s", model_files_path(model),
                        *folder ? "/" : "", folder);
    }
    *ret_tok = tok;
    return 0;
}
