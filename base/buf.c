/* buf.c - see buf.h. Capacity doubles, so appending is linear overall. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"

enum { SMALLEST = 64 };

void buf_init(struct buf *b, enum dr_tag tag, size_t maximum)
{
    *b = (struct buf){ .tag = tag, .maximum = maximum ? maximum : SIZE_MAX };
}

void buf_free(struct buf *b)
{
    if (!b)
        return;
    dr_free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

/* Room for n more and the terminator. */
static int make_room(struct buf *b, size_t n)
{
    size_t need;
    if (!dr_add_size(b->len, n, &need) || need > b->maximum)
        return DR_ELIMIT;
    if (!dr_add_size(need, 1, &need))
        return DR_ELIMIT;
    if (need <= b->cap)
        return 0;
    size_t cap = b->cap > SIZE_MAX / 2 ? need : 2 * b->cap;
    if (b->maximum < SIZE_MAX && cap > b->maximum + 1)
        cap = b->maximum + 1;
    if (cap < need)
        cap = need;
    if (cap < SMALLEST)
        cap = SMALLEST;
    char *data = dr_realloc(b->tag, b->data, cap);
    if (!data)
        return DR_ENOMEM;
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return 0;
}

int buf_reserve(struct buf *b, size_t n, void **ret_room)
{
    int r = make_room(b, n);
    if (r)
        return r;
    *ret_room = b->data + b->len;
    return 0;
}

void buf_grew(struct buf *b, size_t n)
{
    b->len += n;
    b->data[b->len] = '\0';
}

int buf_append(struct buf *b, const void *bytes, size_t n)
{
    int r = make_room(b, n);
    if (r)
        return r;
    if (n)
        memcpy(b->data + b->len, bytes, n);
    buf_grew(b, n);
    return 0;
}

int buf_puts(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

int buf_putc(struct buf *b, char c)
{
    return buf_append(b, &c, 1);
}

static int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0)
        return DR_EINVAL;
    int r = make_room(b, (size_t)n);
    if (r)
        return r;
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    buf_grew(b, (size_t)n);
    return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = buf_vprintf(b, fmt, ap);
    va_end(ap);
    return r;
}

void buf_drop(struct buf *b, size_t n)
{
    if (n >= b->len) {
        buf_clear(b);
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    b->data[b->len] = '\0';
}

const char *buf_text(const struct buf *b)
{
    return b->data ? b->data : "";
}
