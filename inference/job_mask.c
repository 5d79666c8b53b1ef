/* job_mask.c - see job_mask.h.
 *
 * A mask is inverted, grown and blurred at the size of the picture it came with, as the user sees
 * it, and brought to the job's size afterwards. What is written is the original with what was drawn
 * pasted in, so its other pixels keep their bytes.
 */
#include "inference/job_mask.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "inference/job.h"
#include "inference/job_image.h"
#include "schedulers/scheduler_factory.h"

static const char *const fills[] = { [INPAINT_ORIGINAL] = "original",
                                     [INPAINT_FILL] = "fill",
                                     [INPAINT_NOISE] = "noise",
                                     [INPAINT_NOTHING] = "nothing" };

enum { N_FILLS = sizeof fills / sizeof *fills };

/* Of what a mask's proportions may differ from its picture's. */
static const double tolerance = 0.01;

const char *job_mask_fill_name(enum inpaint_fill fill)
{
    return fills[fill];
}

static enum inpaint_fill fill_of(const char *name)
{
    for (int i = 0; i < N_FILLS; i++)
        if (!strcmp(name, fills[i]))
            return (enum inpaint_fill)i;
    return INPAINT_ORIGINAL;
}

static void take_keys(struct job_mask *m, const struct request *q)
{
    m->blur = request_item_real(q, FIELD_mask, 0, "blur");
    m->grow = (int)request_item_real(q, FIELD_mask, 0, "grow");
    m->invert = request_item_flag(q, FIELD_mask, 0, "invert");
    m->soft = request_item_flag(q, FIELD_mask, 0, "soft");
    m->paste_back = request_item_flag(q, FIELD_mask, 0, "paste_back");
    m->fill = fill_of(request_item_text(q, FIELD_mask, 0, "fill"));
    m->only = request_item_has(q, FIELD_mask, 0, "only")
                  ? (int)request_item_real(q, FIELD_mask, 0, "only")
                  : -1;
}

/* The mask as it is meant, of the picture's size. */
static int read_mask(const struct job_mask *m, const struct job_mask_source *s,
                     struct dr_image *ret, struct dr_error *err)
{
    double ratio = (double)s->mask->width * (double)s->picture->height /
                   ((double)s->mask->height * (double)s->picture->width);
    if (fabs(ratio - 1) > tolerance) {
        char got[64], expected[96];
        snprintf(got, sizeof got, "%" PRId64 "x%" PRId64 " pixels", s->mask->width,
                 s->mask->height);
        snprintf(expected, sizeof expected, "the image's proportions, %" PRId64 "x%" PRId64,
                 s->picture->width, s->picture->height);
        return dr_fail_field(err, DR_EINVAL, "mask", got, expected, NULL);
    }
    int r = img_fit(s->mask, IMG_FIT_STRETCH, s->picture->width, s->picture->height, ret, err);
    if (!r)
        r = img_convert(ret, 1, err);
    if (!r && m->invert)
        mask_invert(ret);
    if (!r)
        r = mask_grow(ret, m->grow, err);
    return r ? r : mask_blur(ret, m->blur, err);
}

static int nothing_marked(const struct job_mask *m, struct dr_error *err)
{
    return dr_fail_field(err, DR_EINVAL, "mask", "nothing marked", "white where it is drawn anew",
                         m->invert ? "it is inverted" : "is it meant inverted?");
}

/* Picture and mask of the part that is worked on, at the job's size. */
static int take_part(struct job_mask *m, struct job *job, const struct dr_image *picture,
                     const struct dr_image *mask, struct dr_error *err)
{
    struct dr_image part = { .pixels = NULL }, marked = { .pixels = NULL };
    if (!mask_region(mask, m->only, job->width, job->height, &m->box))
        return nothing_marked(m, err);
    m->part = true;
    int r = img_cut(picture, &m->box, &part, err);
    if (!r)
        r = img_cut(mask, &m->box, &marked, err);
    img_free(&job->image->picture);
    if (!r)
        r = img_fit(&part, IMG_FIT_WHOLE, job->width, job->height, &job->image->picture, err);
    if (!r)
        r = img_fit(&marked, IMG_FIT_WHOLE, job->width, job->height, &m->area, err);
    img_free(&part);
    img_free(&marked);
    return r;
}

static int copy(const struct dr_image *src, struct dr_image *ret, struct dr_error *err)
{
    struct mask_box all = { 0, 0, src->width, src->height };
    return img_cut(src, &all, ret, err);
}

/* What the finished picture is pasted into: the whole original where only a part is worked on, else
 * what the job begins with. */
static int take_original(struct job_mask *m, const struct job *job, const struct dr_image *picture,
                         const struct dr_image *mask, struct dr_error *err)
{
    int r = copy(m->part ? picture : &job->image->picture, &m->original, err);
    if (!r)
        r = copy(m->part ? mask : &m->area, &m->share, err);
    if (!r && !m->soft && !(m->blur > 0))
        mask_cut(&m->share);
    return r || !m->part ? r : copy(picture, &m->canvas, err);
}

static bool marks_anything(const struct dr_image *mask)
{
    size_t n = (size_t)mask->width * (size_t)mask->height;
    for (size_t i = 0; i < n; i++)
        if (mask->pixels[i])
            return true;
    return false;
}

static int make_latents(struct job_mask *m, const struct pipeline *p, struct dr_error *err)
{
    int64_t factor = p->latent_factor;
    size_t n = (size_t)(m->area.width / factor * (m->area.height / factor));
    m->latents = dr_malloc(DR_TAG_JOB, n * sizeof *m->latents);
    if (!m->latents)
        return dr_fail(err, DR_ENOMEM, "out of memory for a mask");
    inpaint_latent_mask(&m->area, factor, m->soft, m->latents);
    for (size_t i = 0; i < n; i++)
        if (m->latents[i] > 0)
            return 0;
    return dr_fail_field(err, DR_EINVAL, "mask", "less than a latent marked",
                         "a larger area, as 8 pixels are one latent", "grow= widens it");
}

static int make(struct job_mask *m, struct job *job, const struct request *q,
                const struct pipeline *p, const struct job_mask_source *s, struct dr_error *err)
{
    struct dr_image picture = { .pixels = NULL }, mask = { .pixels = NULL };
    take_keys(m, q);
    snprintf(m->sha256, sizeof m->sha256, "%s", s->sha256);
    if (s->path && !(m->path = arena_strdup(&job->arena, s->path)))
        return dr_fail(err, DR_ENOMEM, "out of memory for a path");
    if (job->wrap && m->only >= 0)
        return dr_fail_field(err, DR_EINVAL, "mask.only", "a part of the image",
                             "the whole image with tile", "a part's edges do not meet");
    int r = read_mask(m, s, &mask, err);
    if (!r && !marks_anything(&mask))
        r = nothing_marked(m, err);
    if (!r)
        r = copy(s->picture, &picture, err);
    if (!r)
        r = img_convert(&picture, 3, err);
    if (!r && m->only >= 0)
        r = take_part(m, job, &picture, &mask, err);
    else if (!r)
        r = img_fit(&mask, job->image->fit, job->width, job->height, &m->area, err);
    if (!r)
        r = take_original(m, job, &picture, &mask, err);
    if (!r && !m->soft)
        mask_cut(&m->area);
    if (!r && m->fill == INPAINT_FILL)
        r = inpaint_draw_out(&job->image->picture, &m->area, err);
    img_free(&picture);
    img_free(&mask);
    return r ? r : make_latents(m, p, err);
}

int job_set_mask(struct job *job, const struct request *q, const struct pipeline *p,
                 const struct job_mask_source *source, struct dr_error *err)
{
    if (!sched_count(&job->sched))
        return dr_fail_field(err, DR_EUNSUPPORTED, "mask", job->sched.sampler->name,
                             "a sampler whose steps are known before it runs", NULL);
    struct dr_tally *before = dr_tally_use(&job->tally);
    job->mask = dr_calloc(DR_TAG_JOB, 1, sizeof *job->mask);
    int r = job->mask ? make(job->mask, job, q, p, source, err)
                      : dr_fail(err, DR_ENOMEM, "out of memory for a mask");
    dr_tally_use(before);
    return r;
}

void job_mask_free(struct job_mask *mask)
{
    if (!mask)
        return;
    img_free(&mask->area);
    img_free(&mask->share);
    img_free(&mask->canvas);
    img_free(&mask->original);
    dr_free(mask->latents);
    dr_free(mask);
}

static void put(const struct dr_image *part, const struct mask_box *box, struct dr_image *dst)
{
    size_t width = 3 * (size_t)part->width;
    for (int64_t y = 0; y < part->height; y++)
        memcpy(dst->pixels + 3 * (size_t)((box->y + y) * dst->width + box->x),
               part->pixels + (size_t)y * width, width);
}

/* dst, where the drawn one is, between it and the original. */
static void blend(struct dr_image *dst, const struct dr_image *original,
                  const struct dr_image *share)
{
    size_t n = (size_t)dst->width * (size_t)dst->height;
    for (size_t i = 0; i < 3 * n; i++) {
        int a = share->pixels[i / 3];
        dst->pixels[i] = (uint8_t)((dst->pixels[i] * a + original->pixels[i] * (255 - a) + 127) /
                                   255);
    }
}

size_t job_mask_finish_bytes(const struct job_mask *mask)
{
    size_t drawn = (size_t)mask->area.width * (size_t)mask->area.height;
    size_t part = (size_t)(mask->box.end_x - mask->box.x) * (size_t)(mask->box.end_y - mask->box.y);
    if (!mask->part || !mask->paste_back)
        return 0;
    return 3 * 4 * (drawn > part ? drawn : part); /* two passes, what is cut out, and weights */
}

int job_mask_finish(struct job_mask *mask, struct dr_image *drawn, const struct dr_image **ret,
                    struct dr_error *err)
{
    struct dr_image part = { .pixels = NULL };
    *ret = drawn;
    if (!mask->paste_back)
        return 0;
    if (!mask->part) {
        blend(drawn, &mask->original, &mask->share);
        return 0;
    }
    *ret = &mask->canvas;
    memcpy(mask->canvas.pixels, mask->original.pixels,
           3 * (size_t)mask->canvas.width * (size_t)mask->canvas.height);
    int r = img_fit(drawn, IMG_FIT_CROP, mask->box.end_x - mask->box.x,
                    mask->box.end_y - mask->box.y, &part, err);
    if (!r) {
        put(&part, &mask->box, &mask->canvas);
        blend(&mask->canvas, &mask->original, &mask->share);
    }
    img_free(&part);
    return r;
}
