/* sched_levels.h - levels of steps as the sigmas of a run, with those inside of steps where the
 * sampler's layout has them. */
#ifndef DR_TESTING_HELPERS_SCHED_LEVELS_H
#define DR_TESTING_HELPERS_SCHED_LEVELS_H

#include "schedulers/scheduler_factory.h"
#include "testing/helpers/sched_access.h"

/* levels [steps + 1], the last 0, to ret [sched_levels + 1]. Returns how many before the last. */
static inline int test_lay_out(const struct sched *s, const float *levels, float *ret)
{
    const struct sched_config *c = sched_config_of(s);
    const struct sched_layout *layout = &c->sampler->layout;
    int count = 0;
    for (int step = 0; step < c->steps; step++) {
        int parts = layout->evaluations && !layout->next ? layout->evaluations(c, step) : 1;
        ret[count++] = levels[step];
        float after = step + 2 <= c->steps ? levels[step + 2] : levels[step + 1];
        struct sched_way way = { levels[step], levels[step + 1], after };
        for (int part = 1; part < parts; part++)
            ret[count++] = layout->level ? (float)layout->level(c, &way, part) : levels[step + 1];
    }
    ret[count] = levels[c->steps];
    return count;
}

#endif
