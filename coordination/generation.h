/* generation.h - a running generation: engine_generate.c prepares it, generate_run.c draws it.
 * Internal to coordination/. */
#ifndef DR_COORDINATION_GENERATION_H
#define DR_COORDINATION_GENERATION_H

#include "coordination/engine.h"
#include "coordination/request_image.h"
#include "coordination/speed.h"
#include "core/communication/request.h"
#include "inference/receipt.h"

struct result;

struct generation {
    struct engine *engine;
    struct worker_job *worker;
    struct request request;
    struct pipeline *pipeline;        /* a reference */
    struct request_image image, mask; /* until the job has them */
    struct job job;
    struct memory_plan plan;
    struct image_sink sink; /* the host's, as it was when the job began */
    bool has_job;
    json_t *warnings; /* array of texts */
    double started;
    int evaluation, evaluations; /* of the model: done, in all (WORKER_STEPS_OPEN) */
    double last_event;           /* when the last progress event was sent */
    struct speed_estimate estimate;
    struct result *result; /* of a run */
};

/* Names for people of the model and of the parts that replace its own. */
struct model_titles {
    char model[DR_PATH_MAX], part[COMPONENT_COUNT][DR_PATH_MAX];
};
struct receipt_facts generation_facts(const struct generation *g, const struct model_titles *titles,
                                      const char *digest);
/* A total of work, null where it is unknown (0): the evaluations of the sampler are open. */
json_t *generation_flops(double flops);
/* Bytes by allocation tag; new reference, NULL when memory is short. */
json_t *generation_tags(const size_t tagged[DR_TAG_COUNT], size_t *ret_total);

/* generate_images.c: the pictures that the request begins with: read, with the picture's size where
 * the request gives none; and given to the job. */
int generation_read_images(struct generation *g, void (*warning)(void *ctx, const char *text),
                           struct dr_error *err);
int generation_set_images(struct generation *g, void (*warning)(void *ctx, const char *text),
                          struct dr_error *err);

/* Draws what is loaded and admitted. Each picture is encoded, written and reported as soon as it is
 * decoded, and stays when a later one fails. */
int generation_run(struct generation *g, json_t **ret_data, struct dr_error *err);

#endif
