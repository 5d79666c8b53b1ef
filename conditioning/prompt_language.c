/* prompt_language.c - see prompt_language.h. */
#include "conditioning/prompt_language.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

const struct prompt_language prompt_plain = { .name = "plain", .title = "plain words" };

static const struct prompt_language *const languages[] = { &prompt_plain, &prompt_a1111,
                                                           &prompt_sdcpp, &prompt_comfyui };

const struct prompt_language *prompt_language_find(const char *name)
{
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++)
        if (!strcmp(languages[i]->name, name))
            return languages[i];
    return NULL;
}

void prompt_spans_init(struct prompt_spans *s)
{
    memset(s, 0, sizeof *s);
    buf_init(&s->text, DR_TAG_JOB, 0);
}

void prompt_spans_release(struct prompt_spans *s)
{
    buf_free(&s->text);
    dr_free(s->span);
    memset(s, 0, sizeof *s);
}

static int add(struct prompt_spans *s, const struct prompt_span *span)
{
    if (s->n == s->cap) {
        int cap = s->cap ? 2 * s->cap : 16;
        struct prompt_span *more = dr_realloc(DR_TAG_JOB, s->span, (size_t)cap * sizeof *more);
        if (!more)
            return DR_ENOMEM;
        s->span = more;
        s->cap = cap;
    }
    s->span[s->n++] = *span;
    return 0;
}

int prompt_spans_add(struct prompt_spans *s, const char *text, size_t n, double weight)
{
    struct prompt_span span = { .at = s->text.len, .n = n, .weight = weight };
    int r = buf_append(&s->text, text, n);
    return r ? r : add(s, &span);
}

int prompt_spans_break(struct prompt_spans *s)
{
    return add(s, &(struct prompt_span){ .at = s->text.len, .weight = 1, .ends_chunk = true });
}

bool prompt_number(const char *at, size_t n, double *ret)
{
    char text[40], *end;
    if (!n || n >= sizeof text || strspn(at, "+-.0123456789") < n)
        return false;
    memcpy(text, at, n);
    text[n] = '\0';
    *ret = strtod(text, &end);
    return !*end && end > text && isfinite(*ret);
}

int prompt_weight_refuse(const char *field, const char *got, size_t n, struct dr_error *err)
{
    char text[48], expected[64];
    size_t shown = n < sizeof text ? n : utf8_valid_prefix(got, sizeof text - 1);
    snprintf(text, sizeof text, "weight %.*s", (int)shown, got);
    snprintf(expected, sizeof expected, "a number from -%d to %d", PROMPT_WEIGHT, PROMPT_WEIGHT);
    return dr_fail_field(err, DR_EINVAL, field, text, expected, NULL);
}

bool prompt_is_word(const char *text, size_t at)
{
    unsigned char c = (unsigned char)text[at];
    if (c < 0x80)
        return isalnum(c) || c == '_';
    while (at && ((unsigned char)text[at] & 0xc0) == 0x80)
        at--;
    uint32_t v = 0;
    utf8_decode(text + at, strlen(text + at) < 4 ? strlen(text + at) : 4, &v);
    bool latin_sign = v < 0xc0 && v != 0xaa && v != 0xb5 && v != 0xba;
    bool punctuation = (v >= 0x2000 && v < 0x2070) || (v >= 0x3000 && v < 0x3004) ||
                       (v >= 0x3008 && v < 0x3021) || (v >= 0xff00 && v < 0xff10) ||
                       (v >= 0xff1a && v < 0xff21) || (v >= 0xff3b && v < 0xff3f) ||
                       (v >= 0xff5b && v < 0xff66);
    return !latin_sign && !punctuation && v != 0xd7 && v != 0xf7;
}
