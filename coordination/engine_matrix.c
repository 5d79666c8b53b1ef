/* engine_matrix.c - the self-test of samplers and schedules: each pair draws a picture that must
 * show its prompt. One sampler is one message, so that a caller sees how far it is. */
#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "coordination/check_draw.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"

enum { STEPS = 20 };

static const char prompt[] = "a red circle on a blue background";

/* Pairs that are not expected to, and why. Names separated by blanks; "*": all. */
static const struct {
    const char *samplers, *schedules, *why;
} exceptions[] = {
    { "lms", "normal ddim_uniform beta", "extrapolating from four steps overshoots at 20 of them" },
    { "heun", "laplace", "few of its steps are at low noise, and Heun's last ones are too long" },
    { "dpm2_a", "exponential laplace vp karras_exponential",
      "fresh noise in 20 long steps; with 40 steps, or eta 0.5, it shows" },
    { "*", "linear_quadratic",
      "made for flow matching: half of its steps are near pure noise, of the others one or two are "
      "long" },
};

static const char *exception(const char *sampler, const char *schedule)
{
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++) {
        const char *samplers = exceptions[i].samplers, *schedules = exceptions[i].schedules;
        if ((*samplers == '*' || word_in(samplers, ' ', sampler)) &&
            (*schedules == '*' || word_in(schedules, ' ', schedule)))
            return exceptions[i].why;
    }
    return NULL;
}

static int draw(struct engine *e, const char *sampler, const char *schedule, const atomic_int *stop,
                struct dr_image *ret, struct dr_error *err)
{
    struct request q;
    json_t *json = json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:s}", "prompt", prompt, "sampler",
                             sampler, "schedule", schedule, "steps", STEPS, "seed", 3, "width", 128,
                             "height", 128, "precision", "f32");
    if (!json)
        return dr_fail(err, DR_ENOMEM, "out of memory for a request");
    int r = request_parse(json, "", NULL, &q, err);
    json_decref(json);
    if (r < 0)
        return r;
    r = check_draw(e, &q, stop, ret, err);
    request_free(&q);
    return r;
}

/* {schedule, result: "shows", "expected" not to, "fails", why}. Only a cancel is an error. */
static int check_pair(struct engine *e, const char *sampler, const char *schedule,
                      const atomic_int *stop, json_t **ret, int *failed, struct dr_error *err)
{
    struct dr_image image = { 0 };
    struct dr_error found = { 0 };
    char why[120] = "";
    const char *expected = exception(sampler, schedule);
    int r = draw(e, sampler, schedule, stop, &image, &found);
    if (r == DR_ECANCELED || r == DR_ENOMEM) {
        *err = found;
        return r;
    }
    bool shows = !r && check_shows_disc(&image, why, sizeof why);
    img_free(&image);
    bool fails = !shows && (r || !expected);
    *failed += fails;
    *ret = json_pack("{s:s,s:s,s:s}", "schedule", schedule, "result",
                     shows   ? "shows"
                     : fails ? "fails"
                             : "expected",
                     "why",
                     r       ? found.text
                     : shows ? ""
                     : fails ? why
                             : expected);
    return *ret ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}

int engine_check_matrix(struct engine *e, struct worker_job *job, json_t **ret_data,
                        struct dr_error *err)
{
    const char *name = NULL, *only = NULL;
    const struct sched_info *sampler;
    const struct schedule_info *one = NULL;
    int r = jx_opt_string(job->data, "data", "matrix", &name, err);
    if (!r)
        r = jx_opt_string(job->data, "data", "schedule", &only, err);
    if (!r)
        r = sched_lookup("matrix", name, &sampler, NULL, err);
    if (!r && only)
        r = schedule_lookup("schedule", only, &one, err);
    if (r)
        return r;
    size_t n;
    int failed = 0;
    const struct schedule_info *const *all = schedule_all(&n);
    json_t *pairs = json_array();
    for (size_t i = 0; !r && i < n; i++) {
        json_t *pair = NULL;
        if (one ? one != all[i] : all[i]->stands_for != NULL)
            continue;
        r = check_pair(e, sampler->name, all[i]->name, job->stop, &pair, &failed, err);
        if (!r && jx_add(pairs, pair) < 0)
            r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    }
    if (!r)
        *ret_data = json_pack("{s:s,s:s,s:O,s:i}", "sampler", sampler->name, "prompt", prompt,
                              "schedules", pairs, "failed", failed);
    json_decref(pairs);
    return r || *ret_data ? r : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}
