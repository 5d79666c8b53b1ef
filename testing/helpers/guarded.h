/* guarded.h - the cpu backend with its buffers out of reach, for tests of code that must not touch
 * activations. */
#ifndef DR_TESTING_HELPERS_GUARDED_H
#define DR_TESTING_HELPERS_GUARDED_H

#include "backend/backend.h"

int backend_open_guarded(const struct backend_options *opt, struct backend **ret,
                         struct dr_error *err);

#endif
