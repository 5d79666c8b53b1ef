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

/* Rounds of mixing, each of some blocks of b rows: round k, block n turns b rows of the value, in
 * place, into sums of them. */
struct rotation_mix {
    int64_t rounds, blocks, b;
    const double *m; /* [rounds, blocks, b, b]; by its rows, or `turned` by its columns */
    bool turned;
    /* The row at place i of all of the round's blocks, one after another. */
    int64_t (*row_at)(const struct rotation_mix *mix, int64_t round, int64_t i);
};
/* DR_ENOMEM, DR_ECANCELED. */
int rotation_apply(const struct rotation_mix *mix, const struct delta_target *t,
                   struct dr_error *err);

/* Row i times rescale[i], where the file has it. */
int rotation_rescale(const struct weight_delta *d, const struct delta_target *t,
                     struct dr_error *err);
/* Shape of the factors, or not there. */
int rotation_check_rescale(const struct weight_delta *d, const struct shape *param,
                           struct dr_error *err);

#endif
