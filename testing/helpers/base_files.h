/* base_files.h - files of base/ by path and whole: the product opens descriptors and streams. */
#ifndef DR_TESTING_HELPERS_BASE_FILES_H
#define DR_TESTING_HELPERS_BASE_FILES_H

#include "base/fs.h"
#include "base/npy.h"
#include "base/sha256.h"

/* The whole array in memory of its own; release with npy_free. */
int npy_load(const char *path, struct npy *ret_array, struct dr_error *err);
void npy_free(struct npy *a);

/* Replaces the file. */
int npy_save(const char *path, enum npy_dtype dtype, const int64_t *shape, int ndim,
             const void *data, struct dr_error *err);

int dr_map_open(struct dr_map *ret_map, const char *path, struct dr_error *err);
int sha256_file(const char *path, const atomic_int *stop, sha256_progress_fn *progress, void *ctx,
                char ret_hex[SHA256_HEX], struct dr_error *err);

#endif
