/* tcfg.c - tangential classifier-free guidance (Kwon et al. 2025, arXiv 2503.18137): of the
 * unconditional prediction only the part along the first right singular vector of the two
 * predictions stays. With the first left singular vector (a, b), an eigenvector of the 2x2 matrix
 * of their products, that part is b (a c + b u). Reference: diffusers
 * TangentialClassifierFreeGuidance. */
#include <math.h>

#include "inference/guiders/arithmetic.h"
#include "inference/guiders/guiders.h"

static void negative(const struct guider *g, const struct guider_at *at, float *io)
{
    (void)g;
    double cc = guider_dot(at->positive, at->positive, at->n);
    double cu = guider_dot(at->positive, io, at->n), uu = guider_dot(io, io, at->n);
    double half = (cc - uu) / 2, root = sqrt(half * half + cu * cu);
    /* the larger eigenvalue less cc or uu, whichever does not cancel */
    double a = half >= 0 ? half + root : cu, b = half >= 0 ? cu : root - half;
    double norm = sqrt(a * a + b * b);
    if (!(norm > 0))
        return;
    a /= norm;
    b /= norm;
    for (size_t i = 0; i < at->n; i++)
        io[i] = (float)(b * (a * at->positive[i] + b * io[i]));
}

const struct guider_info guider_tcfg = {
    .name = "tcfg",
    .title = "tangential guidance",
    .paper = "arXiv 2503.18137",
    .diffusers = "TangentialClassifierFreeGuidance",
    .negative = negative,
};
