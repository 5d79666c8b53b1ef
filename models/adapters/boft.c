/* boft.c - the rows of the value rotated in stages that together mix all of them: a butterfly.
 *
 * Stage i takes groups of b rows that lie 2^i b/2 apart. Each stage's rotations are
 * strength R + (1 - strength) I.
 * Reference: Liu et al. 2024, Parameter-Efficient Orthogonal Finetuning via Butterfly
 * Factorization, section 4; LyCORIS ButterflyOFTModule.
 */
#include "models/adapters/rotation.h"

static int64_t stages(const struct weight_delta *d)
{
    return delta_dim(&d->tensor[OFT_BLOCKS], 0);
}

static int check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    int64_t b = delta_dim(&d->tensor[OFT_BLOCKS], 2), m = stages(d), rows = shape->d[0];
    int r = delta_check_matrix(d, shape, err);
    bool fits = b > 1 && b % 2 == 0 && rows % b == 0 && m >= 1 && m < 32 &&
                rows % ((int64_t)1 << (m - 1)) == 0 && rows % (((int64_t)1 << (m - 1)) * b) == 0;
    char got[96];
    if (!r && !fits)
        r = dr_fail_field(err, DR_EINVAL, d->tensor[OFT_BLOCKS].name,
                          shape_text(&d->tensor[OFT_BLOCKS].shape, got, sizeof got),
                          "stages of even blocks that divide the rows", NULL);
    struct shape wanted = SHAPE4(m, fits ? rows / b : 0, b, b);
    if (!r)
        r = delta_check_tensor(d, OFT_BLOCKS, &wanted, err);
    return r ? r : rotation_check_rescale(d, shape, err);
}

/* The row at place i of a stage whose partners lie `apart`: pairs (2 apart) are interleaved. */
static int64_t row_at(const struct rotation_mix *mix, int64_t round, int64_t i)
{
    int64_t apart = ((int64_t)1 << round) * (mix->b / 2);
    int64_t group = i / (2 * apart), within = i % (2 * apart);
    return group * 2 * apart + within % 2 * apart + within / 2;
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    int64_t b = delta_dim(&d->tensor[OFT_BLOCKS], 2), n = t->rows / b;
    double *m = NULL;
    int r = rotation_matrices(d, stages(d) * n, b, d->alpha * (double)t->rows, &m, err);
    struct rotation_mix mix = { stages(d), n, b, m, false, row_at };
    if (!r)
        r = rotation_apply(&mix, t, err);
    if (!r)
        r = rotation_rescale(d, t, err);
    dr_free(m);
    return r;
}

const struct delta_kind delta_kind_boft = {
    .name = "boft",
    .needs = { { 1 << OFT_BLOCKS, 0 } },
    .check = check,
    .apply = apply,
};
