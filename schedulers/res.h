/* res.h - RES, the multistep of second order that res_multistep and its variants share: an
 * exponential integrator of x0 in the logarithm of sigma (Zhang et al. 2023, arXiv 2308.02157).
 * Reference: ComfyUI's res_multistep. Included by files of schedulers/ only. */
#ifndef DR_SCHEDULERS_RES_H
#define DR_SCHEDULERS_RES_H

#include "schedulers/scheduler_impl.h"

/* x0 of this evaluation and of the one before, by turns; under CFG++ the unconditional one's. */
enum { RES_VECTORS = 2 };

/* Over the current evaluation: the first step and the last, to sigma 0, are Euler's. cfg_pp: along
 * the unconditional prediction, towards the guided one (Chung et al. 2024, arXiv 2406.08070). */
void res_step(struct sched *s, const struct sched_answer *answer, double eta, double s_noise,
              bool cfg_pp);

#endif
