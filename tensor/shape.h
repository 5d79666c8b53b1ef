/* shape.h - dimensions of a tensor, outermost first, row-major. n = 0 is a scalar of one element.
 */
#ifndef DR_TENSOR_SHAPE_H
#define DR_TENSOR_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHAPE_MAX = 8 };

struct shape {
    int n;
    int64_t d[SHAPE_MAX];
};

#define SHAPE1(a) ((struct shape){ 1, { (a) } })
#define SHAPE2(a, b) ((struct shape){ 2, { (a), (b) } })
#define SHAPE3(a, b, c) ((struct shape){ 3, { (a), (b), (c) } })
#define SHAPE4(a, b, c, e) ((struct shape){ 4, { (a), (b), (c), (e) } })

bool shape_equal(const struct shape *a, const struct shape *b);

/* Elements; false if a dimension is negative or the product exceeds INT64_MAX. */
bool shape_count(const struct shape *s, int64_t *ret);

/* "[1280, 320, 3, 3]", "[]" for a scalar; returns dst. */
const char *shape_text(const struct shape *s, char *dst, size_t size);

#endif
