/* adams.h - what the multistep samplers share: slopes of the last evaluations, and the weights of
 * Adams and Bashforth. Included by files of schedulers/ only. */
#ifndef DR_SCHEDULERS_ADAMS_H
#define DR_SCHEDULERS_ADAMS_H

#include "schedulers/scheduler_impl.h"

enum { ADAMS_MOST = 4 };

/* A step over the current evaluation along the slopes of the last up to `most` ones, which are the
 * first ADAMS_MOST vectors, by turns: `fill` gives their weights, the newest first, which sum up to
 * the step's length in sigma. The last step, to sigma 0, is Euler's. */
void adams_step(struct sched *s, const struct sched_answer *answer, int most,
                void (*fill)(const float *sigmas, int e, int order, double weights[ADAMS_MOST]));

/* The integral over `x` from a to b of the k-th Lagrange polynomial of n nodes, times `factor(x)`;
 * the polynomial's argument is `at(x)`. By Gauss' rule of 16 points. */
struct adams_integral {
    double a, b;
    const double *nodes; /* [n], values of `at` */
    int n, k;
    double (*at)(double x, const void *context);
    double (*factor)(double x, const void *context);
    const void *context;
};

double adams_integrate(const struct adams_integral *integral);

#endif
