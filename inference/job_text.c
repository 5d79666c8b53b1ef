/* job_text.c - the text stage of a job: tokens, then embeddings from the encoders, from the cache
 * of earlier prompts or from files. See job_walk.h. */
#include <stdio.h>
#include <string.h>

#include "inference/job_variants.h"
#include "models/adapters/textual_inversions.h"
#include "models/clip_text.h"
#include "schedulers/scheduler_factory.h"

static int refuse_token(const struct job_walk *k, const char *name, int64_t id, int64_t vocab,
                        struct dr_error *err)
{
    char got[40], expected[40];
    snprintf(got, sizeof got, "id %lld", (long long)id);
    snprintf(expected, sizeof expected, "0 to %lld", (long long)vocab - 1);
    return stage_refuse(&k->job->stages, name, got, expected, err);
}

/* The ids of one encoder: replaced from a file, written to one. */
static int exchange_ids(struct job_walk *k, int encoder, const char *name, int64_t *room,
                        struct dr_error *err)
{
    struct prompt_embeds *m = &k->job->prompts;
    int32_t *ids = m->ids[encoder];
    int64_t shape[2] = { m->rows, m->length }, count = m->rows * m->length;
    int64_t vocab = clip_text_arch(k->p->encoders.encoder[encoder].text)->vocab;
    vocab += m->embeddings ? m->embeddings->words[encoder].n : 0;
    bool loaded;
    for (int64_t i = 0; i < count; i++)
        room[i] = ids[i];
    int r = stage_load(&k->job->stages, name, NPY_I64, shape, 2, room, &loaded, err);
    for (int64_t i = 0; !r && loaded && i < count; i++) {
        if (room[i] < 0 || room[i] >= vocab)
            r = refuse_token(k, name, room[i], vocab, err);
        ids[i] = (int32_t)room[i];
    }
    return r ? r : stage_dump(&k->job->stages, name, NPY_I64, shape, 2, room, err);
}

/* A stage that this model's pictures do not have. */
static int refuse_absent(const struct job_walk *k, const char *name, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    return stage_loads(stages, name) ? stage_refuse(stages, name, "an array",
                                                    "nothing: this model has no such stage", err)
                                     : 0;
}

static int exchange_tokens(struct job_walk *k, struct dr_error *err)
{
    static const char *const names[PROMPT_ENCODERS] = { "tokens", "tokens_2" };
    const struct prompt_embeds *m = &k->job->prompts;
    int r = 0;
    int64_t *room = dr_malloc(DR_TAG_JOB, (size_t)(m->rows * m->length) * sizeof *room);
    if (!room)
        return dr_fail(err, DR_ENOMEM, "out of memory for tokens");
    for (int e = 0; !r && e < PROMPT_ENCODERS; e++)
        r = m->ids[e] ? exchange_ids(k, e, names[e], room, err) : refuse_absent(k, names[e], err);
    dr_free(room);
    return r;
}

static bool all_known(const struct prompt_embeds *m)
{
    bool known = true;
    for (int row = 0; row < m->rows; row++)
        known = known && m->known[row];
    return known;
}

static int run_encoders(void *ctx, struct exec *x, struct dr_error *err)
{
    struct job_walk *k = ctx;
    struct prompt_encoders *e = &k->p->encoders;
    struct prompt_embeds *m = &k->job->prompts;
    int r = 0;
    if (all_known(m))
        return 0;
    k->p->text_read |= !k->planning;
    for (int i = 0; !r && i < PROMPT_ENCODERS; i++) {
        if (e->encoder[i].text)
            r = params_acquire(e->encoder[i].text, clip_text_visit, err);
        if (!r && e->encoder[i].text)
            r = variant_open(k, e->encoder[i].text, 0, &m->variant[i], err);
    }
    if (!r)
        r = prompt_encode(e, x, m, err);
    for (int i = 0; i < PROMPT_ENCODERS; i++) {
        variant_close(k, m->variant[i]);
        m->variant[i] = NULL;
    }
    return r;
}

static void keep_prompts(struct job_walk *k)
{
    struct dr_tally *before = dr_tally_use(&k->p->tally); /* they outlive the job */
    prompt_cache_keep(&k->p->prompts, &k->job->prompts);
    dr_tally_use(before);
}

/* Encodes what is not known. Weights that an earlier job left are given back here too. */
static int encode_prompts(struct job_walk *k, struct dr_error *err)
{
    struct prompt_encoders *e = &k->p->encoders;
    bool known = all_known(&k->job->prompts), drop = walk_drops(k, STAGE_TEXT);
    int r = walk_stage(k, STAGE_TEXT, run_encoders, 1, err);
    if (!r && !known && !k->planning)
        keep_prompts(k);
    for (int i = 0; i < PROMPT_ENCODERS; i++)
        if (e->encoder[i].text && (!known || drop))
            params_release(e->encoder[i].text, clip_text_visit, drop);
    k->p->text_read = k->p->text_read && !drop;
    return r;
}

/* Encoder weights that are still resident from an earlier job count, whether this one uses them or
 * not: it is planned as if it did. What planning finds out of the rows is not the run's. */
static int plan_prompts(struct job_walk *k, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    struct prompt_embeds *m = &k->job->prompts;
    bool before[PROMPT_ROWS];
    memcpy(before, m->known, sizeof before);
    if (!stage_loads(stages, "tokens") && !stage_loads(stages, "tokens_2"))
        prompt_cache_find(&k->p->prompts, m);
    k->prompt_bytes = prompt_cache_growth(&k->p->prompts, m);
    bool known = all_known(m);
    int longest = m->rows - 1;
    for (int row = 0; row < m->rows; row++)
        longest = m->chunks[row] > m->chunks[longest] ? row : longest;
    if (known && k->p->text_read)
        m->known[longest] = false;
    int r = encode_prompts(k, err);
    if (known)
        k->plan->stage[STAGE_TEXT].flops = 0;
    memcpy(m->known, before, sizeof before);
    return r;
}

/* Stages that lead to a picture which is taken from a file: no evaluation is run, so none of theirs
 * is read. */
static void warn_unused_stages(const struct job_walk *k)
{
    const struct stages *stages = &k->job->stages;
    char text[SCHED_WARNING], names[SCHED_WARNING / 2] = "";
    size_t used = 0;
    const char *name;
    json_t *file;
    int at;
    if (!stage_loads(stages, "image"))
        return;
    json_object_foreach((json_t *)stages->load, name, file)
    {
        bool denoise = !strcmp(name, "latents_init") || !strcmp(name, "timesteps") ||
                       !strcmp(name, "sigmas") || (stage_is_name(name, &at) && at >= 0);
        if (denoise && used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                                     name);
    }
    snprintf(text, sizeof text, "load_stage: %s: not used, since image takes the picture's place",
             names);
    if (used)
        k->events->warning(k->events->ctx, text);
}

static void emit_warnings(const struct job_walk *k)
{
    const struct prompt_embeds *m = &k->job->prompts;
    char text[SCHED_WARNING];
    if (!k->events || !k->events->warning)
        return;
    for (int i = 0; i < m->n_warnings; i++)
        k->events->warning(k->events->ctx, m->warning[i]);
    warn_unused_stages(k);
    double usual = k->job->sched.sampler->cfg, scale = k->job->guidance_scale;
    if (usual > 0 && scale > 2 * usual) {
        snprintf(text, sizeof text,
                 "guidance_scale %g is high for sampler %s, which is made for about %g", scale,
                 k->job->sched.sampler->name, usual);
        k->events->warning(k->events->ctx, text);
    }
    for (int i = 0; sched_warning(&k->job->sched, i, text); i++)
        k->events->warning(k->events->ctx, text);
}

/* The embeddings: replaced from files, written to files. */
static int exchange_embeddings(struct job_walk *k, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    struct prompt_embeds *m = &k->job->prompts;
    struct {
        const char *name;
        int64_t shape[3];
        int ndim;
        float *data;
    } parts[] = { { "prompt_embeds", { m->rows, m->length, m->width }, 3, m->text },
                  { "pooled", { m->rows, m->pooled_width }, 2, m->pooled },
                  { "time_ids", { m->rows, m->n_time_ids }, 2, m->time_ids } };
    int r = 0;
    for (size_t i = 0; !r && i < sizeof parts / sizeof *parts; i++) {
        bool loaded;
        if (!parts[i].shape[parts[i].ndim - 1]) {
            r = refuse_absent(k, parts[i].name, err);
            continue;
        }
        r = stage_load(stages, parts[i].name, NPY_F32, parts[i].shape, parts[i].ndim, parts[i].data,
                       &loaded, err);
        if (!r)
            r = stage_dump(stages, parts[i].name, NPY_F32, parts[i].shape, parts[i].ndim,
                           parts[i].data, err);
    }
    return r;
}

int walk_text(struct job_walk *k, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    struct prompt_embeds *m = &k->job->prompts;
    int r = m->text ? 0 : prompt_tokenize(&k->p->encoders, &k->job->prompt, m, err);
    if (!r)
        r = variant_text_keys(k, m, err);
    if (r < 0)
        return r;
    if (k->planning) {
        emit_warnings(k);
        return plan_prompts(k, err);
    }
    if ((r = exchange_tokens(k, err)) < 0)
        return r;
    prompt_cache_find(&k->p->prompts, m);
    if (!stage_loads(stages, "prompt_embeds") ||
        (m->pooled_width && !stage_loads(stages, "pooled")))
        r = encode_prompts(k, err);
    if (r < 0)
        return r;
    prompt_weigh(m);
    return exchange_embeddings(k, err);
}
