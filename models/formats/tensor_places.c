/* tensor_places.c - see tensor_places.h. */
#include "models/formats/tensor_places.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

struct shown_name show_name(const char *name)
{
    struct shown_name s;
    size_t n = strlen(name), cut = n > SHOWN_NAME ? utf8_valid_prefix(name, SHOWN_NAME) : n;
    for (size_t i = 0; i < cut; i++)
        s.text[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
    memcpy(s.text + cut, n > cut ? "..." : "", n > cut ? 4 : 1);
    return s;
}

static int by_place(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

/* `at` is within a file, far below 2^64. */
static uint64_t aligned(uint64_t at, uint64_t alignment)
{
    return (at + alignment - 1) / alignment * alignment;
}

int tensor_places_check(struct st_header *h, uint64_t data_size, uint64_t alignment,
                        const char *what, struct dr_error *err)
{
    uint64_t at = 0;
    if (h->n_tensors)
        qsort(h->tensors, h->n_tensors, sizeof *h->tensors, by_place);
    for (size_t i = 0; i < h->n_tensors; i++) {
        const struct st_tensor *t = &h->tensors[i];
        if (t->begin < at)
            return dr_fail(err, DR_EFORMAT, "%s: tensor '%s': overlaps tensor '%s'", what,
                           show_name(t->name).text, show_name(h->tensors[i - 1].name).text);
        if (t->begin > aligned(at, alignment))
            return dr_fail(err, DR_EFORMAT,
                           "%s: tensor '%s': %" PRIu64 " bytes before it belong to no tensor", what,
                           show_name(t->name).text, t->begin - at);
        if (t->end > data_size) {
            uint64_t last = h->tensors[h->n_tensors - 1].end;
            return dr_fail(err, DR_EFORMAT,
                           "%s: file is truncated: the header describes %" PRIu64
                           " bytes, the file has %" PRIu64 " (incomplete download?)",
                           what, h->data_at + (last > t->end ? last : t->end),
                           h->data_at + data_size);
        }
        at = t->end;
    }
    if (data_size > aligned(at, alignment))
        return dr_fail(err, DR_EFORMAT, "%s: %" PRIu64 " bytes after the last tensor", what,
                       data_size - at);
    return 0;
}

int tensor_names_sort(struct st_header *h, const char *what, struct dr_error *err)
{
    if (h->n_tensors)
        qsort(h->tensors, h->n_tensors, sizeof *h->tensors, by_name);
    for (size_t i = 1; i < h->n_tensors; i++)
        if (!strcmp(h->tensors[i].name, h->tensors[i - 1].name))
            return dr_fail(err, DR_EFORMAT, "%s: tensor '%s': the name appears twice", what,
                           show_name(h->tensors[i].name).text);
    return 0;
}
