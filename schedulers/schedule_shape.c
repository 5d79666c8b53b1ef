/* schedule_shape.c - schedules that are a curve from 1 to 0 times the model's highest level.
 *
 * linear_quadratic: Genmo's Mochi 1, as ComfyUI has it: the first half of the steps falls evenly by
 * a small share, the second along a parabola. bong_tangent: RES4LYF's, two arctangents joined at
 * the middle, as in its sigmas.py; stable-diffusion.cpp and Forge have the same.
 */
#include <math.h>

#include "base/dmath.h"
#include "schedulers/schedule_impl.h"

static void put_share(const struct schedule_job *job, int i, double share, double *ret_sigmas,
                      double *ret_timesteps)
{
    ret_sigmas[i] = share * job->table->sigmas[job->table->n - 1];
    ret_timesteps[i] = schedule_timestep(job, ret_sigmas[i], SCHEDULE_NEAREST);
}

enum { THRESHOLD, LINEAR_STEPS };

static const struct sched_option quadratic_options[] = {
    [THRESHOLD] = { "threshold_noise", 0.0001, 0.5, 0.025, false,
                    "share of the noise that the even steps take away", NULL },
    [LINEAR_STEPS] = { "linear_steps", 0, 1000, 0, true, "even steps; 0: half of them", NULL },
    { .name = NULL },
};

static int even_steps(const struct sched_config *config, int steps)
{
    int given = (int)config->schedule_option[LINEAR_STEPS];
    return given ? given : steps / 2;
}

static void fill_linear_quadratic(const struct schedule_job *job, double *ret_sigmas,
                                  double *ret_timesteps)
{
    int n = job->n, even = even_steps(job->config, n);
    double threshold = schedule_value(job, THRESHOLD), rest = n - even;
    double difference = even - threshold * n, slope = 0, square = 0;
    if (even) {
        square = difference / (even * rest * rest);
        slope = threshold / even - 2 * difference / (rest * rest);
    }
    for (int i = 0; i < n; i++) {
        double x = i, taken = square * x * x + slope * x + square * (double)even * even;
        put_share(job, i, 1 - (i < even ? x * threshold / even : taken), ret_sigmas, ret_timesteps);
    }
}

/* The parabola must fall from its first step: its slope there is that of the even steps, which the
 * formula only has if there are steps after them. */
static int least_linear_quadratic(const struct sched_config *config)
{
    int given = (int)config->schedule_option[LINEAR_STEPS];
    return given ? given + 1 : 1;
}

enum { MIDDLE, PIVOT_1, PIVOT_2, SLOPE_1, SLOPE_2 };

static const struct sched_option tangent_options[] = {
    [MIDDLE] = { "middle", 0.01, 0.99, 0.5, false, "share of the highest level at the joint",
                 NULL },
    [PIVOT_1] = { "pivot_1", 0.05, 0.95, 0.6, false, "where the first curve is steepest", NULL },
    [PIVOT_2] = { "pivot_2", 0.05, 0.95, 0.6, false, "where the second curve is steepest", NULL },
    [SLOPE_1] = { "slope_1", 0.01, 10, 0.2, false, "how steep the first curve is, at 40 steps",
                  NULL },
    [SLOPE_2] = { "slope_2", 0.01, 10, 0.2, false, "how steep the second curve is", NULL },
    { .name = NULL },
};

static const double PI = 3.14159265358979323846;

struct tangent {
    double slope, pivot, start, end;
    int points;
};

static double fall(const struct tangent *t, double x)
{
    return (2 / PI * dr_atan(-t->slope * (x - t->pivot)) + 1) / 2;
}

static double tangent_at(const struct tangent *t, int x)
{
    double high = fall(t, 0), low = fall(t, t->points - 1);
    return t->points < 2 ? t->start
                         : (fall(t, x) - low) / (high - low) * (t->start - t->end) + t->end;
}

static void fill_bong_tangent(const struct schedule_job *job, double *ret_sigmas,
                              double *ret_timesteps)
{
    int n = job->n + 2;
    double pivot_1 = schedule_value(job, PIVOT_1), pivot_2 = schedule_value(job, PIVOT_2);
    double middle = schedule_value(job, MIDDLE), scale = n / 40.0;
    int joint = (int)((n * pivot_1 + n * pivot_2) / 2);
    struct tangent first = { schedule_value(job, SLOPE_1) / scale, (int)(n * pivot_1), 1, middle,
                             joint };
    struct tangent second = { schedule_value(job, SLOPE_2) / scale, (int)(n * pivot_2) - joint,
                              middle, 0, n - joint };
    int before = joint ? joint - 1 : 0; /* the joint is the second curve's */
    for (int i = 0; i < job->n; i++)
        put_share(job, i, i < before ? tangent_at(&first, i) : tangent_at(&second, i - before),
                  ret_sigmas, ret_timesteps);
}

const struct schedule_info schedule_linear_quadratic = {
    .name = "linear_quadratic",
    .title = "Linear Quadratic",
    .kind = SCHEDULE_ENDS,
    .options = quadratic_options,
    .least = least_linear_quadratic,
    .fill = fill_linear_quadratic,
};

const struct schedule_info schedule_bong_tangent = {
    .name = "bong_tangent",
    .title = "Bong Tangent",
    .kind = SCHEDULE_ENDS,
    .options = tangent_options,
    .fill = fill_bong_tangent,
};
