/* fuzz_npy.c - libFuzzer target: any bytes as a .npy file. What is accepted fills the file exactly,
 * is read as it lies there, and is the same array after it was saved and loaded. */
#include "testing/helpers/base_files.h"
#include "testing/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/npy.h"

static int memory_file(const uint8_t *bytes, size_t n)
{
    int fd = memfd_create("input", MFD_CLOEXEC);
    FUZZ_MUST(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    return fd;
}

static void must_survive(const struct npy *a, const void *data, size_t size)
{
    char path[128];
    struct npy again;
    struct dr_error err = { 0 };
    snprintf(path, sizeof path, "%s/saved.npy", fuzz_folder());
    int r = npy_save(path, a->dtype, a->shape, a->ndim, data, &err);
    FUZZ_MUST_SAY(!r, err.text);
    r = npy_load(path, &again, &err);
    FUZZ_MUST_SAY(!r, err.text);
    FUZZ_MUST(again.dtype == a->dtype && again.ndim == a->ndim && again.count == a->count);
    FUZZ_MUST(!memcmp(again.shape, a->shape, (size_t)a->ndim * sizeof *a->shape));
    FUZZ_MUST(!memcmp(again.data, data, size));
    npy_free(&again);
}

static void check_accepted(const struct npy_file *f, const uint8_t *bytes, size_t n)
{
    const struct npy *a = &f->array;
    struct dr_error err = { 0 };
    int64_t count = 1;
    FUZZ_MUST(a->ndim >= 0 && a->ndim <= NPY_MAX_DIMS);
    for (int i = 0; i < a->ndim; i++) {
        FUZZ_MUST(a->shape[i] >= 0);
        count *= a->shape[i];
    }
    size_t size = (size_t)a->count * npy_size_of(a->dtype);
    FUZZ_MUST(a->count == count && f->start >= 0 && (size_t)f->start <= n);
    FUZZ_MUST(size == n - (size_t)f->start);
    void *data = malloc(size ? size : 1);
    FUZZ_MUST(data);
    int r = npy_read(f, data, NULL, &err);
    FUZZ_MUST_SAY(!r, err.text);
    FUZZ_MUST(!memcmp(data, bytes + f->start, size));
    must_survive(a, data, size);
    free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct npy_file f;
    struct dr_error err = { 0 };
    int r = npy_open(memory_file(bytes, n), "input.npy", &f, &err);
    if (r) {
        fuzz_must_explain(r, &err);
        FUZZ_MUST_SAY(!strncmp(err.text, "input.npy: ", 11), err.text);
    } else {
        check_accepted(&f, bytes, n);
        npy_close(&f);
    }
    fuzz_must_be_clean();
    return 0;
}
