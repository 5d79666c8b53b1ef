/* fuzz_safetensors.c - libFuzzer target: any bytes as a file. Beyond not crashing, a header that is
 * accepted must keep what st_parse promises: tensors sorted, in the data, sized as their shapes
 * say, tiling it exactly, and its metadata can be described. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "models/formats/safetensors.h"
#include "models/inspect_training.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct st_header h;
    struct dr_error err;
    jx_init();
    int r = st_parse(bytes, n, n, "input", &h, &err);
    if (r) {
        if (r > 0 || err.code != r || !err.text[0])
            abort();
    } else {
        uint64_t covered = 0;
        for (size_t i = 0; i < h.n_tensors; i++) {
            const struct st_tensor *t = &h.tensors[i];
            int64_t count;
            if (!shape_count(&t->shape, &count) || t->end < t->begin ||
                (uint64_t)count * dtype_size(t->dtype) != t->end - t->begin ||
                t->end > n - h.data_at || (i && strcmp(t[-1].name, t->name) >= 0) ||
                st_find(&h, t->name) != t)
                abort();
            covered += t->end - t->begin;
        }
        if (covered != n - h.data_at)
            abort();
        json_t *o = json_object();
        if (!o || inspect_training(&h, o))
            abort();
        json_decref(o);
        st_header_free(&h);
    }
    if (dr_alloc_stats_all().blocks)
        abort();
    return 0;
}
