/* tiny_checker.h - does a picture of the small model show what its caption says?
 *
 * Looks at pixels only. Every pixel takes the palette colour nearest to it; shapes are the large
 * 4-connected pieces of one colour; a piece's shape is that of the ideal shapes whose rotation- and
 * scale-free complex moments (Flusser, 2000) are nearest, and a piece with a hole is a ring. The
 * same rules as tools/train_tiny/score.py, whose captions.py wrote the list of expectations.
 */
#ifndef DR_TESTING_HELPERS_TINY_CHECKER_H
#define DR_TESTING_HELPERS_TINY_CHECKER_H

#include <stddef.h>

#include "base/error.h"
#include "base/image/image.h"

enum tiny_group { TINY_ONE, TINY_TWO, TINY_TRAINED, TINY_GROUP_COUNT };

enum { TINY_SHAPES_MAX = 3 };

struct tiny_want {
    char caption[160];
    enum tiny_group group;
    int background; /* palette index */
    int count;      /* shapes in the picture */
    struct {
        int colour; /* palette index */
        int shape;  /* index into the checker's shapes */
    } shapes[TINY_SHAPES_MAX];
    char size[8];     /* one shape: "small", "medium", "big"; else "" */
    char place[8];    /* one shape: "centre", "left"...; else "" */
    char relation[8]; /* two shapes: where the first is of the second; else "" */
};

/* captions.json. The array is the caller's (dr_free). */
int tiny_wants_load(const char *path, struct tiny_want **ret_wants, size_t *ret_count,
                    struct dr_error *err);

/* 1: the picture (RGB) shows it, 0: it does not and `why` says the first thing wrong, or a negative
 * error. */
int tiny_shows(const struct dr_image *image, const struct tiny_want *want, char *why,
               size_t why_size);

#endif
