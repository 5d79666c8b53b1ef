/* textual_inversions.c - see textual_inversions.h. */
#include "models/adapters/textual_inversions.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "models/tokenizers/added.h"
#include "models/tokenizers/clip_tokenizer.h"

enum { NAME_BYTES = 256 };

/* What textual_inversions_fit works on. */
struct fitting {
    struct textual_inversions *set;
    const struct inversion_encoder *encoder;
    void (*warning)(void *ctx, const char *text);
    void *ctx;
};

static const char *const ordinals[INVERSION_ENCODERS] = { "first", "second" };

static void item_release(struct textual_inversion *t)
{
    for (int i = 0; i < t->n_names; i++)
        dr_free(t->name[i]);
    inversion_release(&t->file);
}

void textual_inversions_release(struct textual_inversions *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n; i++)
        item_release(&s->item[i]);
    for (int e = 0; e < INVERSION_ENCODERS; e++) {
        tok_free(s->tokens[e]);
        dr_free((float *)s->words[e].vectors);
    }
    memset(s, 0, sizeof *s);
}

static int no_memory(struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "out of memory for textual inversions");
}

/* Without white space around it. */
static int add_name(struct textual_inversion *t, const char *name, size_t n, struct dr_error *err)
{
    for (; n && *name == ' '; n--)
        name++;
    while (n && name[n - 1] == ' ')
        n--;
    if (!n || n > NAME_BYTES)
        return dr_fail_field(err, DR_EINVAL, "embeddings.token", n ? "a longer text" : "nothing",
                             "a word of 1 to 256 bytes", t->file.path);
    t->name[t->n_names] = dr_strndup(DR_TAG_JOB, name, n);
    if (!t->name[t->n_names])
        return no_memory(err);
    t->n_names++;
    return 0;
}

static const char extension[] = ".safetensors"; /* a name may have other points in it */

static int name_item(struct textual_inversion *t, const char *path, const char *name,
                     struct dr_error *err)
{
    const char *base = dr_path_base(path);
    size_t stem = strlen(base), n = strlen(extension);
    if (stem > n && !strcmp(base + stem - n, extension))
        stem -= n;
    t->named = name != NULL;
    if (name)
        return add_name(t, name, strlen(name), err);
    int r = add_name(t, base, stem, err);
    if (!r && t->file.token)
        r = add_name(t, t->file.token, strlen(t->file.token), err);
    return r;
}

int textual_inversions_add(struct textual_inversions *s, int fd, const char *path, const char *name,
                           int64_t most, struct dr_error *err)
{
    struct textual_inversion t = { .n_names = 0 };
    if (s->n == INVERSIONS_MAX)
        return dr_fail(err, DR_ELIMIT, "embeddings: more than %d", INVERSIONS_MAX);
    int r = inversion_read(fd, path, most, &t.file, err);
    if (r < 0)
        return r;
    r = name_item(&t, path, name, err);
    if (r < 0)
        item_release(&t);
    else
        s->item[s->n++] = t;
    return r;
}

/* ---- which encoder ---- */

static int fail_width(const struct fitting *f, const struct textual_inversion *t, int part,
                      struct dr_error *err)
{
    char field[160], got[60], expected[160] = "";
    size_t used = 0;
    snprintf(field, sizeof field, "%.90s: tensor %.50s", t->file.path, t->file.part[part].name);
    snprintf(got, sizeof got, "vectors of %lld", (long long)t->file.part[part].width);
    for (int e = 0; e < INVERSION_ENCODERS; e++)
        if (f->encoder[e].tokens)
            used += (size_t)snprintf(expected + used, sizeof expected - used,
                                     "%s%lld (%s text encoder)", used ? ", " : "",
                                     (long long)f->encoder[e].width, ordinals[e]);
    return dr_fail_field(err, DR_EINVAL, field, got, expected,
                         "it was made for another family of models");
}

/* The encoder of a part; -1: none. */
static int encoder_of(const struct fitting *f, const struct textual_inversion *t, int part)
{
    enum inversion_role role = t->file.part[part].role;
    for (int e = 0; e < INVERSION_ENCODERS; e++) {
        bool meant = role == INVERSION_ANY || role == (e ? INVERSION_SECOND : INVERSION_FIRST);
        if (meant && f->encoder[e].tokens && f->encoder[e].width == t->file.part[part].width)
            return e;
    }
    return -1;
}

static void warn_partial(const struct fitting *f, const struct textual_inversion *t)
{
    char text[400];
    for (int e = 0; e < INVERSION_ENCODERS; e++) {
        if (!f->encoder[e].tokens || t->count[e])
            continue;
        snprintf(text, sizeof text,
                 "embedding %.160s has no vectors for the %s text encoder, which reads '%.80s' as "
                 "plain text",
                 t->file.path, ordinals[e], t->name[0]);
        f->warning(f->ctx, text);
    }
}

static int place_item(const struct fitting *f, struct textual_inversion *t, struct dr_error *err)
{
    for (int i = 0; i < t->file.n_parts; i++) {
        int e = encoder_of(f, t, i);
        if (e < 0)
            return fail_width(f, t, i, err);
        t->first[e] = f->set->words[e].n;
        t->count[e] = t->file.part[i].n;
        f->set->words[e].n += t->count[e];
    }
    warn_partial(f, t);
    return 0;
}

/* All vectors of an encoder in the order of their ids. */
static int gather(struct textual_inversions *s, int e, int64_t width, struct dr_error *err)
{
    float *all = dr_malloc(DR_TAG_JOB, (size_t)(s->words[e].n * width) * sizeof *all);
    if (!all)
        return no_memory(err);
    s->words[e].vectors = all;
    for (int i = 0; i < s->n; i++) {
        const struct textual_inversion *t = &s->item[i];
        for (int k = 0; t->count[e] && k < t->file.n_parts; k++) {
            enum inversion_role other = e ? INVERSION_FIRST : INVERSION_SECOND;
            if (t->file.part[k].role != other)
                memcpy(all + t->first[e] * width, t->file.part[k].vectors,
                       (size_t)(t->count[e] * width) * sizeof *all);
        }
    }
    return 0;
}

/* ---- names ---- */

static int fail_name(const struct textual_inversion *t, const char *name, const char *expected,
                     struct dr_error *err)
{
    return dr_fail_field(err, DR_EINVAL, "embeddings.token", name, expected, t->file.path);
}

/* What the name is to the model's tokenizer. */
static int check_word(const struct fitting *f, const struct textual_inversion *t, const char *name,
                      const struct tok *tokens, struct dr_error *err)
{
    struct tok_info info = tok_info(tokens);
    char text[400];
    int32_t *ids;
    int64_t n;
    int r = tok_encode(tokens, name, strlen(name), &ids, &n, err);
    if (r < 0)
        return dr_while(err, r, "reading the name of %s", t->file.path);
    int32_t id = n == 1 ? ids[0] : -1;
    dr_free(ids);
    if (!n)
        return fail_name(t, name, "a word with a visible character", err);
    if (id >= 0 && (id == info.bos || id == info.eos || id == info.pad))
        return fail_name(t, name, "a name that is no special token of the model", err);
    if (id >= 0 && id != info.unk) {
        snprintf(text, sizeof text,
                 "'%.80s' is a word that the model knows; in prompts it now means the embedding "
                 "%.160s (token=NAME gives it another name)",
                 name, t->file.path);
        f->warning(f->ctx, text);
    }
    return 0;
}

static int same_name(const struct tok *tokens, const char *a, const char *b, bool *ret_same,
                     struct dr_error *err)
{
    struct buf x, y;
    buf_init(&x, DR_TAG_JOB, 0);
    buf_init(&y, DR_TAG_JOB, 0);
    int r = tok_normal_form(tokens, a, &x, err);
    if (!r)
        r = tok_normal_form(tokens, b, &y, err);
    *ret_same = !r && !strcmp(buf_text(&x), buf_text(&y));
    buf_free(&x);
    buf_free(&y);
    return r;
}

/* Against the names of the items before it. */
static int check_unique(const struct fitting *f, int item, const char *name,
                        const struct tok *tokens, struct dr_error *err)
{
    char expected[200];
    bool same;
    for (int i = 0; i < item; i++) {
        const struct textual_inversion *other = &f->set->item[i];
        for (int k = 0; k < other->n_names; k++) {
            int r = same_name(tokens, name, other->name[k], &same, err);
            if (r < 0)
                return r;
            if (same) {
                snprintf(expected, sizeof expected,
                         "another name than that of the embedding %.120s (token=NAME)",
                         other->file.path);
                return fail_name(&f->set->item[item], name, expected, err);
            }
        }
    }
    return 0;
}

/* An item's second name that is the first one in other letters is dropped. */
static int check_names(const struct fitting *f, int item, const struct tok *tokens,
                       struct dr_error *err)
{
    struct textual_inversion *t = &f->set->item[item];
    bool same = false;
    int r = t->n_names == 2 ? same_name(tokens, t->name[0], t->name[1], &same, err) : 0;
    if (same)
        dr_free(t->name[--t->n_names]);
    for (int k = 0; !r && k < t->n_names; k++) {
        r = check_word(f, t, t->name[k], tokens, err);
        if (!r)
            r = check_unique(f, item, t->name[k], tokens, err);
    }
    return r;
}

/* The model's tokenizer with the words of an encoder. */
static int extend(struct textual_inversions *s, int e, const struct inversion_encoder *encoder,
                  struct dr_error *err)
{
    struct added_word words[INVERSIONS_MAX * INVERSION_NAMES];
    size_t n = 0;
    for (int i = 0; i < s->n; i++)
        for (int k = 0; s->item[i].count[e] && k < s->item[i].n_names; k++)
            words[n++] = (struct added_word){ .text = s->item[i].name[k],
                                              .id = (int32_t)(encoder->vocab + s->item[i].first[e]),
                                              .count = (int32_t)s->item[i].count[e] };
    return tok_extend(encoder->tokens, words, n, &s->tokens[e], err);
}

static int identify(struct textual_inversions *s, struct dr_error *err)
{
    struct sha256 *sha = sha256_new();
    int r = sha ? 0 : DR_ENOMEM;
    for (int i = 0; !r && i < s->n; i++)
        r = sha256_update(sha, s->item[i].file.hex, SHA256_HEX);
    if (!r)
        r = sha256_finish(sha, s->identity);
    sha256_free(sha);
    return r < 0 ? dr_fail(err, r, "embeddings: no digest: %s", dr_code_meaning(r)) : 0;
}

int textual_inversions_fit(struct textual_inversions *s,
                           const struct inversion_encoder encoders[INVERSION_ENCODERS],
                           void (*warning)(void *ctx, const char *text), void *ctx,
                           struct dr_error *err)
{
    const struct fitting f = { s, encoders, warning, ctx };
    int first = encoders[0].tokens ? 0 : 1, r = 0;
    for (int i = 0; !r && i < s->n; i++) {
        r = place_item(&f, &s->item[i], err);
        if (!r)
            r = check_names(&f, i, encoders[first].tokens, err);
    }
    for (int e = 0; !r && e < INVERSION_ENCODERS; e++) {
        if (!encoders[e].tokens)
            continue;
        r = extend(s, e, &encoders[e], err);
        if (!r && s->words[e].n)
            r = gather(s, e, encoders[e].width, err);
    }
    return r ? r : identify(s, err);
}

bool textual_inversions_used(const struct textual_inversions *s, int i, int encoder, int64_t vocab,
                             const int32_t *ids, int64_t n)
{
    int64_t first = vocab + s->item[i].first[encoder], end = first + s->item[i].count[encoder];
    for (int64_t k = 0; k < n; k++)
        if (ids[k] >= first && ids[k] < end)
            return true;
    return false;
}
