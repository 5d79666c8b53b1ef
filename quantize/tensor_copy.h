/* tensor_copy.h - a file of tensors with its numbers in another type, or in another container.
 *
 * Reads safetensors, GGUF and, without running them, files of torch.save
 * (models/formats/torch_file.h); writes GGUF for its quantised types, else safetensors. Names stay.
 * Values are read exactly, with their scales, which then are gone, and rounded once; a finite
 * number that the type cannot hold is an error that names the tensor. In the float types of 32 and
 * 16 bits all floating-point tensors are written; in the smaller ones matrices and filters, while
 * vectors keep their type. A matrix whose rows are no whole blocks of Q4_K takes Q8_0, one whose
 * rows are no whole blocks of that keeps its own. */
#ifndef DR_QUANTIZE_TENSOR_COPY_H
#define DR_QUANTIZE_TENSOR_COPY_H

#include <jansson.h>
#include <stdatomic.h>

#include "base/error.h"
#include "models/formats/safetensors.h"
#include "models/formats/torch_file.h"

/* A tensor, wherever its numbers are. */
struct tensor_origin {
    const char *name;
    enum dtype dtype;
    struct shape shape;
    const void *data;                 /* dense; NULL: of torch */
    const struct torch_tensor *torch; /* NULL: dense */
    bool turned;                      /* a matrix whose data lie as [columns, rows] */
    const void *scale;                /* NULL: none */
    enum dtype scale_dtype;
    bool scale_by_row;
    const struct tensor_origin *below; /* its rows follow in the same tensor; NULL: none */
};

/* "f32", "f16", "bf16", "f8_e4m3", "f8_e5m2", "q8_0", "q4_k"; DR_EINVAL names them. */
int tensor_copy_type(const char *name, enum dtype *ret, struct dr_error *err);

/* From one open file, whose descriptor stays the caller's, to a new one, which is taken over; paths
 * name them. type DTYPE_COUNT: as they are. The answer is {"tensors", "dtypes", "format",
 * "left_out"}. */
int tensor_copy(int from, const char *from_path, int to, const char *to_path, enum dtype type,
                const atomic_int *stop, json_t **ret, struct dr_error *err);

/* A file of these tensors, in this order. type DTYPE_COUNT: as they are. */
struct tensor_write {
    struct tensor_origin *origins;
    size_t n;
    const struct st_metadata *metadata;
    size_t n_metadata;
    enum dtype type;
    const char *source; /* names them in errors */
    const atomic_int *stop;
};
/* Bytes of their numbers there. */
uint64_t tensor_write_size(const struct tensor_origin *origins, size_t n, enum dtype type);
/* Into a new file, which is taken over; the answer is that of tensor_copy. */
int tensor_write(const struct tensor_write *w, int to, const char *to_path, json_t **ret,
                 struct dr_error *err);

#endif
