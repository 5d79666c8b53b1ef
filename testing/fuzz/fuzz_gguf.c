/* fuzz_gguf.c - libFuzzer target: any bytes as a GGUF file. A header that is accepted must keep
 * what gguf_parse promises: tensors sorted, aligned, in the data, sized as their shapes say; names
 * that are found; the last bytes of every tensor readable. */
#include <stdlib.h>
#include <string.h>

#include "models/formats/gguf.h"
#include "testing/fuzz/fuzz.h"

static void check_tensor(const struct st_header *h, size_t i, const uint8_t *bytes, size_t n)
{
    const struct st_tensor *t = &h->tensors[i];
    int64_t count, size;
    float value;
    FUZZ_MUST(shape_count(&t->shape, &count) && dtype_bytes(t->dtype, count, &size));
    FUZZ_MUST(t->begin <= t->end && t->end - t->begin == (uint64_t)size);
    FUZZ_MUST(t->end <= n - h->data_at);
    FUZZ_MUST(!i || strcmp(t[-1].name, t->name) < 0);
    FUZZ_MUST(st_find(h, t->name) == t);
    if (count && dtype_is_real(t->dtype))
        dtype_read(&value, bytes + h->data_at + t->begin, t->dtype, count - 1, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct st_header h;
    struct dr_error err;
    int r = gguf_parse(bytes, n, n, "input", &h, &err);
    if (r) {
        fuzz_must_explain(r, &err);
    } else {
        FUZZ_MUST(h.data_at <= n);
        for (size_t i = 0; i < h.n_tensors; i++)
            check_tensor(&h, i, bytes, n);
        for (size_t i = 0; i < h.n_metadata; i++)
            FUZZ_MUST(h.metadata[i].key && h.metadata[i].value);
        st_header_free(&h);
    }
    fuzz_must_be_clean();
    return 0;
}
