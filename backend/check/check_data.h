/* check_data.h - inputs of a checker's case, and one run of it with guard zones. */
#ifndef DR_BACKEND_CHECK_CHECK_DATA_H
#define DR_BACKEND_CHECK_CHECK_DATA_H

#include "backend/ops/op.h"

/* In the order of enum op_role's flags. */
enum check_role { ROLE_SRC, ROLE_K, ROLE_V, ROLE_RESIDUAL, ROLE_CHANNEL_ADD, ROLE_DST, ROLE_COUNT };

/* A case's values in host memory, dense, for all samples. */
struct check_data {
    struct op_setup setup; /* every ld filled in */
    void *values[ROLE_COUNT];
    struct weight_source source[6], position;
    int n_sources;
    void *memory[7];         /* of the sources */
    void *scales[7];         /* of sources that have them apart */
    struct host_weight host; /* of the weight, for `at` */
    void *vectors;           /* its */
};

int check_data_new(const struct op_info *info, enum op_kind kind, const struct op_case *c,
                   uint64_t seed, struct check_data *ret, struct dr_error *err);
void check_data_free(struct check_data *d);

/* Weights of the case on one backend. */
struct check_weights {
    struct weight *weight, *position;
};

int check_weights_new(struct backend *be, const struct check_data *d, struct check_weights *ret,
                      struct dr_error *err);
void check_weights_free(struct check_weights *w);

/* Around dst lie GUARD rows and, when ld > c, gaps; an untouched one holds GUARD_BYTE. */
enum { CHECK_GUARD = 3, CHECK_GUARD_BYTE = 0xaa };

/* What to run of a case. */
struct check_part {
    int64_t first, count; /* samples */
    bool narrow;          /* activations that may be of the backend's operand type are */
};

/* What a run wrote, as float32: CHECK_GUARD rows, the rows of dst, CHECK_GUARD rows, each of dst.ld
 * elements; and, where a product gave them, its moments, dense. */
struct check_out {
    float *dst, *moments;
    size_t sample_moments; /* bytes of a sample's */
};
void check_out_free(struct check_out *out);

/* Runs the op. DR_EINVAL also where the moments are not those of dst or surrounded by what was
 * there before. */
int check_data_run(struct backend *be, const struct check_data *d, const struct check_weights *w,
                   struct check_part part, const atomic_int *stop, struct check_out *ret,
                   struct dr_error *err);

/* The arguments of `at` over the dense values. */
struct op check_dense_op(const struct check_data *d, const struct check_weights *w);
struct op_args check_dense_args(const struct check_data *d, const struct op *op);

/* A number drawn from seed and index. */
uint64_t check_random(uint64_t seed, uint64_t index);

#endif
