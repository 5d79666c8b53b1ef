/* names.h - spellings of samplers and schedules: case, ' ', '-' and '_' do not count. */
#ifndef DR_SCHEDULERS_NAMES_H
#define DR_SCHEDULERS_NAMES_H

#include <stdbool.h>

#include "base/error.h"

enum { SCHED_NAME_BYTES = 64 };

/* Lower case without ' ', '-', '_'; false when it does not fit. */
bool sched_fold_name(const char *name, char dst[SCHED_NAME_BYTES]);

bool sched_same_name(const char *a, const char *b);

/* To an error about a name that is unknown here: "; not supported by darkroom yet", if it is a
 * sampler or schedule of other programs. Returns `code`. */
int sched_tell_elsewhere(const char *name, int code, struct dr_error *err);

#endif
