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
    return dr_fail(err, DR_ENOMEM, "out of memory for a tokenizer's files");
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
    spec.unsaid = !json_is_boolean(json_object_get(value, "normalized"));
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

static bool is_normalized(const struct added_spec *spec)
{
    return spec->unsaid ? !spec->special : spec->normalized;
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
            return dr_fail(err, DR_EFORMAT, "%s: '%s' is not an id", where, key);
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

/* Whether the named and extra tokens, as far as the reference knows them when it reads
 * added_tokens.json, have this content. */
static bool names_special(const struct special *s, const char *content)
{
    size_t i;
    json_t *value;
    for (i = 0; i < s->n_named; i++)
        if (s->named[i].known && s->named[i].spec.content &&
            !strcmp(s->named[i].spec.content, content))
            return true;
    json_array_foreach(s->extra[0], i, value)
    {
        if (json_is_string(value) && !strcmp(json_string_value(value), content))
            return true;
    }
    json_array_foreach(s->extra[1], i, value)
    {
        const char *text = json_string_value(
            json_is_object(value) ? json_object_get(value, "content") : value);
        if (text && !strcmp(text, content))
            return true;
    }
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

static int set_named(struct special *s, const char *key, const struct added_spec *spec, bool known,
                     struct dr_error *err)
{
    size_t i = 0;
    while (i < s->n_named && strcmp(s->named[i].key, key))
        i++;
    if (i == SPECIAL_MAX_NAMED)
        return dr_fail(err, DR_ELIMIT, "more than %d named special tokens", SPECIAL_MAX_NAMED);
    s->named[i] = (struct special_named){ key, *spec, known };
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

static bool ends_in_token(const char *key)
{
    static const char ending[] = "_token";
    size_t n = strlen(key);
    return n >= sizeof ending && !strcmp(key + n - (sizeof ending - 1), ending);
}

/* Which members "*_token" of a file to take. Those beyond the seven known names are tokens that a
 * model brings, when they are tokens at all (add_bos_token is a flag). */
enum take { TAKE_FIXED, TAKE_STRINGS, TAKE_OBJECTS, TAKE_OTHERS };

static bool takes(enum take take, const char *key, const json_t *value)
{
    if (!ends_in_token(key) || (take == TAKE_FIXED) != is_fixed(key))
        return false;
    return take == TAKE_FIXED || (json_is_string(value) && take != TAKE_OBJECTS) ||
           (json_is_object(value) && take != TAKE_STRINGS);
}

static int collect_named(struct special *s, const json_t *object, enum take take, const char *file,
                         bool special, struct dr_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        struct added_spec spec = { 0 };
        if (!takes(take, key, value))
            continue;
        int r = json_is_null(value) ? 0 : parse_spec(value, file, special, &spec, err);
        bool known = take == TAKE_FIXED && (special || json_is_string(value));
        if (!r)
            r = set_named(s, key, &spec, known, err);
        if (r)
            return r;
    }
    return 0;
}

/* An object of extra special tokens: its members are named tokens. */
static int collect_extra_object(struct special *s, const json_t *object, const char *file,
                                struct dr_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return 0;
    json_object_foreach((json_t *)object, key, value)
    {
        struct added_spec spec;
        int r = parse_spec(value, file, false, &spec, err);
        if (!r)
            r = set_named(s, key, &spec, false, err);
        if (r)
            return r;
    }
    return 0;
}

static const char config_name[] = "tokenizer_config.json";
static const char special_name[] = "special_tokens_map.json";

/* The seven: defaults, then tokenizer_config.json, then special_tokens_map.json if it is read. The
 * model's own: first those that the reference meets as keywords of the constructor, then those that
 * it has set apart before. */
static int name_tokens(struct special *s, const struct special_files *files, struct dr_error *err)
{
    static const char start[] = "<|startoftext|>", end[] = "<|endoftext|>";
    for (int i = 0; i < SPECIAL_NAMES; i++) {
        struct added_spec spec = { .plain = true, .special = true };
        if (i == SPECIAL_BOS || i == SPECIAL_EOS || i == SPECIAL_UNK || i == SPECIAL_PAD)
            spec.content = i == SPECIAL_BOS ? start : end;
        set_named(s, named_keys[i], &spec, false, NULL);
    }
    int r = collect_named(s, files->config, TAKE_FIXED, config_name, false, err);
    if (!r)
        r = collect_named(s, files->special, TAKE_FIXED, special_name, true, err);
    if (!r)
        r = collect_named(s, files->config, TAKE_OBJECTS, config_name, false, err);
    if (!r)
        r = collect_named(s, files->special, TAKE_OTHERS, special_name, true, err);
    if (!r)
        r = collect_named(s, files->config, TAKE_STRINGS, config_name, false, err);
    json_t *extra = json_object_get(files->config, "extra_special_tokens");
    if (!r)
        r = collect_extra_object(s, extra, config_name, err);
    extra = json_object_get(files->special, "extra_special_tokens");
    return r ? r : collect_extra_object(s, extra, special_name, err);
}

/* The lists under "extra_special_tokens", which older files call "additional_special_tokens". The
 * old name counts where the new one is absent or empty; that of special_tokens_map.json only when
 * no list is left. */
static void find_extra(struct special *s, const struct special_files *files)
{
    json_t *extra = json_object_get(files->config, "extra_special_tokens");
    json_t *old = json_object_get(files->config, "additional_special_tokens");
    json_t *more = json_object_get(files->special, "extra_special_tokens");
    json_t *late = json_object_get(files->special, "additional_special_tokens");
    bool listed = false;
    if (old && !json_array_size(extra) && !json_object_size(extra)) {
        s->extra[0] = old;
        listed = true;
        old = NULL;
    } else if (extra && !json_is_object(extra)) {
        s->extra[0] = extra;
        listed = true;
    }
    if (json_is_array(more)) {
        s->extra[1] = more;
        listed = true;
    } else if (json_is_object(more)) {
        s->extra[0] = NULL;
        listed = false;
    }
    if (!listed)
        s->late_extra = late ? late : old;
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
           is_normalized(a) == is_normalized(b) && a->special == b->special;
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

/* The tokens of a list. Anything else holds none. */
static int add_list(struct special *s, json_t *list, const char *file, bool special,
                    struct dr_error *err)
{
    size_t i;
    json_t *value;
    struct added_spec spec;
    json_array_foreach(list, i, value)
    {
        int r = parse_spec(value, file, special, &spec, err);
        if (!r)
            r = add_special(s, &spec, err);
        if (r)
            return r;
    }
    return 0;
}

/* A token with the content of a named one is special, whatever its own entry says. */
static void settle(struct special *s, struct added_spec *spec)
{
    for (size_t i = 0; i < s->n_named; i++)
        if (s->named[i].spec.content && !strcmp(s->named[i].spec.content, spec->content))
            spec->special = true;
    spec->normalized = is_normalized(spec);
    spec->unsaid = false;
}

static int order_tokens(struct special *s, struct dr_error *err)
{
    int r = 0;
    for (size_t i = 0; i < s->n_numbered && !r; i++)
        r = add_spec(s, &s->numbered[i].spec, err);
    for (size_t i = 0; i < s->n_named && !r; i++)
        if (s->named[i].spec.content)
            r = add_special(s, &s->named[i].spec, err);
    if (!r)
        r = add_list(s, s->extra[0], config_name, false, err);
    if (!r)
        r = add_list(s, s->extra[1], special_name, true, err);
    if (!r)
        r = add_list(s, s->late_extra, "additional_special_tokens", false, err);
    for (size_t i = 0; i < s->n_specs && !r; i++)
        settle(s, &s->specs[i]);
    return r;
}

/* Lists are compared with each other entry by entry, so none may be long. */
static int check_lengths(const struct special *s, const struct special_files *files,
                         struct dr_error *err)
{
    const struct {
        const char *what;
        size_t n;
    } lists[] = {
        { "added_tokens.json", json_object_size(files->legacy) },
        { "tokenizer_config.json: added_tokens_decoder",
          json_object_size(json_object_get(files->config, "added_tokens_decoder")) },
        { "tokenizer.json: added_tokens",
          json_array_size(json_object_get(files->whole, "added_tokens")) },
        { "extra_special_tokens", json_array_size(s->extra[0]) },
        { "extra_special_tokens", json_array_size(s->extra[1]) },
        { "additional_special_tokens", json_array_size(s->late_extra) },
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (lists[i].n > ADDED_MAX)
            return dr_fail(err, DR_ELIMIT, "%s: %zu tokens, at most %d expected", lists[i].what,
                           lists[i].n, ADDED_MAX);
    return 0;
}

int special_collect(struct special *s, const struct special_files *files, struct dr_error *err)
{
    static const enum special_name needed[] = { SPECIAL_BOS, SPECIAL_EOS, SPECIAL_UNK,
                                                SPECIAL_PAD };
    int r = name_tokens(s, files, err);
    find_extra(s, files);
    if (!r)
        r = check_lengths(s, files, err);
    if (!r)
        r = number_tokens(s, files, err);
    if (!r)
        r = order_tokens(s, err);
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
