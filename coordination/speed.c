/* speed.c - see speed.h. A line is "SET THREADS STAGE SIZE RATE". */
#include "coordination/speed.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/line_cache.h"

enum { LARGEST = 1 << 14, LINES = 128, KEY = 128, COMPARABLE = 3 /* powers of 2 */ };

static const double least_seconds = 0.02; /* of a stage that is worth remembering */
static const double same = 0.1;           /* a rate that moved by less is not written again */

static struct line_cache file_of(const char *path)
{
    return (struct line_cache){ path, "darkroom speed 2\n", LARGEST };
}

/* Sizes of work, each twice the one before. */
static int size_of(double flops)
{
    int exponent;
    (void)frexp(flops, &exponent);
    return exponent;
}

/* FLOPs of one piece of the stage's work. */
static double piece(const struct memory_plan *plan, enum job_stage stage, int evaluations)
{
    double flops = plan->stage[stage].flops;
    return stage == STAGE_DENOISE && evaluations > 0 ? flops / evaluations : flops;
}

static void key_of(const struct backend *be, enum job_stage stage, char dst[KEY])
{
    snprintf(dst, KEY, "%.60s %d %s ", backend_kernel_set(be), backend_threads(be),
             job_stage_name(stage));
}

/* "SIZE RATE" of a line with that key. */
static bool parse(const char *line, const char *key, int *ret_size, double *ret_rate)
{
    size_t n = strlen(key);
    if (strncmp(line, key, n))
        return false;
    return sscanf(line + n, "%d %lf", ret_size, ret_rate) == 2 && isfinite(*ret_rate) &&
           *ret_rate > 0;
}

/* The rate of the nearest size from `least` on; 0: none. *ret_distance: how far it is. */
static double rate_of(const char *lines, const char *key, int size, int least, int *ret_distance)
{
    double best = 0, rate;
    int at;
    for (const char *line = lines; line && *line; line = line_cache_next(line))
        if (parse(line, key, &at, &rate) && at >= least &&
            (best == 0 || abs(at - size) < *ret_distance)) {
            *ret_distance = abs(at - size);
            best = rate;
        }
    return best;
}

struct speed_estimate speed_estimate(const struct backend *be, const struct memory_plan *plan,
                                     int evaluations)
{
    struct speed_estimate e = { .seconds = 0 };
    char path[DR_PATH_MAX], key[KEY];
    struct line_cache file = file_of(path);
    struct buf text;
    if (dr_cache_path(path, sizeof path, "speed", NULL) < 0)
        return e;
    buf_init(&text, DR_TAG_FILE, LARGEST);
    const char *lines = line_cache_read(&file, &text);
    for (int s = STAGE_COUNT - 1; s >= 0; s--) {
        double flops = plan->stage[s].flops, rate;
        int distance = 0;
        if (flops <= 0 && s == STAGE_DENOISE) { /* nobody knows how often the model is evaluated */
            e = (struct speed_estimate){ .seconds = 0 };
            break;
        }
        if (flops <= 0)
            continue;
        key_of(be, (enum job_stage)s, key);
        int size = size_of(piece(plan, (enum job_stage)s, evaluations));
        int least = s == STAGE_DENOISE ? size - COMPARABLE : INT_MIN;
        rate = rate_of(lines, key, size, least, &distance);
        if (rate <= 0 && s == STAGE_DENOISE) { /* most of the work: no estimate without it */
            e = (struct speed_estimate){ .seconds = 0 };
            break;
        }
        e.stage[s] = rate > 0 ? flops / rate : 0;
        e.seconds += e.stage[s];
    }
    buf_free(&text);
    return e;
}

/* The lines with those of a stage replaced by a new one. */
static int replace(const char *lines, const char *key, int size, double rate, struct buf *dst)
{
    int at, n = 1, r = buf_printf(dst, "%s%d %.4g\n", key, size, rate);
    double old;
    for (const char *line = lines; !r && line && *line && n < LINES; line = line_cache_next(line))
        if (!parse(line, key, &at, &old) || at != size) {
            r = buf_append(dst, line, (size_t)(line_cache_next(line) - line));
            n++;
        }
    return r;
}

void speed_remember(const struct backend *be, const struct memory_plan *plan, int evaluations,
                    const struct job_timing *timing)
{
    char path[DR_PATH_MAX], key[KEY];
    struct line_cache file = file_of(path);
    struct buf now, next;
    bool changed = false;
    if (dr_cache_path(path, sizeof path, "speed", NULL) < 0)
        return;
    buf_init(&now, DR_TAG_FILE, LARGEST);
    buf_init(&next, DR_TAG_FILE, LARGEST);
    const char *lines = line_cache_read(&file, &now);
    for (int s = 0; s < STAGE_COUNT; s++) {
        double flops = plan->stage[s].flops, seconds = timing->seconds[s];
        int size = size_of(piece(plan, (enum job_stage)s, evaluations)), distance = 0;
        if (flops <= 0 || !(seconds >= least_seconds))
            continue;
        double rate = flops / seconds;
        key_of(be, (enum job_stage)s, key);
        double old = rate_of(lines, key, size, INT_MIN, &distance);
        if (old > 0 && !distance && fabs(rate / old - 1) < same)
            continue;
        if (replace(lines, key, size, rate, &next) < 0)
            break;
        changed = true;
        struct buf was = now;
        now = next;
        next = was;
        buf_clear(&next);
        lines = buf_text(&now);
    }
    if (changed)
        (void)line_cache_write(&file, &now); /* it is only a cache */
    buf_free(&now);
    buf_free(&next);
}
