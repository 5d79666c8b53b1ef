/* engine_layout.h - `convert` with a layout; internal to coordination/. */
#ifndef DR_COORDINATION_ENGINE_LAYOUT_H
#define DR_COORDINATION_ENGINE_LAYOUT_H

#include "coordination/engine.h"

/* A verb as in engine.h. */
int engine_layout(struct engine *e, struct worker_job *job, json_t **ret_data,
                  struct dr_error *err);

#endif
