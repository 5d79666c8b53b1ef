/* sched_access.h - what a run of a sampler was made from; the product has it where it makes one. */
#ifndef DR_TESTING_HELPERS_SCHED_ACCESS_H
#define DR_TESTING_HELPERS_SCHED_ACCESS_H

#include "schedulers/scheduler_impl.h"

static inline const struct sched_config *sched_config_of(const struct sched *s)
{
    return &s->config;
}

#endif
