/* sdxl_worker.c - see sdxl_worker.h. */
#include "inference/sdxl_worker.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "inference/job_image.h"
#include "inference/job_loras.h"
#include "inference/job_prompts.h"
#include "inference/preset.h"
#include "inference/job_mask.h"
#include "inference/sampler_names.h"
#include "models/adapters/textual_inversions.h"
#include "models/vae_manager.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/scheduler_manager.h"

enum { JOB_TEXT_BYTES = 1 << 20 };

/* width or height: the model's own unless given; a multiple of the latent factor. */
static int take_edge(const struct request *q, enum field_id id, const struct pipeline *p,
                     int64_t *ret_edge, struct dr_error *err)
{
    int64_t factor = p->latent_factor;
    int64_t v = request_has(q, id) ? request_int(q, id) : checkpoint_default_size(p->checkpoint);
    if (v % factor == 0 && v >= factor) {
        *ret_edge = v;
        return 0;
    }
    char got[32], expected[48], hint[48];
    int64_t nearest = (v + factor / 2) / factor * factor;
    nearest = nearest > field_info(id)->hi ? nearest - factor : nearest < factor ? factor : nearest;
    snprintf(got, sizeof got, "%" PRId64, v);
    snprintf(expected, sizeof expected, "a multiple of %" PRId64, factor);
    snprintf(hint, sizeof hint, "nearest: %" PRId64, nearest);
    return dr_fail_field(err, DR_EINVAL, field_info(id)->name, got, expected, hint);
}

static int take_width(const struct request *q, const struct pipeline *p, struct job *job,
                      struct dr_error *err)
{
    return take_edge(q, FIELD_width, p, &job->width, err);
}

static int take_height(const struct request *q, const struct pipeline *p, struct job *job,
                       struct dr_error *err)
{
    return take_edge(q, FIELD_height, p, &job->height, err);
}

/* A field that was given and says something to other models only. */
static int refuse_given(const struct request *q, enum field_id id, const char *got, const char *why,
                        struct dr_error *err)
{
    return request_has(q, id) ? dr_fail_field(err, DR_EINVAL, field_info(id)->name, got,
                                              "nothing with this model", why)
                              : 0;
}

/* Micro-conditioning. */
static int take_sizes(const struct request *q, const struct pipeline *p, struct job *job,
                      struct dr_error *err)
{
    static const enum field_id fields[] = { FIELD_original_size, FIELD_target_size, FIELD_crop };
    struct prompt_request *m = &job->prompt;
    int r = 0;
    for (size_t i = 0; !r && !p->encoders.n_time_ids && i < sizeof fields / sizeof *fields; i++) {
        const struct field_value *v = &q->value[fields[i]];
        char got[48];
        snprintf(got, sizeof got, "%" PRId64 "%s%" PRId64, v->i,
                 fields[i] == FIELD_crop ? "," : "x", v->j);
        r = refuse_given(q, fields[i], got, "it has no size conditioning, only SDXL has", err);
    }
    if (r || !p->encoders.n_time_ids)
        return r;
    const struct field_value *original = &q->value[FIELD_original_size];
    const struct field_value *target = &q->value[FIELD_target_size], *crop = &q->value[FIELD_crop];
    m->original_width = original->set ? original->i : job->width;
    m->original_height = original->set ? original->j : job->height;
    m->target_width = target->set ? target->i : job->width;
    m->target_height = target->set ? target->j : job->height;
    m->crop_top = crop->set ? crop->i : 0;
    m->crop_left = crop->set ? crop->j : 0;
    return 0;
}

/* Which pictures of a batch with one generator these are. */
static int take_drawn(const struct request *q, struct job *job, struct dr_error *err)
{
    char got[32];
    bool has = request_has(q, FIELD_drawn_together) && job->preset->together;
    job->drawn = has ? (int)request_int(q, FIELD_drawn_together) : job->batch;
    job->first_drawn = has ? (int)request_int(q, FIELD_drawn_index) : 0;
    if (job->first_drawn + job->batch <= job->drawn)
        return 0;
    snprintf(got, sizeof got, "%d", job->batch);
    return dr_fail_field(err, DR_EINVAL, "batch_size", got, "1",
                         "the receipt's picture is one of a batch with one generator");
}

static int take_seed(const struct request *q, const struct pipeline *p, struct job *job,
                     struct dr_error *err)
{
    (void)p;
    bool given = request_seed(q, &job->seed);
    job->batch = (int)request_int(q, FIELD_batch_size);
    uint64_t more = (uint64_t)(job->batch - 1);
    if (given && job->seed > UINT64_MAX - more) {
        char got[32];
        snprintf(got, sizeof got, "%" PRIu64, job->seed);
        return dr_fail_field(err, DR_EINVAL, "seed", got,
                             "seed + batch_size - 1 to be at most 2^64-1", NULL);
    }
    while (!given) { /* those of all pictures below 2^32 */
        job->seed = dr_rng_entropy();
        given = job->seed <= UINT32_MAX - more;
    }
    enum dr_rng_kind named = strcmp(request_text(q, FIELD_rng), "cuda") ? DR_RNG_CPU : DR_RNG_CUDA;
    bool has = request_has(q, FIELD_rng);
    job->rng = has ? named : job->preset->noise;
    job->step_rng = has ? named : job->preset->step_noise;
    job->tree_rng = has ? named : job->preset->tree_noise;
    job->ensd = request_int(q, FIELD_ensd);
    return take_drawn(q, job, err);
}

/* A copy in the job's arena; NULL when the field is unset. */
static int take_text(const struct request *q, enum field_id id, struct job *job,
                     const char **ret_text, struct dr_error *err)
{
    *ret_text = NULL;
    if (!request_has(q, id))
        return 0;
    *ret_text = arena_strdup(&job->arena, request_text(q, id));
    return *ret_text ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the prompts");
}

static int fail_missing_prompt(struct dr_error *err)
{
    int r = dr_fail_field(err, DR_EINVAL, "prompt", "nothing", "a text (may be empty)", NULL);
    if (err)
        snprintf(err->text, sizeof err->text, "prompt is missing");
    return r;
}

static int take_prompts(const struct request *q, const struct pipeline *p, struct job *job,
                        struct dr_error *err)
{
    struct prompt_request *m = &job->prompt;
    static const enum field_id second[] = { FIELD_prompt_2, FIELD_negative_prompt_2 };
    int r = 0;
    if (!request_has(q, FIELD_prompt))
        return fail_missing_prompt(err);
    for (int i = 0; !r && i < 2 && checkpoint_family(p->checkpoint)->n_encoders < 2; i++)
        if (request_has(q, second[i]))
            r = refuse_given(q, second[i], request_text(q, second[i]),
                             "it has one text encoder, which reads the first prompt", err);
    if (!r)
        r = take_text(q, FIELD_prompt, job, &m->prompt, err);
    if (!r)
        r = take_text(q, FIELD_prompt_2, job, &m->prompt_2, err);
    if (!r)
        r = take_text(q, FIELD_negative_prompt, job, &m->negative, err);
    if (!r)
        r = take_text(q, FIELD_negative_prompt_2, job, &m->negative_2, err);
    return r;
}

/* The prompts' language: a preset without one of its own has plain words. */
static int take_language(const struct request *q, const struct pipeline *p, struct job *job,
                         struct dr_error *err)
{
    (void)p;
    const char *name = request_has(q, FIELD_prompt_syntax) ? request_text(q, FIELD_prompt_syntax)
                                                           : job->preset->language;
    const char *emphasis = request_has(q, FIELD_emphasis) ? request_text(q, FIELD_emphasis) : NULL;
    return job_prompts_language(job, name, emphasis, err);
}

static int take_layers(const struct request *q, const struct pipeline *p, struct job *job,
                       struct dr_error *err)
{
    struct prompt_request *m = &job->prompt;
    int r = 0;
    bool zeros = checkpoint_force_zeros(p->checkpoint);
    m->zero_negative = zeros && !job->preset->encodes_none;
    if (zeros && job->preset->empty_is_none && m->negative && !*m->negative)
        m->negative = NULL;
    m->skip_both = job->preset->skip_both;
    m->clip_skip = request_has(q, FIELD_clip_skip)
                       ? (int)request_int(q, FIELD_clip_skip)
                       : checkpoint_family(p->checkpoint)->encoders[0].layer;
    int own = checkpoint_family(p->checkpoint)->encoders[0].layer;
    if (zeros && job->preset->no_skip_where_zeros && m->clip_skip != own)
        r = refuse_given(q, FIELD_clip_skip, "another layer than its own",
                         "the program of the preset ignores it with SDXL", err);
    for (int i = 0; !r && i < PROMPT_ENCODERS; i++) {
        const struct clip_arch *a = checkpoint_clip_arch(p->checkpoint, i);
        if (a && m->clip_skip > a->layers) {
            char got[16], expected[64];
            snprintf(got, sizeof got, "%d", m->clip_skip);
            snprintf(expected, sizeof expected,
                     "1 to %" PRId64 ", the layers of this model's encoder", a->layers);
            r = dr_fail_field(err, DR_EINVAL, "clip_skip", got, expected, NULL);
        }
    }
    return r;
}

static int take_schedule(const struct request *q, const struct pipeline *p, struct job *job,
                         struct dr_error *err)
{
    struct sched_request wanted = {
        .spacing = request_has(q, FIELD_spacing) ? request_text(q, FIELD_spacing) : NULL,
        .timesteps = request_has(q, FIELD_timesteps) ? request_text(q, FIELD_timesteps) : NULL,
        .sigmas = request_has(q, FIELD_sigmas) ? request_text(q, FIELD_sigmas) : NULL,
        .eta = request_has(q, FIELD_eta) ? request_real(q, FIELD_eta) : NAN,
        .conventions = &job->preset->sched,
        .usual_sampler = job->preset->sampler,
        .usual_schedule = job->preset->schedule,
    };
    bool listed = wanted.timesteps || wanted.sigmas;
    if (request_has(q, FIELD_steps) || !listed)
        wanted.steps = request_has(q, FIELD_steps) || !job->preset->steps
                           ? (int)request_int(q, FIELD_steps)
                           : job->preset->steps;
    int r = sampler_names(q, &wanted.sampler, &wanted.schedule, err);
    if (!r)
        r = sched_configure(checkpoint_trained(p->checkpoint),
                            checkpoint_scheduler_config(p->checkpoint), &wanted, &job->sched, err);
    if (!r && job->ensd && job->sched.sampler->noise != SCHED_NOISE_NORMAL) {
        char got[32];
        snprintf(got, sizeof got, "%" PRId64, job->ensd);
        r = dr_fail_field(err, DR_EINVAL, "ensd", got, "none",
                          "the sampler draws nothing from a generator in its steps");
    }
    return r;
}

static int take_conventions(const struct request *q, const struct pipeline *p, struct job *job,
                            struct dr_error *err)
{
    (void)p;
    return preset_find(request_text(q, FIELD_preset), &job->preset, err);
}

static int take_stages(const struct request *q, const struct pipeline *p, struct job *job,
                       struct dr_error *err)
{
    (void)p;
    job->stages.load = q->value[FIELD_load_stage].map;
    return take_text(q, FIELD_dump_stages, job, &job->stages.dump, err);
}

/* A wrapped axis is halved exactly by each level of the networks. */
static int check_wrapped(const struct pipeline *p, enum field_id id, int64_t v,
                         struct dr_error *err)
{
    int64_t step = p->latent_factor << (unet_arch(p->unet)->levels - 1);
    char got[32], expected[64], hint[48];
    if (v % step == 0)
        return 0;
    int64_t nearest = v < step ? step : (v + step / 2) / step * step;
    snprintf(got, sizeof got, "%" PRId64, v);
    snprintf(expected, sizeof expected, "with tile a multiple of %" PRId64, step);
    snprintf(hint, sizeof hint, "nearest: %" PRId64, nearest);
    return dr_fail_field(err, DR_EINVAL, field_info(id)->name, got, expected, hint);
}

static int take_wrap(const struct request *q, const struct pipeline *p, struct job *job,
                     struct dr_error *err)
{
    const char *axes = request_text(q, FIELD_tile);
    int r = 0;
    job->wrap = !strcmp(axes, "x")    ? EXEC_WRAP_X
                : !strcmp(axes, "y")  ? EXEC_WRAP_Y
                : !strcmp(axes, "xy") ? EXEC_WRAP_X | EXEC_WRAP_Y
                                      : 0;
    if (job->wrap & EXEC_WRAP_X)
        r = check_wrapped(p, FIELD_width, job->width, err);
    if (!r && job->wrap & EXEC_WRAP_Y)
        r = check_wrapped(p, FIELD_height, job->height, err);
    return r;
}

static int take_tiling(const struct request *q, const struct pipeline *p, struct job *job,
                       struct dr_error *err)
{
    const char *text = request_text(q, FIELD_vae_tiling);
    struct vae_tiling wanted = { .mode = !strcmp(text, "on")    ? VAE_TILING_ON
                                         : !strcmp(text, "off") ? VAE_TILING_OFF
                                                                : VAE_TILING_AUTO };
    if (job->wrap && wanted.mode == VAE_TILING_ON)
        return dr_fail_field(err, DR_EINVAL, "vae_tiling", "on", "off or auto with tile",
                             "each tile would fit to itself");
    if (job->wrap)
        wanted.mode = VAE_TILING_OFF;
    wanted = vae_tiling_effective(wanted, p->vae, job->height / p->latent_factor,
                                  job->width / p->latent_factor);
    job->vae_tiling = wanted.mode == VAE_TILING_ON;
    return 0;
}

static int take_guidance(const struct request *q, const struct pipeline *p, struct job *job,
                         struct dr_error *err)
{
    job->guidance_scale = sampler_guidance_scale(q, job->sched.sampler, job->preset->cfg);
    job->guidance_rescale = request_real(q, FIELD_guidance_rescale);
    int r = guiders_read(q, &job->guiders, err);
    if (!r)
        r = guiders_bind(&job->guiders, p->unet, err);
    struct guidance g = job_guidance(job);
    job->prompt.guidance = guidance_negative(&g);
    return r ? r : guiders_check(&job->guiders, &job->sched, 0, job->prompt.guidance, err);
}

/* The texts of the run, whose length and guidance are settled. */
static int take_script(const struct request *q, const struct pipeline *p, struct job *job,
                       struct dr_error *err)
{
    (void)q;
    (void)p;
    return job_prompts_read(job, err);
}

static int (*const parts[])(const struct request *q, const struct pipeline *p, struct job *job,
                            struct dr_error *err) = {
    take_conventions, take_width,  take_height, take_seed,   take_prompts,
    take_language,    take_layers, take_stages, take_sizes,  take_schedule,
    take_guidance,    take_script, take_wrap,   take_tiling,
};

int sdxl_job(const struct request *q, const struct pipeline *p, struct job *ret,
             struct dr_error *err)
{
    struct job job;
    int r = 0;
    memset(&job, 0, sizeof job);
    dr_tally_init(&job.tally);
    struct dr_tally *before = dr_tally_use(&job.tally);
    arena_init(&job.arena, DR_TAG_JOB, 0, JOB_TEXT_BYTES);
    for (size_t i = 0; !r && i < sizeof parts / sizeof *parts; i++)
        r = parts[i](q, p, &job, err);
    dr_tally_use(before);
    if (r < 0) {
        job_release(&job);
        return r;
    }
    job.precision = precision_name(backend_precision(p->backend));
    *ret = job;
    return 0;
}

void job_release(struct job *job)
{
    if (!job)
        return;
    prompt_release(&job->prompts);
    textual_inversions_release(job->embeddings);
    dr_free(job->embeddings);
    job_loras_close(job->loras);
    job_prompts_release(job);
    job_image_free(job->image);
    job_mask_free(job->mask);
    arena_free(&job->arena);
}
