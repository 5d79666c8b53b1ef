/* rotation.h - what oft and boft share: small rotations out of skew-symmetric matrices, and rows
 * mixed by them. */
#ifndef DR_MODELS_ADAPTERS_ROTATION_H
#define DR_MODELS_ADAPTERS_ROTATION_H

#include "models/adapters/weight_delta.h"

/* n matrices of b x b, as strength R + (1 - strength) I with R = (I + Q) (I - Q)^-1, the Cayley
 * transform of Q = B - B^T for each B of the tensor; Q is scaled down so that the length of all of
 * them is at most `most` (0: any). dr_free *ret. DR_ENOMEM; DR_EFORMAT where values overflow. */
int rotation_matrices(const struct weight_delta *d, int64_t n, int64_t b, double most, double **ret,
                      struct dr_error *err);

/* Rows of the value, in place: row at[i] becomes the sum over j of m[i][j] row at[j]; `turned`: of
 * m[j][i]. scratch has b * cols floats. */
void rotation_mix(const struct delta_target *t, const int64_t *at, const double *m, bool turned,
                  int64_t b, float *scratch);

/* Row i times rescale[i], where the file has it. */
int rotation_rescale(const struct weight_delta *d, const struct delta_target *t,
                     struct dr_error *err);
/* Shape of the factors, or not there. */
int rotation_check_rescale(const struct weight_delta *d, const struct shape *param,
                           struct dr_error *err);

#endif
