/* oft.c - the rows of the value, in groups of b, rotated within their group.
 *
 * value = rescale (strength R + (1 - strength) I)^T value with R a block-diagonal rotation; alpha
 * is the constraint of constrained OFT, times the rows.
 * Reference: Qiu et al. 2023, Controlling Text-to-Image Diffusion by Orthogonal Finetuning,
 * section 3; LyCORIS DiagOFTModule.
 */
#include "models/adapters/rotation.h"

static int check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    int64_t b = delta_dim(&d->tensor[OFT_BLOCKS], 1);
    char got[96];
    int r = delta_check_matrix(d, shape, err);
    if (!r && (b < 1 || shape->d[0] % b))
        r = dr_fail_field(err, DR_EINVAL, d->tensor[OFT_BLOCKS].name,
                          shape_text(&d->tensor[OFT_BLOCKS].shape, got, sizeof got),
                          "blocks that divide the rows", NULL);
    struct shape wanted = SHAPE3(b > 0 ? shape->d[0] / b : 0, b, b);
    if (!r)
        r = delta_check_tensor(d, OFT_BLOCKS, &wanted, err);
    return r ? r : rotation_check_rescale(d, shape, err);
}

static int64_t row_at(const struct rotation_mix *mix, int64_t round, int64_t i)
{
    (void)mix;
    (void)round;
    return i;
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    int64_t b = delta_dim(&d->tensor[OFT_BLOCKS], 1), n = t->rows / b;
    double *m = NULL;
    int r = rotation_matrices(d, n, b, d->alpha * (double)t->rows, &m, err);
    struct rotation_mix mix = { 1, n, b, m, true, row_at };
    if (!r)
        r = rotation_apply(&mix, t, err);
    if (!r)
        r = rotation_rescale(d, t, err);
    dr_free(m);
    return r;
}

const struct delta_kind delta_kind_oft = {
    .name = "oft",
    .needs = { { 1 << OFT_BLOCKS, 0 } },
    .check = check,
    .apply = apply,
};
