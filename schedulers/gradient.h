/* gradient.h - gradient estimation, which two samplers share: Euler's step along a slope that is
 * extrapolated from the last two (Permenter and Yuan 2023, arXiv 2306.04848, section 5).
 * Reference: ComfyUI's sample_gradient_estimation. Included by files of schedulers/ only. */
#ifndef DR_SCHEDULERS_GRADIENT_H
#define DR_SCHEDULERS_GRADIENT_H

#include "schedulers/scheduler_impl.h"

/* Slopes of this evaluation and of the one before, by turns. */
enum { GRADIENT_VECTORS = 2 };

/* Over the current evaluation: the slope is gamma times this one and 1 - gamma times the one
 * before. The last step, to sigma 0, ends at x0. cfg_pp: along the unconditional prediction,
 * towards the guided one (Chung et al. 2024, arXiv 2406.08070). */
void gradient_step(struct sched *s, const struct sched_answer *answer, double gamma, bool cfg_pp);

#endif
