/* speed.h - the speed of earlier jobs on this machine, to estimate the time of the next.
 *
 * FLOP/s of each stage of the last job, in a small text file of the cache folder, by kernel set,
 * number of threads and size of the work: small pictures reach a smaller part of the machine. An
 * estimate takes the rate of the nearest size. There is none if no job of comparable size was drawn
 * here: an evaluation of at least an eighth of the work.
 */
#ifndef DR_COORDINATION_SPEED_H
#define DR_COORDINATION_SPEED_H

#include "inference/job_run.h"

struct speed_estimate {
    double stage[STAGE_COUNT]; /* seconds */
    double seconds;            /* of all; 0: nothing is known */
};

/* `evaluations` of the model are what the denoise stage's FLOPs are shared among. */
struct speed_estimate speed_estimate(const struct backend *be, const struct memory_plan *plan,
                                     int evaluations);

/* Stores the rates of a finished job, unless it was too short to measure. */
void speed_remember(const struct backend *be, const struct memory_plan *plan, int evaluations,
                    const struct job_timing *timing);

#endif
