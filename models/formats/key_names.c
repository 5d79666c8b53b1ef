/* key_names.c - see key_names.h. Rules are tried in their order; the first whose result has the
 * form of the name gives the pattern, whose numbers are filled in. */
#include "models/formats/key_names.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "models/formats/key_rules.h"

enum { NUMBERS = 4 };

/* What the marks of a result stand for in a name. */
struct found {
    int number[NUMBERS], n; /* '#' and '^', in their order */
    int level, place;       /* '@', '$'; -1: the result has none */
    int letter;             /* '?': 0 to 2 for q, k, v; -1 */
    const char *rest;
};

static bool read_number(const char **key, int *ret)
{
    int v = 0, digits = 0;
    for (; **key >= '0' && **key <= '9' && digits < 4; (*key)++, digits++)
        v = v * 10 + (**key - '0');
    *ret = v;
    return digits > 0;
}

static bool read_letter(const char **key, int *ret)
{
    static const char letters[] = "qkv";
    const char *at = **key ? strchr(letters, **key) : NULL;
    if (!at)
        return false;
    (*key)++;
    *ret = (int)(at - letters);
    return true;
}

static bool has_form(const char *form, const char *key, struct found *f)
{
    *f = (struct found){ .level = -1, .place = -1, .letter = -1, .rest = "" };
    for (; *form; form++) {
        bool good = true;
        if (*form == '*') {
            f->rest = key;
            return true;
        }
        if (*form == '#' || *form == '^')
            good = f->n < NUMBERS && read_number(&key, &f->number[f->n++]);
        else if (*form == '@')
            good = read_number(&key, &f->level);
        else if (*form == '$')
            good = read_number(&key, &f->place);
        else if (*form == '?')
            good = read_letter(&key, &f->letter);
        else
            good = *key++ == *form;
        if (!good)
            return false;
    }
    return !*key;
}

/* ---- blocks of the UNet ---- */

/* Going down each level has its resnets and then, but for the last, a downsampler. */
static int input_block(const struct unet_arch *a, const struct found *f)
{
    int at = 1;
    if (f->level >= a->levels || f->place >= a->layers[f->level])
        return -1;
    for (int i = 0; i < f->level; i++)
        at += a->layers[i] + 1;
    return at + (f->place < 0 ? a->layers[f->level] : f->place);
}

/* Going up the coarsest level comes first, and an upsampler lies in the last block of its level. */
static int output_block(const struct unet_arch *a, const struct found *f)
{
    int at = 0;
    if (f->level >= a->levels || f->place > a->layers[a->levels - 1 - f->level])
        return -1;
    for (int i = 0; i < f->level; i++)
        at += a->layers[a->levels - 1 - i] + 1;
    return at + (f->place < 0 ? a->layers[a->levels - 1 - f->level] : f->place);
}

/* An upsampler follows the block's resnet, or its attention where it has one: two rules. */
static bool is_upsampler_of(const struct unet_arch *a, const struct rule *r, const struct found *f)
{
    static const char blocks[] = "output_blocks.#.";
    int level = a->levels - 1 - f->level;
    if (r->how != OUTPUT_BLOCK || f->place >= 0)
        return true;
    if (level < 0)
        return false;
    return r->from[sizeof blocks - 1] == (a->up_depth[level][a->layers[level]] ? '2' : '1');
}

/* ---- names ---- */

static bool put(struct key_source *ret, size_t *at, const char *fmt, ...) DR_PRINTF(3, 4);

static bool put(struct key_source *ret, size_t *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(ret->name + *at, sizeof ret->name - *at, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof ret->name - *at)
        return false;
    *at += (size_t)n;
    return true;
}

static bool name_by(const struct rule *rules, const struct key_numbering *n, const char *canonical,
                    struct key_source *ret, size_t at);

/* The marks of the pattern that are numbers. */
static bool put_number(const struct rule *r, const struct key_numbering *n, const struct found *f,
                       int *next, struct key_source *ret, size_t *at)
{
    if (r->how == INPUT_BLOCK || r->how == OUTPUT_BLOCK) {
        int block = r->how == INPUT_BLOCK ? input_block(n->unet, f) : output_block(n->unet, f);
        return block >= 0 && put(ret, at, "%d", block);
    }
    /* the same mark of the result tells whether it is counted from the other end */
    int i = *next;
    char mark = 0;
    for (const char *c = r->to; *c; c++)
        if ((*c == '#' || *c == '^') && !i--)
            mark = *c;
    int v = f->number[(*next)++];
    return put(ret, at, "%d", mark == '^' ? n->vae_levels - 1 - v : v);
}

static bool emit(const struct rule *r, const struct key_numbering *n, const struct found *f,
                 struct key_source *ret, size_t at)
{
    int next = 0;
    if (f->letter >= 0)
        ret->part = f->letter;
    if (r->how == TRANSPOSED)
        ret->transpose = true;
    for (const char *c = r->from; *c; c++) {
        bool good;
        if (*c == '#')
            good = put_number(r, n, f, &next, ret, &at);
        else if (*c == '*')
            return r->rest ? name_by(r->rest, n, f->rest, ret, at) : put(ret, &at, "%s", f->rest);
        else
            good = put(ret, &at, "%c", *c);
        if (!good)
            return false;
    }
    return true;
}

/* Appends to ret->name from `at` on. */
static bool name_by(const struct rule *rules, const struct key_numbering *n, const char *canonical,
                    struct key_source *ret, size_t at)
{
    struct found f;
    for (const struct rule *r = rules; r->from; r++)
        if (r->how != IGNORED && has_form(r->to, canonical, &f) &&
            (!n->unet || is_upsampler_of(n->unet, r, &f)) && emit(r, n, &f, ret, at))
            return true;
    return false;
}

bool key_name(enum key_form form, const struct key_numbering *n, const char *canonical,
              struct key_source *ret)
{
    *ret = (struct key_source){ .part = -1 };
    return name_by(key_rules(form), n, canonical, ret, 0);
}
