/* pickle.h - a stack machine for the pickles of torch.save, see torch_file.h.
 *
 * Values are numbers of places in arrays; nothing recurses and nothing is called. Their number, the
 * depth of the stack and the memo are bounded, whatever the pickle repeats.
 */
#ifndef DR_MODELS_FORMATS_PICKLE_H
#define DR_MODELS_FORMATS_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/dtype.h"

enum { PICKLE_VALUES = 1 << 20 };

enum pickle_kind {
    PICKLE_OTHER, /* None, numbers with a fraction, lists: never looked into */
    PICKLE_MARK,
    PICKLE_INT, /* and booleans */
    PICKLE_TEXT,
    PICKLE_TUPLE,
    PICKLE_DICT,
    PICKLE_STORAGE_TYPE,
    PICKLE_FUNCTION,
    PICKLE_STORAGE, /* the tuple that names it */
    PICKLE_TENSOR,  /* the tuple of arguments of _rebuild_tensor_v2 */
};

struct pickle_value {
    enum pickle_kind kind;
    union {
        int64_t integer;
        struct {
            const char *bytes;
            size_t n;
        } text;
        struct {
            uint32_t first, n; /* in items */
        } tuple;
        uint32_t pair;    /* the last of a dictionary, 0: none */
        enum dtype dtype; /* of a storage's type */
        int function;
    };
};

struct pickle_pair {
    uint32_t key, value, before; /* before: 0 at the first */
};

struct pickle {
    struct pickle_value *values;
    struct pickle_pair *pairs; /* from 1 on */
    uint32_t *items, *stack, *memo;
    size_t n_values, n_pairs, n_items, n_stack, n_memo;
    size_t cap_values, cap_pairs, cap_items, cap_stack, cap_memo;
    uint32_t root;
};

int pickle_run(const uint8_t *bytes, size_t n, const char *what, struct pickle *ret,
               struct dr_error *err);
void pickle_free(struct pickle *p);

#endif
