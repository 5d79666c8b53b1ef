/* zip_stored.c - see zip_stored.h. */
#include "models/formats/zip_stored.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

enum {
    END = 22, /* bytes of the record at the end, without its comment */
    COMMENT_MAX = 65535,
    END64_LOCATOR = 20,
    END64 = 56,
    ENTRY = 46,
    LOCAL = 30,
    ENCRYPTED = 1,
};

struct archive {
    const uint8_t *bytes;
    size_t n;
    const char *what;
    struct dr_error *err;
    uint64_t count, table, table_size; /* of the table of files */
};

static uint64_t number(const uint8_t *p, int n)
{
    uint64_t v = 0;
    while (n-- > 0)
        v = v << 8 | p[n];
    return v;
}

static int bad(const struct archive *a, const char *words)
{
    return dr_fail(a->err, DR_EFORMAT, "%s: ZIP archive: %s", a->what, words);
}

/* The record at the end, where its comment ends with the file. */
static const uint8_t *find_end(const struct archive *a)
{
    for (size_t back = END; back <= a->n && back <= END + COMMENT_MAX; back++) {
        const uint8_t *p = a->bytes + (a->n - back);
        if (number(p, 4) == 0x06054b50 && number(p + 20, 2) == back - END)
            return p;
    }
    return NULL;
}

/* The 64-bit record, where numbers do not fit into the other one. */
static int read_end64(struct archive *a, const uint8_t *end)
{
    size_t at = (size_t)(end - a->bytes);
    if (at < END64_LOCATOR || number(end - END64_LOCATOR, 4) != 0x07064b50)
        return bad(a, "no 64-bit end of its table");
    uint64_t record = number(end - END64_LOCATOR + 8, 8);
    if (record > at || at - record < END64 + END64_LOCATOR ||
        number(a->bytes + record, 4) != 0x06064b50)
        return bad(a, "no 64-bit end of its table");
    const uint8_t *p = a->bytes + record;
    a->count = number(p + 32, 8);
    a->table_size = number(p + 40, 8);
    a->table = number(p + 48, 8);
    return 0;
}

static int read_end(struct archive *a)
{
    const uint8_t *end = find_end(a);
    if (!end)
        return bad(a, "no end of its table (incomplete download?)");
    if (number(end + 4, 2) || number(end + 6, 2))
        return bad(a, "one of several parts");
    a->count = number(end + 10, 2);
    a->table_size = number(end + 12, 4);
    a->table = number(end + 16, 4);
    int r = 0;
    if (a->count == 0xffff || a->table_size == 0xffffffff || a->table == 0xffffffff)
        r = read_end64(a, end);
    uint64_t before = (uint64_t)(end - a->bytes);
    if (!r && (a->table > before || a->table_size > before - a->table))
        r = bad(a, "its table lies outside");
    if (!r && (a->count > ZIP_FILES_MAX || a->count > a->table_size / ENTRY))
        r = bad(a, "more files than its table has room for");
    return r;
}

/* 64-bit sizes and place, of those that did not fit, from the extra field. */
static int wide_numbers(const struct archive *a, const uint8_t *extra, size_t n,
                        uint64_t *const numbers[3])
{
    bool needed = false;
    for (int i = 0; i < 3; i++)
        needed |= *numbers[i] == 0xffffffff;
    while (needed && n >= 4) {
        size_t id = (size_t)number(extra, 2), size = (size_t)number(extra + 2, 2);
        extra += 4;
        n -= 4;
        if (size > n)
            break;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*numbers[i] != 0xffffffff)
                continue;
            if (size < 8)
                return bad(a, "a 64-bit size is missing");
            *numbers[i] = number(extra, 8);
            extra += 8;
            size -= 8;
        }
        if (id == 1)
            return 0;
        extra += size;
        n -= size;
    }
    return needed ? bad(a, "a 64-bit size is missing") : 0;
}

/* The header before the contents says the same name; the contents lie before the table. */
static int find_contents(const struct archive *a, struct zip_file *f)
{
    if (f->header > a->table || a->table - f->header < LOCAL)
        return bad(a, "a file lies outside");
    const uint8_t *p = a->bytes + f->header;
    uint64_t room = a->table - f->header - LOCAL;
    uint64_t skipped = number(p + 26, 2) + number(p + 28, 2);
    if (number(p, 4) != 0x04034b50 || number(p + 26, 2) != f->name_n || skipped > room ||
        memcmp(p + LOCAL, f->name, f->name_n) != 0)
        return bad(a, "a file is not where its table says");
    f->at = f->header + LOCAL + skipped;
    if (f->size > room - skipped)
        return bad(a, "a file is longer than the archive (incomplete download?)");
    return 0;
}

/* The entry at *at, which is moved behind it. */
static int read_entry(const struct archive *a, uint64_t *at, struct zip_file *ret)
{
    const uint8_t *p = a->bytes + *at;
    uint64_t left = a->table + a->table_size - *at;
    if (left < ENTRY || number(p, 4) != 0x02014b50)
        return bad(a, "a damaged table");
    uint64_t name = number(p + 28, 2), extra = number(p + 30, 2), comment = number(p + 32, 2);
    uint64_t stored = number(p + 20, 4), size = number(p + 24, 4), place = number(p + 42, 4);
    if (name + extra + comment > left - ENTRY)
        return bad(a, "a damaged table");
    if (number(p + 8, 2) & ENCRYPTED)
        return bad(a, "a file is encrypted");
    if (number(p + 10, 2))
        return bad(a, "a file is compressed, expected files stored as they are");
    uint64_t *const wide[3] = { &size, &stored, &place };
    int r = wide_numbers(a, p + ENTRY + name, (size_t)extra, wide);
    if (!r && stored != size)
        r = bad(a, "a file of two sizes");
    *ret = (struct zip_file){
        .name = (const char *)p + ENTRY, .name_n = (size_t)name, .header = place, .size = size
    };
    *at += ENTRY + name + extra + comment;
    return r ? r : find_contents(a, ret);
}

static int by_place(const void *a, const void *b)
{
    const struct zip_file *x = a, *y = b;
    return x->header < y->header ? -1 : x->header > y->header;
}

static int read_table(const struct archive *a, struct zip_file *files)
{
    uint64_t at = a->table;
    int r = 0;
    for (uint64_t i = 0; !r && i < a->count; i++)
        r = read_entry(a, &at, &files[i]);
    if (r)
        return r;
    if (a->count)
        qsort(files, (size_t)a->count, sizeof *files, by_place);
    for (uint64_t i = 1; i < a->count; i++)
        if (files[i].header < files[i - 1].at + files[i - 1].size)
            return bad(a, "two files overlap");
    return 0;
}

int zip_stored_parse(const uint8_t *bytes, size_t n, const char *what, struct zip_file **ret,
                     size_t *ret_n, struct dr_error *err)
{
    struct archive a = { .bytes = bytes, .n = n, .what = what, .err = err };
    int r = read_end(&a);
    if (r)
        return r;
    struct zip_file *files = dr_calloc(DR_TAG_FILE, (size_t)a.count + 1, sizeof *files);
    if (!files)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory for its table", what);
    r = read_table(&a, files);
    if (r) {
        dr_free(files);
        return r;
    }
    *ret = files;
    *ret_n = (size_t)a.count;
    return 0;
}
