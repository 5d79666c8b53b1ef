/* prompt_syntax.c - see prompt_syntax.h.
 *
 * A kind is a function that says how many bytes from here on are such syntax. None looks further
 * than REACH bytes, so that the whole is linear.
 */
#include "conditioning/prompt_syntax.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

enum { REACH = 200, SHOWN = 28 };

/* Where in which text. */
struct place {
    const char *text, *at;
};

static bool letter(int c)
{
    return isalpha((unsigned char)c) || (unsigned char)c >= 0x80;
}

static bool digit(int c)
{
    return isdigit((unsigned char)c) != 0;
}

/* The byte `back` bytes before; ' ' at the start. */
static int before(const struct place *p, int back)
{
    return p->at - p->text >= back ? p->at[-back] : ' ';
}

/* Bytes to the bracket that closes the one at `at`, which counts; 0: none within reach. */
static size_t closed(const char *at, char open, char close)
{
    int depth = 0;
    for (size_t i = 0; i < REACH && at[i]; i++) {
        depth += (at[i] == open) - (at[i] == close);
        if (!depth)
            return i + 1;
    }
    return 0;
}

/* Whether a decimal number fills [at, end) but for space. *ret_point: it has a point. */
static bool number(const char *at, const char *end, bool *ret_point)
{
    int digits = 0, points = 0;
    for (; at < end && (*at == ' ' || *at == '-'); at++)
        ;
    for (; at < end && (digit(*at) || *at == '.'); at++) {
        points += *at == '.';
        digits += digit(*at);
    }
    for (; at < end && *at == ' '; at++)
        ;
    *ret_point = points > 0;
    return at == end && digits > 0 && points <= 1;
}

/* Whether the bracket that ends before `end` has ":NUMBER" last. "16:9" and "10:30" are none. */
static bool weighted(const char *at, size_t n)
{
    const char *end = at + n - 1, *colon = end;
    bool point;
    while (colon > at && *colon != ':')
        colon--;
    if (colon <= at + 1 || !number(colon + 1, end, &point))
        return false;
    return point || !digit(colon[-1]);
}

/* Whether only space is between `at` and the end of a comma-separated item. */
static bool item_ends(const char *at)
{
    while (*at == ' ')
        at++;
    return !*at || *at == ',' || *at == '\n';
}

static bool item_begins(const struct place *p)
{
    const char *at = p->at;
    while (at > p->text && at[-1] == ' ')
        at--;
    return at == p->text || at[-1] == ',' || at[-1] == '\n';
}

static size_t weight(const struct place *p)
{
    size_t n = *p->at == '(' && before(p, 1) != '\\' ? closed(p->at, '(', ')') : 0;
    if (!n)
        return 0;
    if (weighted(p->at, n))
        return n;
    /* InvokeAI: (word)1.3 and (word)++ */
    const char *after = p->at + n;
    if (after[0] == '+' || (digit(after[0]) && after[1] == '.'))
        return n + strspn(after, "0123456789.+");
    return 0;
}

static size_t emphasis_of(const struct place *p, char open, char close)
{
    size_t n = *p->at == open && before(p, 1) != '\\' ? closed(p->at, open, close) : 0;
    if (n < 3)
        return 0;
    if (weighted(p->at, n) || memchr(p->at, '|', n))
        return 0; /* another kind */
    bool twice = p->at[1] == open && p->at[n - 2] == close;
    return twice || (open != '{' && item_begins(p) && item_ends(p->at + n)) ? n : 0;
}

static size_t emphasis(const struct place *p)
{
    size_t n = emphasis_of(p, '(', ')');
    if (!n)
        n = emphasis_of(p, '[', ']');
    return n ? n : emphasis_of(p, '{', '}');
}

static size_t escape(const struct place *p)
{
    return *p->at == '\\' && p->at[1] && strchr("()[]{}", p->at[1]) ? 2 : 0;
}

/* [a:b:0.5], [a:10], [a|b] */
static size_t editing(const struct place *p)
{
    size_t n = *p->at == '[' && before(p, 1) != '\\' ? closed(p->at, '[', ']') : 0;
    return n && (weighted(p->at, n) || memchr(p->at, '|', n)) ? n : 0;
}

/* {a|b} and ${name} */
static size_t choice(const struct place *p)
{
    if (p->at[0] == '$' && p->at[1] == '{')
        return closed(p->at + 1, '{', '}') ? 1 + closed(p->at + 1, '{', '}') : 0;
    size_t n = *p->at == '{' ? closed(p->at, '{', '}') : 0;
    return n && memchr(p->at, '|', n) ? n : 0;
}

/* <lora:NAME:1> and similar tags */
static size_t tag(const struct place *p)
{
    static const char *const names[] = { "lora", "lyco", "loha", "lokr", "hypernet", "embedding" };
    if (*p->at != '<')
        return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]);
        if (!strncasecmp(p->at + 1, names[i], n) && p->at[n + 1] == ':') {
            n = closed(p->at, '<', '>');
            return n ? n : strlen(names[i]) + 2;
        }
    }
    return 0;
}

static size_t embedding(const struct place *p)
{
    static const char word[] = "embedding:";
    size_t n = sizeof word - 1;
    if (letter(before(p, 1)) || before(p, 1) == '<' || strncasecmp(p->at, word, n))
        return 0;
    size_t name = strcspn(p->at + n, " ,\n()");
    return name ? n + name : 0;
}

static size_t wildcard(const struct place *p)
{
    if (p->at[0] != '_' || p->at[1] != '_' || before(p, 1) == '_')
        return 0;
    for (size_t i = 2; i < REACH; i++) {
        if (i > 2 && p->at[i] == '_' && p->at[i + 1] == '_')
            return i + 2;
        if (!letter(p->at[i]) && !digit(p->at[i]) && !(p->at[i] && strchr("/*-._", p->at[i])))
            return 0;
        if (i == 2 && p->at[i] == '_')
            return 0;
    }
    return 0;
}

/* Whether the word of n bytes at `at` is all upper-case, two letters or more. */
static bool shouted(const char *at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isupper((unsigned char)at[i]))
            return false;
    return n > 1;
}

/* An upper-case keyword between words that are not upper-case: "SALT AND PEPPER" does not count.
 * `between`: there must be words on both sides. */
static size_t keyword(const struct place *p, const char *word, bool between)
{
    size_t n = strlen(word);
    int c = before(p, 1);
    if (strncmp(p->at, word, n) || letter(c) || digit(c) || letter(p->at[n]) || digit(p->at[n]))
        return 0;
    const char *left = p->at, *right = p->at + n;
    while (left > p->text && !letter(left[-1]) && p->at - left < REACH)
        left--;
    const char *left_end = left;
    while (left > p->text && letter(left[-1]) && p->at - left < REACH)
        left--;
    while (*right && !letter(*right) && right - p->at < REACH)
        right++;
    size_t left_n = (size_t)(left_end - left), right_n = 0;
    while (right_n < REACH && letter(right[right_n]))
        right_n++;
    if (between && (!left_n || !right_n))
        return 0;
    return shouted(left, left_n) || shouted(right, right_n) ? 0 : n;
}

static size_t break_word(const struct place *p)
{
    return keyword(p, "BREAK", false);
}

static size_t and_word(const struct place *p)
{
    return keyword(p, "AND", true);
}

/* Midjourney: "cat::2" and "--ar 16:9" */
static size_t midjourney(const struct place *p)
{
    static const char *const options[] = { "ar",   "aspect", "niji",  "stylize", "v",     "no",
                                           "seed", "chaos",  "style", "tile",    "weird", "iw" };
    if (p->at[0] == ':' && p->at[1] == ':' && digit(p->at[2]) && letter(before(p, 1)))
        return 2 + strspn(p->at + 2, "0123456789.");
    if (p->at[0] != '-' || p->at[1] != '-' || before(p, 1) != ' ')
        return 0;
    size_t n = 0;
    while (n < REACH && letter(p->at[2 + n]))
        n++;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (n == strlen(options[i]) && !strncmp(p->at + 2, options[i], n))
            return 2 + n;
    return 0;
}

static bool weighs(const struct prompt_language *l)
{
    return l->split != NULL;
}

static bool breaks(const struct prompt_language *l)
{
    return l->chunking == PROMPT_CHUNKS_COMMA;
}

static bool schedules(const struct prompt_language *l)
{
    return l->schedules;
}

static bool tags(const struct prompt_language *l)
{
    return l->tags;
}

static const struct {
    const char *what;
    size_t (*find)(const struct place *p);
    bool (*read)(const struct prompt_language *l); /* whether a language reads it; NULL: none */
} kinds[] = {
    { "weight", weight, weighs },
    { "emphasis", emphasis, weighs },
    { "prompt editing", editing, schedules },
    { "LoRA tag", tag, tags },
    { "embedding", embedding, NULL },
    { "wildcard", wildcard, NULL },
    { "choice", choice, NULL },
    { "separator", break_word, breaks },
    { "separator", and_word, schedules },
    { "parameter", midjourney, NULL },
    { "escape", escape, weighs },
};

enum { KINDS = sizeof kinds / sizeof *kinds };

static void note(const char *what, const char *at, size_t n, char *dst, size_t size)
{
    size_t used = strlen(dst), cut = n > SHOWN ? utf8_valid_prefix(at, SHOWN) : n;
    snprintf(dst + used, size - used, "%s%s '%.*s%s'", used ? ", " : "", what, (int)cut, at,
             n > cut ? "..." : "");
}

bool prompt_syntax(const struct prompt_language *language, const char *const *texts, int n,
                   char *ret_warning, size_t size)
{
    char list[KINDS * (SHOWN + 24)] = "";
    bool seen[KINDS];
    for (int k = 0; k < KINDS; k++)
        seen[k] = kinds[k].read && kinds[k].read(language);
    for (int t = 0; t < n; t++) {
        for (struct place p = { texts[t], texts[t] }; p.at && *p.at; p.at++)
            for (int k = 0; k < KINDS; k++) {
                size_t bytes = seen[k] ? 0 : kinds[k].find(&p);
                if (!bytes)
                    continue;
                seen[k] = true;
                note(kinds[k].what, p.at, bytes, list, sizeof list);
            }
    }
    if (*list)
        snprintf(ret_warning, size, "prompt syntax of other programs is drawn as plain words: %s",
                 list);
    return *list;
}
