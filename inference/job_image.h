/* job_image.h - the picture that a job begins with, brought to the job's size. It is the job's
 * memory. */
#ifndef DR_INFERENCE_JOB_IMAGE_H
#define DR_INFERENCE_JOB_IMAGE_H

#include "base/image/fit.h"
#include "base/sha256.h"
#include "core/communication/request.h"
#include "inference/pipeline.h"

struct job;

struct job_image {
    struct dr_image picture; /* RGB, of the job's size */
    const char *path;        /* as requested, the job's; NULL: it was in the request itself */
    char sha256[SHA256_HEX]; /* of its file */
    double strength;
    enum img_fit fit;
    int first_step; /* of the schedule's steps, the first that is run */
};

/* A picture as it was read. */
struct job_image_source {
    const struct dr_image *picture;
    const char *path, *sha256;
};

/* Width and height of the request where it leaves them open: the picture's, or in its proportions;
 * multiples of the pipeline's factor. Then DR_ELIMIT when they are too large to be drawn. */
int job_image_size(struct request *q, const struct pipeline *p, const struct dr_image *picture,
                   struct dr_error *err);

/* DR_EINVAL for fields that say something to a job with a picture only. */
int job_image_absent(const struct request *q, struct dr_error *err);

/* From a job of a request that names a picture to one that begins with it. DR_EINVAL when no step
 * is left to run; DR_EUNSUPPORTED when the model cannot encode. */
int job_set_image(struct job *job, const struct request *q, const struct pipeline *p,
                  const struct job_image_source *source, struct dr_error *err);
void job_image_free(struct job_image *image);

const char *job_image_fit_name(enum img_fit fit);

#endif
