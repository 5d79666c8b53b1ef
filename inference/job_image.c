/* job_image.c - see job_image.h. */
#include "inference/job_image.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "conditioning/img2img.h"
#include "inference/job.h"

static const char *const fits[] = {
    [IMG_FIT_CROP] = "crop", [IMG_FIT_WHOLE] = "fit", [IMG_FIT_STRETCH] = "stretch"
};

enum { N_FITS = sizeof fits / sizeof *fits };

const char *job_image_fit_name(enum img_fit fit)
{
    return fits[fit];
}

static int set_edge(struct request *q, enum field_id id, int64_t edge, const struct dr_image *image,
                    struct dr_error *err)
{
    char text[64], expected[80];
    const struct field_info *f = field_info(id);
    if (edge <= (int64_t)f->hi) {
        snprintf(text, sizeof text, "%" PRId64, edge);
        return request_set_text(q, id, text, err);
    }
    snprintf(text, sizeof text, "%" PRId64 "x%" PRId64 " pixels", image->width, image->height);
    snprintf(expected, sizeof expected, "at most %" PRId64 " on an edge, or a width and a height",
             f->hi);
    return dr_fail_field(err, DR_ELIMIT, "image", text, expected, NULL);
}

int job_image_size(struct request *q, const struct pipeline *p, const struct dr_image *picture,
                   struct dr_error *err)
{
    int64_t factor = p->latent_factor, w = picture->width, h = picture->height;
    bool wide = request_has(q, FIELD_width), high = request_has(q, FIELD_height);
    int r = 0;
    if (wide && !high)
        h = (request_int(q, FIELD_width) * h + w / 2) / w;
    else if (high && !wide)
        w = (request_int(q, FIELD_height) * w + h / 2) / h;
    if (!wide)
        r = set_edge(q, FIELD_width, img2img_edge(w, factor), picture, err);
    if (!r && !high)
        r = set_edge(q, FIELD_height, img2img_edge(h, factor), picture, err);
    return r;
}

int job_image_absent(const struct request *q, struct dr_error *err)
{
    static const enum field_id fields[] = { FIELD_mask, FIELD_resize_mode, FIELD_image_sha256 };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (request_has(q, fields[i]))
            return dr_fail_field(err, DR_EINVAL, field_info(fields[i])->name,
                                 "a value without an image",
                                 "an image to begin with, or not this field", NULL);
    return 0;
}

static enum img_fit fit_of(const struct request *q)
{
    const char *name = request_text(q, FIELD_resize_mode);
    for (int i = 0; i < N_FITS; i++)
        if (!strcmp(name, fits[i]))
            return (enum img_fit)i;
    return IMG_FIT_CROP;
}

/* Where the run begins. */
static int settle_strength(struct job_image *m, int steps, struct dr_error *err)
{
    char got[64], expected[80];
    m->first_step = img2img_first_step(steps, m->strength);
    if (m->first_step < steps)
        return 0;
    snprintf(got, sizeof got, "%g, which is none of %d steps", m->strength, steps);
    snprintf(expected, sizeof expected, "at least %.4g, which is one", 1.0 / steps);
    return dr_fail_field(err, DR_EINVAL, "strength", got, expected,
                         "more steps or a larger strength");
}

static int make(struct job_image *m, struct job *job, const struct request *q,
                const struct job_image_source *source, struct dr_error *err)
{
    m->strength = request_real(q, FIELD_strength);
    m->fit = fit_of(q);
    snprintf(m->sha256, sizeof m->sha256, "%s", source->sha256);
    if (source->path && !(m->path = arena_strdup(&job->arena, source->path)))
        return dr_fail(err, DR_ENOMEM, "out of memory for a path");
    int r = settle_strength(m, job->sched.steps, err);
    if (!r)
        r = img_fit(source->picture, m->fit, job->width, job->height, &m->picture, err);
    return r ? r : img_convert(&m->picture, 3, err);
}

int job_set_image(struct job *job, const struct request *q, const struct pipeline *p,
                  const struct job_image_source *source, struct dr_error *err)
{
    if (!p->encoder)
        return dr_fail_field(err, DR_EUNSUPPORTED, "image", "a picture to begin with",
                             "a model whose VAE can encode", p->no_encoder);
    struct dr_tally *before = dr_tally_use(&job->tally);
    job->image = dr_calloc(DR_TAG_JOB, 1, sizeof *job->image);
    int r = job->image ? make(job->image, job, q, source, err)
                       : dr_fail(err, DR_ENOMEM, "out of memory for a picture");
    dr_tally_use(before);
    return r;
}

void job_image_free(struct job_image *image)
{
    if (!image)
        return;
    img_free(&image->picture);
    dr_free(image);
}
