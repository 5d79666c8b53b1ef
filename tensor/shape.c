/* shape.c - see shape.h. */
#include "tensor/shape.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/checked.h"

bool shape_equal(const struct shape *a, const struct shape *b)
{
    if (a->n != b->n)
        return false;
    for (int i = 0; i < a->n; i++)
        if (a->d[i] != b->d[i])
            return false;
    return true;
}

bool shape_count(const struct shape *s, int64_t *ret)
{
    int64_t count = 1;
    for (int i = 0; i < s->n; i++)
        if (s->d[i] < 0 || !dr_mul_i64(count, s->d[i], &count))
            return false;
    *ret = count;
    return true;
}

const char *shape_text(const struct shape *s, char *dst, size_t size)
{
    size_t used = (size_t)snprintf(dst, size, "[");
    for (int i = 0; i < s->n && used < size; i++)
        used += (size_t)snprintf(dst + used, size - used, "%s%" PRId64, i ? ", " : "", s->d[i]);
    if (used < size)
        snprintf(dst + used, size - used, "]");
    return dst;
}
