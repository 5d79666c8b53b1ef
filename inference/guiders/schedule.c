/* schedule.c - a guidance scale that changes over the run (Wang et al. 2024, arXiv 2404.13040):
 * straight lines between points, "0:1;0.2:7;1:5", each a fraction of the steps and a scale. Before
 * the first point and after the last the scale is theirs. Step s of n is at the fraction s / n. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/guiders/guiders.h"

enum { MOST_SCALE = 1000 };

static int fail_points(const char *path, const char *text, struct dr_error *err)
{
    return dr_fail_field(err, DR_EINVAL, path, text,
                         "at most 32 FRACTION:SCALE with ; between, fractions from 0 to 1 that "
                         "rise, scales from 0 to 1000",
                         "such as 0:1;0.2:7;1:5");
}

/* A number that ends at `end`. */
static bool number(const char **at, char end, double hi, double *ret)
{
    char *after;
    errno = 0;
    *ret = strtod(*at, &after);
    bool good = after != *at && !errno && (*after == end || (end == ';' && !*after)) &&
                !(*at)[strspn(*at, "0123456789.eE+-:;")] && *ret >= 0 && *ret <= hi;
    *at = *after ? after + 1 : after;
    return good;
}

static int read_points(struct guider *g, const char *path, struct dr_error *err)
{
    const char *at = g->text;
    double last = -1;
    for (g->n_points = 0; *at; g->n_points++) {
        if (g->n_points == GUIDER_POINTS)
            return fail_points(path, g->text, err);
        double *p = g->point[g->n_points];
        if (!number(&at, ':', 1, &p[0]) || !number(&at, ';', MOST_SCALE, &p[1]) || p[0] <= last)
            return fail_points(path, g->text, err);
        last = p[0];
    }
    return g->n_points ? 0 : fail_points(path, g->text, err);
}

static double value(const struct guider *g, double t)
{
    int i = 0, last = g->n_points - 1;
    if (t <= g->point[0][0])
        return g->point[0][1];
    if (t >= g->point[last][0])
        return g->point[last][1];
    while (g->point[i + 1][0] < t)
        i++;
    const double *a = g->point[i], *b = g->point[i + 1];
    return a[1] + (b[1] - a[1]) * ((t - a[0]) / (b[0] - a[0]));
}

static void scale(const struct guider *g, const struct sched_ask *ask, double *io_scale)
{
    double most = 0;
    if (!guider_acts(g, ask))
        return;
    for (int i = 0; i < g->n_points; i++)
        most = g->point[i][1] > most ? g->point[i][1] : most;
    *io_scale = ask->steps ? value(g, (double)ask->step / ask->steps) : most;
}

const struct guider_info guider_schedule = {
    .name = "schedule",
    .title = "a guidance scale that changes over the run",
    .paper = "arXiv 2404.13040",
    .text = "points",
    .text_help = "FRACTION:SCALE with ; between; straight lines between them",
    .read = read_points,
    .scale = scale,
};
