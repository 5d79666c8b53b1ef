/* id_scan.c - see id_scan.h. One pass; the only memory is the kind of the brackets that are open.
 */
#include "core/communication/id_scan.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"

enum { KINDS = 64 }; /* brackets deeper than that are only counted */

enum key { KEY_OTHER, KEY_REQUEST_ID, KEY_CORRELATION_ID, KEY_DATA };

struct scan {
    const char *text;
    size_t n, i;
    size_t depth;
    uint64_t objects; /* bit d: the bracket at depth d + 1 is { */
    bool in_data;     /* inside `data` of the outermost object */
    bool value;       /* a key and its colon stand before */
    enum key key;     /* that key, when it is one of ours and in its place */
    char data_id[MESSAGE_ID_BYTES];
    struct message_ids *ids;
};

/* A string's content. */
struct text {
    char bytes[MESSAGE_ID_BYTES];
    size_t n;
    bool whole; /* ended, decodable and not too long */
};

static void put(struct text *t, char c)
{
    if (t->n + 1 < sizeof t->bytes && c)
        t->bytes[t->n++] = c;
    else
        t->whole = false;
}

static void put_scalar(struct text *t, uint32_t scalar)
{
    char bytes[4];
    size_t n = utf8_encode(scalar, bytes);
    for (size_t k = 0; k < n; k++)
        put(t, bytes[k]);
}

/* The four digits of \uXXXX at i; -1: they are none. */
static int32_t unit(const struct scan *s, size_t i)
{
    int32_t v = 0;
    if (s->n - i < 4)
        return -1;
    for (size_t k = i; k < i + 4; k++) {
        char c = s->text[k];
        bool digit = c >= '0' && c <= '9', letter = (c | 32) >= 'a' && (c | 32) <= 'f';
        if (!digit && !letter)
            return -1;
        v = 16 * v + (digit ? c - '0' : (c | 32) - 'a' + 10);
    }
    return v;
}

/* What follows "\u" at s->i, a pair of surrogates together. */
static void read_unicode(struct scan *s, struct text *t)
{
    int32_t high = unit(s, s->i), low = -1;
    if (high < 0) {
        t->whole = false;
        return;
    }
    s->i += 4;
    bool first = high >= 0xd800 && high < 0xdc00, second = high >= 0xdc00 && high < 0xe000;
    if (first && s->n - s->i >= 6 && s->text[s->i] == '\\' && s->text[s->i + 1] == 'u')
        low = unit(s, s->i + 2);
    if (first && low >= 0xdc00 && low < 0xe000) {
        s->i += 6;
        put_scalar(t, 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
    } else if (first || second) {
        t->whole = false;
    } else {
        put_scalar(t, (uint32_t)high);
    }
}

static void read_escape(struct scan *s, struct text *t)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (s->i >= s->n)
        return;
    char c = s->text[s->i++];
    const char *at = c ? strchr(letters, c) : NULL;
    if (c == 'u')
        read_unicode(s, t);
    else if (at)
        put(t, meant[at - letters]);
    else
        t->whole = false;
}

/* s->i is behind the quote that begins it. */
static void read_string(struct scan *s, struct text *t)
{
    bool ended = false;
    t->n = 0;
    t->whole = true;
    while (s->i < s->n && !ended) {
        char c = s->text[s->i++];
        if (c == '\\')
            read_escape(s, t);
        else if (c == '"')
            ended = true;
        else
            put(t, c);
    }
    t->bytes[t->n] = '\0';
    t->whole = t->whole && ended && utf8_valid_prefix(t->bytes, t->n) == t->n;
}

static void take(struct scan *s, const char *id)
{
    char *dst = s->depth == 2                  ? s->data_id
                : s->key == KEY_REQUEST_ID     ? s->ids->request_id
                : s->key == KEY_CORRELATION_ID ? s->ids->correlation_id
                                               : NULL;
    if (dst && !*dst && (s->key == KEY_REQUEST_ID || s->key == KEY_CORRELATION_ID))
        memcpy(dst, id, strlen(id) + 1);
}

static enum key key_of(const struct scan *s, const struct text *t)
{
    bool outer = s->depth == 1 && (s->objects & 1), data = s->depth == 2 && s->in_data;
    if (!t->whole || (!outer && !data))
        return KEY_OTHER;
    if (!strcmp(t->bytes, "request_id"))
        return KEY_REQUEST_ID;
    if (outer && !strcmp(t->bytes, "correlationId"))
        return KEY_CORRELATION_ID;
    return outer && !strcmp(t->bytes, "data") ? KEY_DATA : KEY_OTHER;
}

/* A string in the place of a value is one, whatever follows it. */
static void on_string(struct scan *s)
{
    struct text t;
    read_string(s, &t);
    if (s->value) {
        if (t.whole)
            take(s, t.bytes);
        s->value = false;
        return;
    }
    while (s->i < s->n && s->text[s->i] && strchr(" \t\r\n", s->text[s->i]))
        s->i++;
    if (s->i < s->n && s->text[s->i] == ':') {
        s->i++;
        s->value = true;
        s->key = key_of(s, &t);
    }
}

/* An integer that ends where a value may end. */
static void on_number(struct scan *s)
{
    struct text t = { .n = 0, .whole = true };
    size_t from = s->i - 1, i = s->i;
    while (i < s->n && s->text[i] >= '0' && s->text[i] <= '9')
        i++;
    bool minus = s->text[from] == '-', wanted = s->value;
    bool ends = i < s->n && s->text[i] && strchr(",} \t\r\n", s->text[i]);
    s->i = i;
    s->value = false;
    if (!wanted || !ends || (minus && i == from + 1))
        return;
    for (size_t k = from; k < i; k++)
        put(&t, s->text[k]);
    t.bytes[t.n] = '\0';
    if (t.whole)
        take(s, t.bytes);
}

/* False: the outermost value is over, or brackets do not match and no depth can be trusted. */
static bool on_bracket(struct scan *s, char c)
{
    bool object = c == '{' || c == '}';
    if (c == '{' || c == '[') {
        if (s->depth < KINDS)
            s->objects = (s->objects & ~((uint64_t)1 << s->depth)) | (uint64_t)object << s->depth;
        s->in_data |= s->depth == 1 && s->value && s->key == KEY_DATA && object;
        s->depth++;
    } else {
        if (!s->depth || (s->depth <= KINDS && (s->objects >> (s->depth - 1) & 1) != object))
            return false;
        s->depth--;
        s->in_data = s->in_data && s->depth > 1;
    }
    s->value = false;
    return s->depth > 0;
}

void id_scan(const char *line, size_t n, struct message_ids *ret)
{
    struct scan s = { .text = line, .n = n, .ids = ret };
    bool more = true;
    memset(ret, 0, sizeof *ret);
    while (s.i < n && more) {
        char c = line[s.i++];
        if (c == '"')
            on_string(&s);
        else if (c == '-' || (c >= '0' && c <= '9'))
            on_number(&s);
        else if (c == '{' || c == '}' || c == '[' || c == ']')
            more = on_bracket(&s, c);
        else if (c == ',')
            s.value = false;
    }
    if (!*message_id(ret))
        memcpy(ret->request_id, s.data_id, sizeof ret->request_id);
}
