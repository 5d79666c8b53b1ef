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

/* The row at place p of a stage whose partners lie `apart`: pairs (2 apart) are interleaved. */
static int64_t row_at(int64_t p, int64_t apart)
{
    int64_t group = p / (2 * apart), within = p % (2 * apart);
    return group * 2 * apart + within % 2 * apart + within / 2;
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    int64_t b = delta_dim(&d->tensor[OFT_BLOCKS], 2), n = t->rows / b;
    double *m = NULL;
    int r = rotation_matrices(d, stages(d) * n, b, d->alpha * (double)t->rows, &m, err);
    int64_t *at = dr_malloc(DR_TAG_WEIGHTS, (size_t)b * sizeof *at);
    float *scratch = dr_malloc(DR_TAG_WEIGHTS, (size_t)(b * t->cols) * sizeof *scratch);
    if (!r && (!at || !scratch))
        r = dr_fail(err, DR_ENOMEM, "out of memory for rows of %s", d->param);
    for (int64_t k = 0; !r && k < stages(d) * n; k++) {
        int64_t apart = ((int64_t)1 << k / n) * (b / 2);
        r = delta_stopped(t, err);
        for (int64_t i = 0; !r && i < b; i++)
            at[i] = row_at(k % n * b + i, apart);
        if (!r)
            rotation_mix(t, at, m + k * b * b, false, b, scratch);
    }
    if (!r)
        r = rotation_rescale(d, t, err);
    dr_free(m);
    dr_free(at);
    dr_free(scratch);
    return r;
}

const struct delta_kind delta_kind_boft = {
    .name = "boft",
    .needs = { { 1 << OFT_BLOCKS, 0 } },
    .check = check,
    .apply = apply,
};
