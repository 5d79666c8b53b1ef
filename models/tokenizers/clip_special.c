/* clip_special.c - see clip_special.h. */
#include "models/tokenizers/clip_special.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"

static const char *const named_keys[SPECIAL_NAMES] = { "bos_token", "eos_token", "unk_token",
                                                       "sep_token", "pad_token", "cls_token",
                                                       "mask_token" };

static int no_memory(struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "no memory for a tokenizer's files");
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

static int add_numbered(struct special *s, int64_t number, const struct added_spec *spec,
                        struct dr_error *err)
{
    if (number < 0 || number >= BPE_MAX_IDS)
        return dr_fail(err, DR_EFORMAT, "added token '%s' has id %lld, expected 0 to %d",
                       spec->content, (long long)number, BPE_MAX_IDS - 1);
    for (size_t i = 0; i < s->n_numbered; i++) {
        if (s->numbered[i].number == number) { /* the later file wins */
            s->numbered[i].spec = *spec;
            return 0;
        }
    }
    if (s->n_numbered >= ADDED_MAX)
        return dr_fail(err, DR_ELIMIT, "more than %d added tokens", ADDED_MAX);
    if (s->n_numbered == s->numbered_cap) {
        size_t cap = s->numbered_cap ? s->numbered_cap * 2 : 16;
        void *p = dr_realloc(DR_TAG_TOKENIZER, s->numbered, cap * sizeof *s->numbered);
        if (!p)
            return no_memory(err);
        s->numbered = p;
        s->numbered_cap = cap;
    }
    s->numbered[s->n_numbered++] = (struct special_numbered){ number, *spec };
    return 0;
}

static int numbered_from_decoder(struct special *s, const json_t *decoder, struct dr_error *err)
{
    static const char where[] = "tokenizer_config.json: added_tokens_decoder";
    const char *key;
    json_t *value;
    if (!json_is_object(decoder))
        return dr_fail(err, DR_EFORMAT, "%s: %s, expected an object", where, jx_kind(decoder));
    json_object_foreach((json_t *)decoder, key, value)
    {
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
            r = add_numbered(s, number, &spec, err);
        if (r)
            return r;
    }
    return 0;
}

static bool names_special(const struct special *s, const char *content)
{
    for (size_t i = 0; i < s->n_named; i++)
        if (s->named[i].spec.content && !strcmp(s->named[i].spec.content, content))
            return true;
    return false;
}

/* added_tokens.json: {"token": id}. */
static int numbered_from_legacy(struct special *s, const struct special_files *files,
                                struct dr_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(files->legacy, key, value)
    {
        if (!json_is_integer(value))
            return dr_fail(err, DR_EFORMAT, "added_tokens.json: '%s' has %s, expected an id", key,
                           jx_kind(value));
        bool special = names_special(s, key);
        struct added_spec spec = { .content = key, .special = special, .normalized = !special };
        int r = add_numbered(s, json_integer_value(value), &spec, err);
        if (r)
            return r;
    }
    return 0;
}

/* "added_tokens" of tokenizer.json: a list of tokens with ids. */
static int numbered_from_whole(struct special *s, const struct special_files *files,
                               struct dr_error *err)
{
    static const char where[] = "tokenizer.json: added_tokens";
    size_t i;
    json_t *value, *list = json_object_get(files->whole, "added_tokens");
    if (list && !json_is_array(list))
        return dr_fail(err, DR_EFORMAT, "%s: %s, expected an array", where, jx_kind(list));
    json_array_foreach(list, i, value)
    {
        int64_t id;
        struct added_spec spec;
        if (!json_is_object(value))
            return dr_fail(err, DR_EFORMAT, "%s: %s, expected a token", where, jx_kind(value));
        int r = jx_get_int(value, where, "id", 0, BPE_MAX_IDS - 1, &id, err);
        if (!r)
            r = parse_spec(value, where, false, &spec, err);
        if (!r)
            r = add_numbered(s, id, &spec, err);
        if (r)
            return r;
    }
    return 0;
}

static int set_named(struct special *s, const char *key, const struct added_spec *spec,
                     struct dr_error *err)
{
    size_t i = 0;
    while (i < s->n_named && strcmp(s->named[i].key, key))
        i++;
    if (i == SPECIAL_MAX_NAMED)
        return dr_fail(err, DR_ELIMIT, "more than %d named special tokens", SPECIAL_MAX_NAMED);
    s->named[i].key = key;
    s->named[i].spec = *spec;
    if (i == s->n_named)
        s->n_named++;
    return 0;
}

static bool is_fixed(const char *key)
{
    for (int i = 0; i < SPECIAL_NAMES; i++)
        if (!strcmp(named_keys[i], key))
            return true;
    return false;
}

/* Members "*_token" of an object: the seven known names, and others that a model brings (those
 * only when they are tokens at all: add_bos_token is a flag). */
static int collect_named(struct special *s, const json_t *object, const char *file, bool special,
                         struct dr_error *err)
{
    static const char ending[] = "_token";
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        size_t n = strlen(key);
        struct added_spec spec = { 0 };
        bool token = json_is_string(value) || json_is_object(value);
        if (n < sizeof ending || strcmp(key + n - (sizeof ending - 1), ending))
            continue;
        if (!token && !is_fixed(key))
            continue;
        int r = json_is_null(value) ? 0 : parse_spec(value, file, special, &spec, err);
        if (!r)
            r = set_named(s, key, &spec, err);
        if (r)
            return r;
    }
    return 0;
}

/* Defaults, then tokenizer_config.json, then special_tokens_map.json if it is heard. */
static int name_tokens(struct special *s, const struct special_files *files, struct dr_error *err)
{
    static const char start[] = "<|startoftext|>", end[] = "<|endoftext|>";
    for (int i = 0; i < SPECIAL_NAMES; i++) {
        struct added_spec spec = { .plain = true, .special = true };
        if (i == SPECIAL_BOS || i == SPECIAL_EOS || i == SPECIAL_UNK || i == SPECIAL_PAD)
            spec.content = i == SPECIAL_BOS ? start : end;
        set_named(s, named_keys[i], &spec, NULL);
    }
    int r = collect_named(s, files->config, "tokenizer_config.json", false, err);
    return r ? r : collect_named(s, files->special, "special_tokens_map.json", true, err);
}

static int by_number(const void *a, const void *b)
{
    const struct special_numbered *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static int number_tokens(struct special *s, const struct special_files *files, struct dr_error *err)
{
    const json_t *decoder = json_object_get(files->config, "added_tokens_decoder");
    int r = 0;
    if (decoder) {
        r = numbered_from_decoder(s, decoder, err);
    } else {
        r = numbered_from_legacy(s, files, err);
        if (!r)
            r = numbered_from_whole(s, files, err);
    }
    if (r || !s->n_numbered)
        return r;
    qsort(s->numbered, s->n_numbered, sizeof *s->numbered, by_number);
    for (size_t i = 0; i < s->n_named; i++) {
        struct special_named *named = &s->named[i];
        if (i >= SPECIAL_NAMES || !named->spec.content)
            continue;
        for (size_t k = s->n_numbered; k--;) {
            if (!strcmp(s->numbered[k].spec.content, named->spec.content)) {
                named->spec = s->numbered[k].spec;
                break;
            }
        }
    }
    return 0;
}

static int add_spec(struct special *s, const struct added_spec *spec, struct dr_error *err)
{
    if (s->n_specs == s->specs_cap) {
        size_t cap = s->specs_cap ? s->specs_cap * 2 : 16;
        void *p = dr_realloc(DR_TAG_TOKENIZER, s->specs, cap * sizeof *s->specs);
        if (!p)
            return no_memory(err);
        s->specs = p;
        s->specs_cap = cap;
    }
    s->specs[s->n_specs++] = *spec;
    return 0;
}

static bool same_spec(const struct added_spec *a, const struct added_spec *b)
{
    return !strcmp(a->content, b->content) && a->plain == b->plain &&
           a->single_word == b->single_word && a->lstrip == b->lstrip && a->rstrip == b->rstrip &&
           a->normalized == b->normalized && a->special == b->special;
}

/* Adds a special token unless a numbered one has its content or the very same entry is there. */
static int add_special(struct special *s, const struct added_spec *spec, struct dr_error *err)
{
    for (size_t i = 0; i < s->n_numbered; i++)
        if (!strcmp(s->numbered[i].spec.content, spec->content))
            return 0;
    for (size_t i = 0; i < s->n_specs; i++)
        if (same_spec(&s->specs[i], spec))
            return 0;
    return add_spec(s, spec, err);
}

/* The tokens of a list, or the values of an object. Anything else holds none. */
static int add_all(struct special *s, json_t *list, const char *file, struct dr_error *err)
{
    size_t i;
    const char *key;
    json_t *value;
    struct added_spec spec;
    int r = 0;
    json_array_foreach(list, i, value)
    {
        if (!(r = parse_spec(value, file, false, &spec, err)))
            r = add_special(s, &spec, err);
        if (r)
            return r;
    }
    if (!json_is_object(list))
        return 0;
    json_object_foreach(list, key, value)
    {
        if (!(r = parse_spec(value, file, false, &spec, err)))
            r = add_special(s, &spec, err);
        if (r)
            return r;
    }
    return 0;
}

/* "extra_special_tokens", which older files call "additional_special_tokens". The old name counts
 * in special_tokens_map.json only when nothing else has spoken. */
static int add_extra(struct special *s, const struct special_files *files, struct dr_error *err)
{
    json_t *extra = json_object_get(files->config, "extra_special_tokens");
    json_t *old = json_object_get(files->config, "additional_special_tokens");
    bool said = extra || old;
    if (!json_array_size(extra) && !json_object_size(extra) && old)
        extra = old;
    int r = add_all(s, extra, "tokenizer_config.json", err);
    extra = json_object_get(files->special, "extra_special_tokens");
    if (!extra && !said)
        extra = json_object_get(files->special, "additional_special_tokens");
    return r ? r : add_all(s, extra, "special_tokens_map.json", err);
}

static int order_tokens(struct special *s, const struct special_files *files, struct dr_error *err)
{
    int r = 0;
    for (size_t i = 0; i < s->n_numbered && !r; i++)
        r = add_spec(s, &s->numbered[i].spec, err);
    for (size_t i = 0; i < s->n_named && !r; i++)
        if (s->named[i].spec.content)
            r = add_special(s, &s->named[i].spec, err);
    return r ? r : add_extra(s, files, err);
}

int special_collect(struct special *s, const struct special_files *files, struct dr_error *err)
{
    static const enum special_name needed[] = { SPECIAL_BOS, SPECIAL_EOS, SPECIAL_UNK,
                                                SPECIAL_PAD };
    int r = name_tokens(s, files, err);
    if (!r)
        r = number_tokens(s, files, err);
    if (!r)
        r = order_tokens(s, files, err);
    for (size_t i = 0; i < sizeof needed / sizeof *needed && !r; i++)
        if (!s->named[needed[i]].spec.content)
            r = dr_fail(err, DR_EFORMAT, "%s is null, expected a token", named_keys[needed[i]]);
    return r;
}

void special_free(struct special *s)
{
    dr_free(s->numbered);
    dr_free(s->specs);
    memset(s, 0, sizeof *s);
}
