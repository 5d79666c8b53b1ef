/* recipe_apply.c - see recipe_apply.h. */
#include "inference/recipe_apply.h"

#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "core/communication/recipe.h"
#include "inference/job.h"
#include "inference/pipeline.h"
#include "inference/sampler_names.h"
#include "models/family.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"

/* What the request says itself. */
struct typed {
    const struct sched_info *sampler; /* NULL: none that is known */
    const struct schedule_info *schedule;
    bool has_sampler, has_schedule, has_list, has_steps;
};

static int read_typed(const struct request *q, struct typed *ret, struct dr_error *err)
{
    const char *sampler, *schedule;
    char name[64];
    struct typed t = { .has_list = request_has(q, FIELD_timesteps) || request_has(q, FIELD_sigmas),
                       .has_steps = request_has(q, FIELD_steps) };
    int r = sampler_names(q, &sampler, &schedule, err);
    if (r < 0)
        return r;
    t.has_sampler = sampler != NULL;
    if (sampler) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(sampler, ","), sampler);
        t.sampler = sched_find(name, &t.schedule);
    }
    if (schedule)
        t.schedule = schedule_find_spec(schedule);
    t.has_schedule = schedule || t.schedule;
    *ret = t;
    return 0;
}

/* `text` where the request has no such field; "" is no value. */
static int fill(struct request *q, enum field_id id, const char *text, struct dr_error *err)
{
    return request_has(q, id) || !*text ? 0 : request_set_text(q, id, text, err);
}

/* Steps or their list, schedule and spacing, for this sampler. */
static int fill_levels(struct request *q, const struct recipe *recipe, const struct typed *t,
                       const struct sched_info *sampler, struct dr_error *err)
{
    bool listed = *recipe->timesteps && !t->has_list && !t->has_steps && !t->has_schedule &&
                  (sampler->lists & SCHED_LISTS_TIMESTEPS);
    const struct schedule_info *schedule = t->schedule ? t->schedule : schedule_find("normal");
    int r = 0;
    if (listed)
        r = fill(q, FIELD_timesteps, recipe->timesteps, err);
    else if (!t->has_list)
        r = fill(q, FIELD_steps, recipe->steps, err);
    if (!r && !listed && !t->has_list && !t->has_schedule)
        r = fill(q, FIELD_schedule, schedule->name, err);
    if (!r && schedule_uses_spacing(schedule, sampler))
        r = fill(q, FIELD_spacing, recipe->spacing, err);
    return r;
}

static int fill_size(struct request *q, const struct recipe *recipe, struct dr_error *err)
{
    char edge[16];
    if (!recipe->size || request_has(q, FIELD_width) || request_has(q, FIELD_height))
        return 0;
    snprintf(edge, sizeof edge, "%d", recipe->size);
    int r = fill(q, FIELD_width, edge, err);
    return r ? r : fill(q, FIELD_height, edge, err);
}

int recipe_apply(struct request *q, struct dr_error *err)
{
    const struct recipe *recipe;
    struct typed t = { .sampler = NULL };
    if (!request_has(q, FIELD_recipe))
        return 0;
    int r = recipe_find("recipe", request_text(q, FIELD_recipe), &recipe, err);
    if (!r)
        r = read_typed(q, &t, err);
    if (r < 0)
        return r;
    const struct sched_info *sampler = t.has_sampler ? t.sampler
                                                     : sched_find(recipe->sampler, NULL);
    if (!t.has_sampler)
        r = fill(q, FIELD_sampler, recipe->sampler, err);
    if (!r && !t.has_sampler)
        r = fill(q, FIELD_eta, recipe->eta, err);
    if (!r && sampler) /* one that is unknown is an error of its own */
        r = fill_levels(q, recipe, &t, sampler, err);
    if (!r)
        r = fill(q, FIELD_guidance_scale, recipe->cfg, err);
    return r ? r : fill_size(q, recipe, err);
}

static bool is_of(const struct family *f, const char *families)
{
    struct dr_word rest = word_all(f->ids ? f->ids : ""), word;
    while (word_next(&rest, '|', &word)) {
        char id[32];
        snprintf(id, sizeof id, "%.*s", (int)word.n, word.at);
        if (word_in(families, '|', id))
            return true;
    }
    return false;
}

/* Kinds of files that have an option of their own. */
static const struct {
    const char *kind;
    enum field_id field;
} own_options[] = { { "unet", FIELD_unet }, { "lora", FIELD_loras } };

/* Whether what carries the distillation may be there: inside the checkpoint or in a file of a kind
 * that is given. */
static bool may_be_carried(const struct request *q, const struct recipe *recipe)
{
    struct dr_word rest = word_all(recipe->files), kind;
    while (word_next(&rest, '|', &kind)) {
        bool has_option = false;
        for (size_t i = 0; i < sizeof own_options / sizeof *own_options; i++) {
            if (!word_is(kind, own_options[i].kind))
                continue;
            has_option = true;
            if (request_has(q, own_options[i].field))
                return true;
        }
        if (!has_option)
            return true;
    }
    return false;
}

int recipe_check(const struct request *q, const struct pipeline *p, const struct job *job,
                 struct dr_error *err)
{
    const struct recipe *recipe;
    char expected[96];
    if (!request_has(q, FIELD_recipe))
        return 0;
    int r = recipe_find("recipe", request_text(q, FIELD_recipe), &recipe, err);
    if (r < 0)
        return r;
    const struct family *family = checkpoint_family(p->checkpoint);
    if (!is_of(family, recipe->families)) {
        snprintf(expected, sizeof expected, "one for %s", family->text);
        return dr_fail_field(err, DR_EINVAL, "recipe", recipe->name, expected,
                             "the model is of another family");
    }
    if (!may_be_carried(q, recipe)) {
        snprintf(expected, sizeof expected, "a file of the kind it is made for: %s", recipe->files);
        return dr_fail_field(err, DR_EINVAL, "recipe", recipe->name, expected,
                             "with one that is part of the model, give the values themselves");
    }
    if (job->sched.prediction == SCHED_EPSILON)
        return 0;
    snprintf(expected, sizeof expected, "none for a model that predicts %s",
             sched_prediction_name(job->sched.prediction));
    return dr_fail_field(err, DR_EINVAL, "recipe", recipe->name, expected,
                         "it is for one that predicts epsilon");
}
