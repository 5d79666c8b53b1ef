/* job_prompts.c - see job_prompts.h. */
#include "inference/job_prompts.h"

#include <limits.h>
#include <string.h>

#include "conditioning/prompt_language.h"
#include "conditioning/prompt_script.h"
#include "inference/job_walk.h"
#include "schedulers/scheduler_factory.h"

static const char *const emphasis_names[] = {
    [PROMPT_EMPHASIS_ORIGINAL] = "original",
    [PROMPT_EMPHASIS_NO_NORM] = "no_norm",
    [PROMPT_EMPHASIS_IGNORE] = "ignore",
};

int job_prompts_language(struct job *job, const char *syntax, const char *emphasis,
                         struct dr_error *err)
{
    const struct prompt_language *language = prompt_language_find(syntax);
    struct prompt_request *q = &job->prompt;
    if (!language)
        return dr_fail_field(err, DR_EINVAL, "prompt_syntax", syntax,
                             "a1111, comfyui, sdcpp or plain", NULL);
    if (emphasis && language->weighing != PROMPT_WEIGHS_SCALE)
        return dr_fail_field(err, DR_EINVAL, "emphasis", emphasis,
                             "nothing without prompt_syntax a1111 or sdcpp",
                             "other languages have one way to weigh words");
    for (int i = 0; emphasis && i < 3; i++)
        if (!strcmp(emphasis, emphasis_names[i]))
            q->emphasis = (enum prompt_emphasis)i;
    q->language = language;
    q->composed = prompt_is_composed(language, q->prompt);
    return 0;
}

const char *job_emphasis_name(const struct job *job)
{
    return emphasis_names[job->prompt.emphasis];
}

/* Steps as AUTOMATIC1111 counts them for prompts: of a sampler with two evaluations a step, each.
 * A run whose number is open has those of its schedule. */
static int prompt_steps(const struct sched_config *sched)
{
    const struct sched_layout *layout = &sched->sampler->layout;
    return sched->steps *
           (layout->evaluations && sched->steps > 1 ? layout->evaluations(sched, 0) : 1);
}

int job_prompts_read(struct job *job, struct dr_error *err)
{
    int r = 0;
    job->script = dr_calloc(DR_TAG_JOB, 1, sizeof *job->script);
    if (!job->script)
        r = dr_fail(err, DR_ENOMEM, "out of memory for the texts of a prompt");
    if (!r)
        r = prompt_script_read(&job->prompt, prompt_steps(&job->sched), job->script, err);
    job->prompt.script = job->script;
    return r;
}

void job_prompts_release(struct job *job)
{
    if (job->script)
        prompt_script_release(job->script);
    dr_free(job->script);
    job->script = NULL;
}

static bool phase_reads(const struct prompt_phase *p, int row)
{
    bool reads = p->negative == row;
    for (int i = 0; i < p->n_parts; i++)
        reads |= p->part[i] == row;
    return reads;
}

bool job_prompts_uses(const struct job *job, int row, int from, int to)
{
    const struct prompt_script *s = job->script;
    for (int i = 0; i < s->n_phases; i++) {
        int end = i + 1 < s->n_phases ? s->phase[i + 1].first : INT_MAX;
        if (s->phase[i].first < to && end > from && phase_reads(&s->phase[i], row))
            return true;
    }
    return false;
}

int job_prompts_more(const struct job *job)
{
    return job->script->n_parts - 1;
}

/* The phase of weights w and that of the texts t from an evaluation on. */
static void fill_phase(const struct job *job, struct unet *unet, struct walk_phase *w,
                       const struct prompt_phase *t, const struct unet_conditioning **more,
                       struct denoise_phase *ret)
{
    int n = t->n_parts;
    ret->unet = unet;
    ret->variant = w->variant;
    ret->guidance = job_guidance(job);
    ret->guidance.positive = &w->conditioning[t->part[0]];
    ret->guidance.negative = t->negative < 0 ? ret->guidance.positive
                                             : &w->conditioning[t->negative];
    ret->weight = job->prompt.composed ? job->script->weight : NULL;
    ret->n_more = n - 1;
    ret->more = more;
    for (int i = 1; i < n; i++)
        more[i - 1] = &w->conditioning[t->part[i]];
}

int job_phases_make(const struct job *job, struct unet *unet, struct walk_phase *walk, int n,
                    struct job_phases *ret, struct dr_error *err)
{
    const struct prompt_script *s = job->script;
    size_t most = (size_t)(n + s->n_phases), parts = (size_t)job_prompts_more(job);
    struct guidance g = job_guidance(job);
    memset(ret, 0, sizeof *ret);
    if ((s->negatives > 0) != guidance_negative(&g))
        return dr_fail(err, DR_EINTERNAL, "%d texts of negative prompts for %d rows of guidance",
                       s->negatives, guidance_rows(&g));
    ret->phase = dr_calloc(DR_TAG_JOB, most, sizeof *ret->phase);
    ret->more = dr_calloc(DR_TAG_JOB, most * parts + 1, sizeof *ret->more);
    if (!ret->phase || !ret->more)
        return dr_fail(err, DR_ENOMEM, "out of memory for the phases of a picture");
    for (int w = 0, t = 0;;) {
        struct denoise_phase *p = &ret->phase[ret->n];
        p->first = walk[w].first > s->phase[t].first ? walk[w].first : s->phase[t].first;
        fill_phase(job, unet, &walk[w], &s->phase[t], ret->more + (size_t)ret->n * parts, p);
        ret->n++;
        int next_w = w + 1 < n ? walk[w + 1].first : INT_MAX;
        int next_t = t + 1 < s->n_phases ? s->phase[t + 1].first : INT_MAX;
        if (next_w == INT_MAX && next_t == INT_MAX)
            return 0;
        w += next_w <= next_t;
        t += next_t <= next_w;
    }
}

void job_phases_release(struct job_phases *phases)
{
    dr_free(phases->phase);
    dr_free(phases->more);
}
