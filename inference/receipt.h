/* receipt.h - what a picture says of its making: infotext that AUTOMATIC1111's readers parse, and a
 * JSON receipt with every effective parameter, enough to make the same bits again. */
#ifndef DR_INFERENCE_RECEIPT_H
#define DR_INFERENCE_RECEIPT_H

#include <jansson.h>

#include "base/buf.h"
#include "inference/job.h"
#include "models/component.h"

/* What a job does not know of itself. */
struct receipt_facts {
    const char *model; /* name for people: file or folder without its path and extension */
    const char *part[COMPONENT_COUNT]; /* the same of parts that replace its own; NULL: none does */
    const char *digest; /* hex sha256 of the model with its parts; "" when it is not known */
    const char *prediction_from, *zsnr_from; /* what said so; "": nothing */
    const char *kernel_set;
    int layout; /* backend_layout_version */
    const char *version;
};

/* Keys of scheduler_config.json for which the values of the model's family stand in, "a, b"; "":
 * none. */
void receipt_assumed(const struct sched_config *sched, char *dst, size_t n);

/* The seed that a picture is drawn again with; of a batch with one generator the batch's. */
uint64_t job_picture_seed(const struct job *job, int index);

/* Picture `index` of the batch. Appends to dst. */
int receipt_infotext(const struct job *job, const struct receipt_facts *facts, int index,
                     struct buf *dst);

/* New reference; NULL when memory is short. */
json_t *receipt_json(const struct job *job, const struct receipt_facts *facts, int index);

#endif
