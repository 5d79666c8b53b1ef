/* npy.h - arrays in numpy's .npy format, version 1.0, C order, little-endian.
 *
 * Stages are dumped and injected in it. The header is a Python literal; only what numpy.save writes
 * is accepted ({'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }), in any order of keys.
 */
#ifndef DR_BASE_NPY_H
#define DR_BASE_NPY_H

#include <stddef.h>
#include <stdint.h>

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

/* Release with npy_free. Files over 8 GiB, or whose length is not exactly what the header says, are
 * refused. */
int npy_load(const char *path, struct npy *ret_array, struct dr_error *err);
void npy_free(struct npy *a);

/* Replaces the file whole (dr_write_pieces' way). */
int npy_save(const char *path, enum npy_dtype dtype, const int64_t *shape, int ndim,
             const void *data, struct dr_error *err);

#endif
