/* generate_images.c - the pictures that a generation begins with. See generation.h. */
#include "coordination/generation.h"

#include "inference/job_image.h"
#include "inference/job_mask.h"

static int read_mask(struct generation *g, struct dr_error *err)
{
    struct request *q = &g->request;
    if (!request_count(q, FIELD_mask))
        return 0;
    return request_image_read(&g->engine->roots, "mask",
                              request_item_text(q, FIELD_mask, 0, "path"),
                              request_item_text(q, FIELD_mask, 0, "sha256"), &g->mask, err);
}

int generation_read_images(struct generation *g, void (*warning)(void *ctx, const char *text),
                           struct dr_error *err)
{
    struct request *q = &g->request;
    if (!request_has(q, FIELD_image)) {
        if (request_has(q, FIELD_strength)) /* A1111 sends it with every request */
            warning(g, "strength: has no effect without an image");
        return job_image_absent(q, err);
    }
    int r = request_image_read(&g->engine->roots, "image", request_text(q, FIELD_image),
                               request_text(q, FIELD_image_sha256), &g->image, err);
    if (!r)
        r = read_mask(g, err);
    return r ? r : job_image_size(q, g->pipeline, &g->image.picture, err);
}

static int set_mask(struct generation *g, struct dr_error *err)
{
    const struct request_image *mask = &g->mask;
    const char *path = request_item_text(&g->request, FIELD_mask, 0, "path");
    struct job_mask_source source = { &g->image.picture, &mask->picture,
                                      mask->is_inline ? NULL : path, mask->sha256 };
    if (!request_count(&g->request, FIELD_mask))
        return 0;
    return job_set_mask(&g->job, &g->request, g->pipeline, &source, err);
}

int generation_set_images(struct generation *g, void (*warning)(void *ctx, const char *text),
                          struct dr_error *err)
{
    const struct request_image *image = &g->image;
    const char *path = request_text(&g->request, FIELD_image);
    struct job_image_source source = { &image->picture, image->is_inline ? NULL : path,
                                       image->sha256 };
    if (!request_has(&g->request, FIELD_image))
        return 0;
    int r = job_set_image(&g->job, &g->request, g->pipeline, &source, err);
    if (!r)
        r = set_mask(g, err);
    if (!r && request_image_transparent(&image->picture))
        warning(g, "image: some of its pixels are transparent, which is ignored");
    img_free(&g->image.picture);
    img_free(&g->mask.picture);
    return r;
}
