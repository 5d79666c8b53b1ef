/* check_draw.h - pictures of the self-test, on the shipped model. Internal to coordination/. */
#ifndef DR_COORDINATION_CHECK_DRAW_H
#define DR_COORDINATION_CHECK_DRAW_H

#include "coordination/engine.h"
#include "core/communication/request.h"

/* Draws one picture in float32. */
int check_draw(struct engine *e, const struct request *q, const atomic_int *stop,
               struct dr_image *ret, struct dr_error *err);

/* Whether a picture (RGB) shows a red disc on blue and nothing else; if not, `why` says what it
 * shows instead. */
bool check_shows_disc(const struct dr_image *image, char *why, size_t n);

/* The check of one sampler with every schedule, or with one: `data` of the message. */
int engine_check_matrix(struct engine *e, struct worker_job *job, json_t **ret_data,
                        struct dr_error *err);

#endif
