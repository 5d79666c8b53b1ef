/* brownian_tree.h - a Brownian path over an interval of sigma, whose increments do not depend on
 * what else was asked of it: a sampler that looks at an interval twice, or whose steps are cut
 * otherwise, sees one and the same path.
 *
 * The values are those of torchsde 0.2.6's BrownianTree (tolerance 1e-6, pool of 24 words), as
 * k-diffusion's BrownianTreeNoiseSampler asks it: a dyadic tree whose every node halves its
 * parent's increment with noise of its own. A node's noise comes from a generator that is seeded
 * by numpy's SeedSequence from the seed and the node's place, so nothing needs to be kept.
 */
#ifndef DR_SCHEDULERS_BROWNIAN_TREE_H
#define DR_SCHEDULERS_BROWNIAN_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

struct brownian_tree {
    double low, high;      /* the path's ends */
    uint64_t seed;         /* torchsde's entropy */
    enum dr_rng_kind kind; /* of the generators */
    size_t n;              /* values, each with a path of its own, */
    size_t first, total;   /* of so many, from there on */
    float *work;           /* [3 n] */
    double *sum;           /* [n] */
};

/* The increment from sigma `from` to sigma `to` over the square root of their distance: normals of
 * deviation 1. Ends outside the path's count as its ends, as in torchsde; 0 for equal ones. */
void brownian_interval(const struct brownian_tree *tree, double from, double to, float *ret);

#endif
