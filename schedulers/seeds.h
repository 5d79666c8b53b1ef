/* seeds.h - what seeds_2 and exp_heun share: a singlestep of second order of the exponential kind
 * in the logarithm of sigma, with noise at both evaluations that is one path's (Gonzalez et al.
 * 2023, arXiv 2305.14267, SEEDS with data prediction). Reference: ComfyUI's sample_seeds_2.
 * Included by files of schedulers/ only. */
#ifndef DR_SCHEDULERS_SEEDS_H
#define DR_SCHEDULERS_SEEDS_H

#include "schedulers/scheduler_impl.h"

/* Latents and x0 of the step's beginning, and the noise that the path has gathered in the step. */
enum { SEEDS_START, SEEDS_CLEAN, SEEDS_NOISE, SEEDS_VECTORS };

/* How the second evaluation is weighed: as a slope over the step (phi_1), or by the integrals of
 * the exponential (phi_2). */
enum seeds_solver { SEEDS_PHI_1, SEEDS_PHI_2 };

struct seeds {
    double eta, s_noise;
    enum seeds_solver solver;
};

/* Over the current evaluation. The last step, to sigma 0, ends at x0. */
void seeds_step(struct sched *s, const struct sched_answer *answer, const struct seeds *how);

/* Spellings of enum seeds_solver. */
extern const char *const seeds_solvers[];

/* The noise that the path has gathered from the step's begin to the level of evaluation e, in
 * deviations of that level: what it had at the evaluation before, and fresh noise. h: length of the
 * step so far, h_before: at the evaluation before. false: none is added. */
bool seeds_gather(struct sched *s, const struct seeds *how, int e, double h, double h_before);

/* (exp(h) - 1 - h) / h */
double seeds_phi_2(double h);

/* x0 of the current evaluation. */
void seeds_clean(struct sched *s, const float *pred, float *ret);

#endif
