/* npy.h - arrays in numpy's .npy format, version 1.0, C order, little-endian.
 *
 * Stages are dumped and injected in it. The header is a Python literal; only what numpy.save writes
 * is accepted ({'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }), in any order of keys.
 */
#ifndef DR_BASE_NPY_H
#define DR_BASE_NPY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/error.h"

enum { NPY_MAX_DIMS = 8 };

enum npy_dtype {
    NPY_F32 = 'f', /* <f4 */
    NPY_F64 = 'd', /* <f8 */
    NPY_I64 = 'q', /* <i8 */
    NPY_I32 = 'i', /* <i4 */
    NPY_U8 = 'B',  /* |u1 */
};

struct npy {
    enum npy_dtype dtype;
    int ndim;
    int64_t shape[NPY_MAX_DIMS];
    int64_t count; /* product of shape; 1 for a scalar */
    void *data;    /* count elements, 64-byte aligned; owned */
};

size_t npy_size_of(enum npy_dtype dtype);

/* A file whose header was read, and nothing else yet (files over 8 GiB, or whose length is not
 * exactly what the header says, are refused): the caller compares type and shape with what
 * it needs, and reads the data into memory that it has. The file is read, not mapped, so that one
 * that is truncated meanwhile is an error.
 *
 *     r = npy_open(fd, path, &f, err);       takes fd over, also when it fails
 *     if (!r && f.array.dtype == NPY_F32 && ...)
 *         r = npy_read(&f, data, stop, err);
 *     npy_close(&f);                         also after a failure
 */
struct npy_file {
    int fd;           /* -1: not open */
    const char *path; /* for errors; the caller's */
    struct npy array; /* without data */
    int64_t start;    /* of the data, in bytes */
    struct stat state;
};

int npy_open(int fd, const char *path, struct npy_file *ret, struct dr_error *err);
/* array.count elements. DR_EIO when the file changed since it was opened, DR_ECANCELED when *stop
 * (may be NULL) becomes nonzero. */
int npy_read(const struct npy_file *f, void *data, const atomic_int *stop, struct dr_error *err);
void npy_close(struct npy_file *f);

/* Makes the file, which must not exist, in an open folder (dr_create_file's way). */
int npy_create(int folder, const char *path, enum npy_dtype dtype, const int64_t *shape, int ndim,
               const void *data, struct dr_error *err);

#endif
