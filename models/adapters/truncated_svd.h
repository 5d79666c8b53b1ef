/* truncated_svd.h - the best product of a given rank for a matrix.
 *
 * For LoRAs that are extracted from two checkpoints or given another rank: ranks of tens to
 * hundreds of matrices of thousands. A matrix is projected to a few more random directions than the
 * rank, with power iterations (Halko, Martinsson, Tropp 2011, algorithm 4.4); what remains is a
 * small square, whose decomposition is Hestenes' one-sided Jacobi method. In double, and with the
 * same bits each time.
 */
#ifndef DR_MODELS_ADAPTERS_TRUNCATED_SVD_H
#define DR_MODELS_ADAPTERS_TRUNCATED_SVD_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"

/* matrix [rows, cols] ~ u diag(s) v^T; s falls and has no zeros. */
struct truncated_svd {
    int64_t rank; /* at most what was asked for */
    double *u;    /* [rank, rows]: a singular vector each */
    double *v;    /* [rank, cols] */
    double *s;
};

/* Of up^T down, with up [inner, rows] and down [inner, cols]: exact but for rounding. DR_ENOMEM,
 * DR_ECANCELED. */
int truncated_svd_product(const double *up, const double *down, int64_t inner, int64_t rows,
                          int64_t cols, int64_t rank, const atomic_int *stop,
                          struct truncated_svd *ret, struct dr_error *err);
/* Of a matrix. */
int truncated_svd_matrix(const float *a, int64_t rows, int64_t cols, int64_t rank,
                         const atomic_int *stop, struct truncated_svd *ret, struct dr_error *err);
void truncated_svd_release(struct truncated_svd *d);

#endif
