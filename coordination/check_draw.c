/* check_draw.c - see check_draw.h.
 *
 * A picture shows a disc if nearly every pixel is nearest to one of two colours of the shipped
 * model's palette and the first colour's pixels are as compact as a disc's: area over 2 pi times
 * the mean squared distance from their middle is 1 for a disc, 0.955 for a square, less for all
 * else.
 */
#include "coordination/check_draw.h"

#include <stdio.h>

#include "inference/sdxl_worker.h"

int check_draw(struct engine *e, const struct request *q, const atomic_int *stop,
               struct dr_image *ret, struct dr_error *err)
{
    struct pipeline_options how = { .stop = stop };
    struct pipeline *p;
    struct job job = { .batch = 0 };
    struct memory_plan plan;
    struct job_timing timing;
    struct engine_spec spec;
    int r = engine_find_spec(e, &(struct engine_names){ .model = "" }, &spec, err);
    if (!r)
        r = engine_pipeline(e, &spec.spec, request_text(q, FIELD_kernels), PRECISION_F32, stop, &p,
                            err);
    if (r < 0)
        return r;
    struct memory_budget budget = engine_budget(e, p);
    r = sdxl_job(q, p, &job, err);
    if (!r && job.batch != 1)
        r = dr_fail(err, DR_EFORMAT, "a picture of the check: batch_size must be 1");
    if (!r)
        r = job_plan(p, &job, &budget, NULL, &plan, err);
    if (!r)
        r = engine_load(e, p, &plan, &how, err);
    if (!r)
        r = job_run(p, &job, &plan, NULL, stop, ret, &timing, err);
    job_release(&job);
    pipeline_unref(p);
    return r;
}

enum { RED, BLUE, COLOURS = 8 };

/* Those that the shipped model was trained on. */
static const int palette[COLOURS][3] = {
    { 220, 30, 30 },  { 40, 70, 220 },  { 30, 160, 60 }, { 245, 215, 40 },
    { 155, 60, 200 }, { 250, 130, 20 }, { 20, 20, 20 },  { 245, 245, 245 },
};

static int nearest(const unsigned char *pixel)
{
    int best = 0, least = 0;
    for (int i = 0; i < COLOURS; i++) {
        int distance = 0;
        for (int c = 0; c < 3; c++)
            distance += (pixel[c] - palette[i][c]) * (pixel[c] - palette[i][c]);
        if (!i || distance < least) {
            best = i;
            least = distance;
        }
    }
    return best;
}

bool check_shows_disc(const struct dr_image *image, char *why, size_t n)
{
    static const double turn = 6.283185307179586;
    double count[COLOURS] = { 0 }, x = 0, y = 0, squares = 0;
    double all = (double)image->width * (double)image->height;
    for (int64_t row = 0; row < image->height; row++) {
        for (int64_t column = 0; column < image->width; column++) {
            int colour = nearest(image->pixels + (row * image->width + column) * 3);
            count[colour]++;
            if (colour != RED)
                continue;
            x += (double)column;
            y += (double)row;
            squares += (double)(column * column + row * row);
        }
    }
    double red = count[RED], blue = count[BLUE], spread = 0;
    if (red > 0)
        spread = squares / red - (x / red) * (x / red) - (y / red) * (y / red);
    double compact = spread > 0 ? red / (turn * spread) : 0;
    bool shows = red + blue >= 0.97 * all && red >= 0.03 * all && blue >= 0.35 * all &&
                 compact >= 0.97;
    snprintf(why, n, "%.0f %% red, %.0f %% blue, the red %.2f of a disc", 100 * red / all,
             100 * blue / all, compact);
    return shows;
}
