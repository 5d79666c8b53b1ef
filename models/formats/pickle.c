/* pickle.c - see pickle.h. */
#include "models/formats/pickle.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

enum { GLOBAL_NAME = 200 };

enum function { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER };

/* All that a pickle may name. */
static const struct {
    const char *name;
    enum pickle_kind kind;
    int meaning; /* an enum dtype or an enum function */
} globals[] = {
    { "collections OrderedDict", PICKLE_FUNCTION, ORDERED_DICT },
    { "torch._utils _rebuild_tensor_v2", PICKLE_FUNCTION, REBUILD_TENSOR },
    { "torch._utils _rebuild_parameter", PICKLE_FUNCTION, REBUILD_PARAMETER },
    { "torch FloatStorage", PICKLE_STORAGE_TYPE, DTYPE_F32 },
    { "torch HalfStorage", PICKLE_STORAGE_TYPE, DTYPE_F16 },
    { "torch BFloat16Storage", PICKLE_STORAGE_TYPE, DTYPE_BF16 },
    { "torch DoubleStorage", PICKLE_STORAGE_TYPE, DTYPE_F64 },
    { "torch LongStorage", PICKLE_STORAGE_TYPE, DTYPE_I64 },
    { "torch IntStorage", PICKLE_STORAGE_TYPE, DTYPE_I32 },
    { "torch ShortStorage", PICKLE_STORAGE_TYPE, DTYPE_I16 },
    { "torch CharStorage", PICKLE_STORAGE_TYPE, DTYPE_I8 },
    { "torch ByteStorage", PICKLE_STORAGE_TYPE, DTYPE_U8 },
    { "torch BoolStorage", PICKLE_STORAGE_TYPE, DTYPE_BOOL },
};

struct machine {
    const uint8_t *begin, *p, *end;
    const char *what;
    struct dr_error *err;
    struct pickle *k;
    bool done;
};

static int bad(const struct machine *m, const char *words)
{
    return dr_fail(m->err, DR_EFORMAT, "%s: its pickle, byte %zu: %s", m->what,
                   (size_t)(m->p - m->begin), words);
}

static int room(const struct machine *m, void **array, size_t *cap, size_t used, size_t size)
{
    if (used < *cap)
        return 0;
    if (used >= PICKLE_VALUES)
        return dr_fail(m->err, DR_ELIMIT, "%s: its pickle makes more than %d values", m->what,
                       PICKLE_VALUES);
    size_t more = *cap ? *cap * 2 : 1024;
    void *p = dr_realloc(DR_TAG_FILE, *array, more * size);
    if (!p)
        return dr_fail(m->err, DR_ENOMEM, "%s: out of memory for its pickle", m->what);
    *array = p;
    *cap = more;
    return 0;
}

#define ROOM(m, array)                                                                             \
    room(m, (void **)&(m)->k->array, &(m)->k->cap_##array, (m)->k->n_##array, sizeof *(m)->k->array)

/* ---- stack ---- */

static int push(struct machine *m, uint32_t value)
{
    int r = ROOM(m, stack);
    if (!r)
        m->k->stack[m->k->n_stack++] = value;
    return r;
}

static int push_new(struct machine *m, struct pickle_value v)
{
    int r = ROOM(m, values);
    if (r)
        return r;
    m->k->values[m->k->n_values] = v;
    return push(m, (uint32_t)m->k->n_values++);
}

static struct pickle_value *value_at(const struct machine *m, uint32_t i)
{
    return &m->k->values[i];
}

/* The i-th from the top, which must be no mark; NULL: there is none. */
static struct pickle_value *top(const struct machine *m, size_t i)
{
    const struct pickle *k = m->k;
    if (i >= k->n_stack || value_at(m, k->stack[k->n_stack - 1 - i])->kind == PICKLE_MARK)
        return NULL;
    return value_at(m, k->stack[k->n_stack - 1 - i]);
}

/* Values above the last mark; false: there is no mark. */
static bool above_mark(const struct machine *m, size_t *ret)
{
    for (*ret = 0; *ret < m->k->n_stack; ++*ret)
        if (!top(m, *ret))
            return true;
    return false;
}

/* A tuple of the n values on top, which it takes away, with a mark below them or without. */
static int make_tuple(struct machine *m, size_t n, bool marked)
{
    struct pickle *k = m->k;
    struct pickle_value v = { .kind = PICKLE_TUPLE };
    for (size_t i = 0; i < n; i++)
        if (!top(m, i))
            return bad(m, "a tuple of values that are not there");
    v.tuple.first = (uint32_t)k->n_items;
    v.tuple.n = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        int r = ROOM(m, items);
        if (r)
            return r;
        k->items[k->n_items++] = k->stack[k->n_stack - n + i];
    }
    k->n_stack -= n + marked;
    return push_new(m, v);
}

static int marked_tuple(struct machine *m)
{
    size_t n;
    return above_mark(m, &n) ? make_tuple(m, n, true) : bad(m, "no mark");
}

/* n pairs of the values on top go into the dictionary below them (and below a mark). */
static int set_items(struct machine *m, size_t n, bool marked)
{
    struct pickle *k = m->k;
    size_t below = 2 * n + marked;
    if (below >= k->n_stack)
        return bad(m, "items without a dictionary");
    struct pickle_value *d = value_at(m, k->stack[k->n_stack - 1 - below]);
    if (d->kind != PICKLE_DICT)
        return bad(m, "items of what is no dictionary");
    for (size_t i = 0; i < n; i++) {
        int r = ROOM(m, pairs);
        if (r)
            return r;
        const uint32_t *at = &k->stack[k->n_stack - 2 * n + 2 * i];
        k->pairs[k->n_pairs] = (struct pickle_pair){ at[0], at[1], d->pair };
        d->pair = (uint32_t)k->n_pairs++;
    }
    k->n_stack -= below;
    return 0;
}

static int marked_items(struct machine *m)
{
    size_t n;
    if (!above_mark(m, &n))
        return bad(m, "no mark");
    return n % 2 ? bad(m, "a key without a value") : set_items(m, n / 2, true);
}

/* What is appended to a list is forgotten: nothing that is read lies in lists. */
static int append(struct machine *m, size_t n, bool marked)
{
    struct pickle *k = m->k;
    if (n + marked >= k->n_stack ||
        value_at(m, k->stack[k->n_stack - 1 - n - marked])->kind != PICKLE_OTHER)
        return bad(m, "items of what is no list");
    k->n_stack -= n + marked;
    return 0;
}

static int marked_append(struct machine *m)
{
    size_t n;
    return above_mark(m, &n) ? append(m, n, true) : bad(m, "no mark");
}

/* ---- memo ---- */

static int put_memo(struct machine *m, uint64_t i)
{
    struct pickle *k = m->k;
    if (!top(m, 0))
        return bad(m, "nothing to remember");
    if (i >= PICKLE_VALUES)
        return bad(m, "remembers more than a million values");
    while (k->n_memo <= i) {
        int r = ROOM(m, memo);
        if (r)
            return r;
        k->memo[k->n_memo++] = UINT32_MAX;
    }
    k->memo[i] = k->stack[k->n_stack - 1];
    return 0;
}

static int get_memo(struct machine *m, uint64_t i)
{
    if (i >= m->k->n_memo || m->k->memo[i] == UINT32_MAX)
        return bad(m, "asks for a value that was not remembered");
    return push(m, m->k->memo[i]);
}

/* ---- names ---- */

static int push_global(struct machine *m, const char *module, size_t module_n, const char *name,
                       size_t name_n)
{
    char full[GLOBAL_NAME];
    int n = snprintf(full, sizeof full, "%.*s %.*s", (int)(module_n < 90 ? module_n : 90), module,
                     (int)(name_n < 90 ? name_n : 90), name);
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (strcmp(full, globals[i].name))
            continue;
        struct pickle_value v = { .kind = globals[i].kind };
        if (v.kind == PICKLE_STORAGE_TYPE)
            v.dtype = (enum dtype)globals[i].meaning;
        else
            v.function = globals[i].meaning;
        return push_new(m, v);
    }
    for (int i = 0; i < n; i++)
        full[i] = full[i] == ' '                                     ? '.'
                  : (unsigned char)full[i] < 0x20 || full[i] >= 0x7f ? '?'
                                                                     : full[i];
    return dr_fail(m->err, DR_EUNSUPPORTED,
                   "%s: its pickle asks for '%s', which is never run; only tensors, storages and "
                   "OrderedDict are read",
                   m->what, full);
}

/* To the next line feed. */
static bool line(struct machine *m, const char **ret, size_t *ret_n)
{
    const uint8_t *at = memchr(m->p, '\n', (size_t)(m->end - m->p));
    if (!at)
        return false;
    *ret = (const char *)m->p;
    *ret_n = (size_t)(at - m->p);
    m->p = at + 1;
    return true;
}

static int global(struct machine *m)
{
    const char *module, *name;
    size_t module_n, name_n;
    if (!line(m, &module, &module_n) || !line(m, &name, &name_n))
        return bad(m, "a name without an end");
    return push_global(m, module, module_n, name, name_n);
}

static int stack_global(struct machine *m)
{
    const struct pickle_value *name = top(m, 0), *module = top(m, 1);
    if (!name || !module || name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
        return bad(m, "a name that is no text");
    m->k->n_stack -= 2;
    return push_global(m, module->text.bytes, module->text.n, name->text.bytes, name->text.n);
}

/* ---- objects ---- */

/* The tuple on top names a storage. */
static int persistent(struct machine *m)
{
    const struct pickle_value *t = top(m, 0);
    if (!t || t->kind != PICKLE_TUPLE || t->tuple.n != 5)
        return bad(m, "a storage that is not named by five values");
    struct pickle_value v = { .kind = PICKLE_STORAGE };
    v.tuple.first = t->tuple.first;
    v.tuple.n = t->tuple.n;
    m->k->n_stack--;
    return push_new(m, v);
}

static int reduce(struct machine *m)
{
    const struct pickle_value *arguments = top(m, 0), *f = top(m, 1);
    if (!arguments || !f || arguments->kind != PICKLE_TUPLE || f->kind != PICKLE_FUNCTION)
        return bad(m, "a call of what is no function");
    uint32_t first = arguments->tuple.first, n = arguments->tuple.n;
    int function = f->function;
    m->k->n_stack -= 2;
    if (function == ORDERED_DICT)
        return n ? bad(m, "an OrderedDict with arguments")
                 : push_new(m, (struct pickle_value){ .kind = PICKLE_DICT });
    if (function == REBUILD_PARAMETER) {
        if (n < 1 || value_at(m, m->k->items[first])->kind != PICKLE_TENSOR)
            return bad(m, "a parameter that is no tensor");
        return push(m, m->k->items[first]);
    }
    if (n < 4)
        return bad(m, "a tensor of fewer than four values");
    struct pickle_value v = { .kind = PICKLE_TENSOR };
    v.tuple.first = first;
    v.tuple.n = n;
    return push_new(m, v);
}

/* Attributes of a dictionary (_metadata) do not matter. */
static int build(struct machine *m)
{
    const struct pickle_value *object = top(m, 1);
    if (!top(m, 0) || !object || object->kind != PICKLE_DICT)
        return bad(m, "attributes of what is no dictionary");
    m->k->n_stack--;
    return 0;
}

/* ---- opcodes ---- */

static int number(struct machine *m, size_t n, uint64_t *ret)
{
    uint64_t v = 0;
    if ((size_t)(m->end - m->p) < n)
        return bad(m, "it ends inside an opcode");
    for (size_t i = n; i-- > 0;)
        v = v << 8 | m->p[i];
    m->p += n;
    *ret = v;
    return 0;
}

/* A text whose length is a number of n bytes. */
static int text(struct machine *m, size_t n)
{
    uint64_t length;
    int r = number(m, n, &length);
    if (r)
        return r;
    if (length > (uint64_t)(m->end - m->p))
        return bad(m, "a text is longer than the rest of it");
    struct pickle_value v = { .kind = PICKLE_TEXT };
    v.text.bytes = (const char *)m->p;
    v.text.n = (size_t)length;
    m->p += length;
    return push_new(m, v);
}

/* An integer of n bytes with sign, or without. */
static int integer(struct machine *m, size_t n, bool sign)
{
    uint64_t v;
    int r = number(m, n, &v);
    if (r)
        return r;
    if (sign && n && n < 8 && v >> (8 * n - 1))
        v |= UINT64_MAX << (8 * n);
    return push_new(m, (struct pickle_value){ .kind = PICKLE_INT, .integer = (int64_t)v });
}

static int long_integer(struct machine *m)
{
    uint64_t n;
    int r = number(m, 1, &n);
    if (!r && n > 8)
        r = bad(m, "an integer of more than 64 bits");
    return r ? r : integer(m, (size_t)n, true);
}

/* Skips n bytes of a value that is never looked into. */
static int other(struct machine *m, size_t n)
{
    uint64_t ignored;
    int r = n ? number(m, n, &ignored) : 0;
    return r ? r : push_new(m, (struct pickle_value){ .kind = PICKLE_OTHER });
}

static int memo_op(struct machine *m, size_t n, int (*f)(struct machine *m, uint64_t i))
{
    uint64_t i;
    int r = number(m, n, &i);
    return r ? r : f(m, i);
}

static int protocol(struct machine *m)
{
    uint64_t v;
    int r = number(m, 1, &v);
    return !r && (v < 2 || v > 5) ? bad(m, "a protocol that is not 2 to 5") : r;
}

static int stop(struct machine *m)
{
    if (m->k->n_stack != 1 || !top(m, 0))
        return bad(m, "it ends with other than one value");
    m->k->root = m->k->stack[0];
    m->done = true;
    return 0;
}

static int unknown(struct machine *m, int op)
{
    char words[60];
    snprintf(words, sizeof words, "opcode 0x%02x, which is never run", (unsigned)op);
    return bad(m, words);
}

static int step(struct machine *m)
{
    uint64_t op, ignored;
    int r = number(m, 1, &op);
    if (r)
        return r;
    switch (op) {
    case 0x80: /* PROTO */
        return protocol(m);
    case 0x95: /* FRAME */
        return number(m, 8, &ignored);
    case '(': /* MARK */
        return push_new(m, (struct pickle_value){ .kind = PICKLE_MARK });
    case ')': /* EMPTY_TUPLE */
        return make_tuple(m, 0, false);
    case 0x85: /* TUPLE1 to TUPLE3 */
    case 0x86:
    case 0x87:
        return make_tuple(m, (size_t)(op - 0x84), false);
    case 't': /* TUPLE */
        return marked_tuple(m);
    case '}': /* EMPTY_DICT */
        return push_new(m, (struct pickle_value){ .kind = PICKLE_DICT });
    case 's': /* SETITEM */
        return top(m, 0) && top(m, 1) ? set_items(m, 1, false) : bad(m, "an item of nothing");
    case 'u': /* SETITEMS */
        return marked_items(m);
    case ']': /* EMPTY_LIST */
    case 'N': /* NONE */
        return other(m, 0);
    case 'G': /* BINFLOAT */
        return other(m, 8);
    case 'a': /* APPEND */
        return append(m, 1, false);
    case 'e': /* APPENDS */
        return marked_append(m);
    case 0x88: /* NEWTRUE, NEWFALSE */
    case 0x89:
        return push_new(m, (struct pickle_value){ .kind = PICKLE_INT, .integer = op == 0x88 });
    default:
        break;
    }
    switch (op) {
    case 'J': /* BININT, BININT1, BININT2, LONG1 */
        return integer(m, 4, true);
    case 'K':
        return integer(m, 1, false);
    case 'M':
        return integer(m, 2, false);
    case 0x8a:
        return long_integer(m);
    case 'X': /* BINUNICODE, SHORT_BINUNICODE, SHORT_BINSTRING */
        return text(m, 4);
    case 0x8c:
    case 'U':
        return text(m, 1);
    case 'q': /* BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET */
        return memo_op(m, 1, put_memo);
    case 'r':
        return memo_op(m, 4, put_memo);
    case 0x94:
        return put_memo(m, m->k->n_memo);
    case 'h':
        return memo_op(m, 1, get_memo);
    case 'j':
        return memo_op(m, 4, get_memo);
    case 'c': /* GLOBAL, STACK_GLOBAL, BINPERSID, REDUCE, BUILD, STOP */
        return global(m);
    case 0x93:
        return stack_global(m);
    case 'Q':
        return persistent(m);
    case 'R':
        return reduce(m);
    case 'b':
        return build(m);
    case '.':
        return stop(m);
    default:
        return unknown(m, (int)op);
    }
}

int pickle_run(const uint8_t *bytes, size_t n, const char *what, struct pickle *ret,
               struct dr_error *err)
{
    struct pickle k = { .n_pairs = 1 };
    struct machine m = {
        .begin = bytes, .p = bytes, .end = bytes + n, .what = what, .err = err, .k = &k
    };
    int r = room(&m, (void **)&k.pairs, &k.cap_pairs, 1024, sizeof *k.pairs);
    while (!r && !m.done)
        r = step(&m);
    if (r)
        pickle_free(&k);
    else
        *ret = k;
    return r;
}

void pickle_free(struct pickle *p)
{
    dr_free(p->values);
    dr_free(p->pairs);
    dr_free(p->items);
    dr_free(p->stack);
    dr_free(p->memo);
    memset(p, 0, sizeof *p);
}
