/* job_mask.h - which part of the picture that a job begins with is drawn anew. It is the job's
 * memory. */
#ifndef DR_INFERENCE_JOB_MASK_H
#define DR_INFERENCE_JOB_MASK_H

#include "base/image/mask.h"
#include "base/sha256.h"
#include "conditioning/inpaint.h"
#include "core/communication/request.h"
#include "inference/pipeline.h"

struct job;

struct job_mask {
    struct dr_image area;   /* of the job's size, 255 where it is drawn anew; cut but for `soft` */
    struct dr_image share;  /* of the original's size: how much of what is drawn shows there */
    struct dr_image canvas; /* RGB, of that size: what a finished picture is pasted into */
    struct dr_image original;
    bool part;           /* only this part of the original is worked on */
    struct mask_box box; /* then: the part */
    float *latents;      /* [h, w] of the latents, 1 where they are drawn anew */
    const char *path;    /* as requested, the job's; NULL: it was in the request itself */
    char sha256[SHA256_HEX];
    double blur;
    int grow, only; /* only: the padding; -1: the whole picture */
    bool invert, soft, paste_back;
    enum inpaint_fill fill;
};

struct job_mask_source {
    const struct dr_image *picture, *mask; /* as they were read */
    const char *path, *sha256;             /* of the mask */
};

/* After job_set_image: DR_EINVAL for a mask that does not suit the picture or marks nothing. */
int job_set_mask(struct job *job, const struct request *q, const struct pipeline *p,
                 const struct job_mask_source *source, struct dr_error *err);
void job_mask_free(struct job_mask *mask);

/* Bytes of pictures that it takes for a moment, at most. */
size_t job_mask_finish_bytes(const struct job_mask *mask);

/* The picture to hand out for one that was drawn: that one, changed, or the canvas. */
int job_mask_finish(struct job_mask *mask, struct dr_image *drawn, const struct dr_image **ret,
                    struct dr_error *err);

const char *job_mask_fill_name(enum inpaint_fill fill);

#endif
