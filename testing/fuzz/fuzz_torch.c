/* fuzz_torch.c - libFuzzer target: any bytes as a file of torch.save, or, where they do not begin
 * like an archive, as the pickle in one. Every element of every tensor that is accepted can be
 * read. */
#include <stdlib.h>
#include <string.h>

#include "models/formats/pickle.h"
#include "models/formats/torch_file.h"
#include "testing/fuzz/fuzz.h"

static void check_tensor(const struct torch_tensor *t)
{
    int64_t count, size;
    char element[8];
    FUZZ_MUST(shape_count(&t->shape, &count) && dtype_bytes(t->dtype, count, &size));
    FUZZ_MUST(dtype_size(t->dtype) <= sizeof element);
    for (int64_t i = 0; i < count && i < 4096; i++)
        torch_copy(t, i, 1, element);
    if (count)
        torch_copy(t, count - 1, 1, element);
}

static int run_pickle(const uint8_t *bytes, size_t n, struct dr_error *err)
{
    struct pickle p;
    int r = pickle_run(bytes, n, "input", &p, err);
    if (!r) {
        FUZZ_MUST(p.root < p.n_values && p.n_values <= PICKLE_VALUES);
        pickle_free(&p);
    }
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct torch_file f;
    struct dr_error err;
    bool archive = n >= 2 && !memcmp(bytes, "PK", 2);
    int r = archive ? torch_parse(bytes, n, "input", &f, &err) : run_pickle(bytes, n, &err);
    if (r) {
        fuzz_must_explain(r, &err);
    } else if (archive) {
        for (size_t i = 0; i < f.n; i++)
            check_tensor(&f.tensors[i]);
        torch_file_free(&f);
    }
    fuzz_must_be_clean();
    return 0;
}
