/* receipt.c - see receipt.h. */
#include "inference/receipt.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/path_text.h"
#include "models/adapters/textual_inversions.h"
#include "conditioning/prompt_language.h"
#include "inference/job_image.h"
#include "inference/job_loras.h"
#include "inference/job_prompts.h"
#include "inference/preset.h"
#include "inference/job_mask.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/scheduler_options.h"
#include "schedulers/schedules.h"

enum { ASSUMED_BYTES = 256 };

/* Would a reader of infotext take the bare value for something else? Space at its ends is lost. */
static bool needs_quotes(const char *value)
{
    size_t n = strlen(value);
    return strpbrk(value, ",:\"\r\n\\") || (n && (value[0] <= ' ' || value[n - 1] <= ' '));
}

/* ", Name: value"; a value that could be misread is written as a JSON string. */
static int pair(struct buf *dst, const char *name, const char *value)
{
    int r = buf_printf(dst, ", %s: ", name);
    if (r < 0 || !needs_quotes(value))
        return r < 0 ? r : buf_puts(dst, value);
    json_t *s = json_string(value);
    char *quoted = s ? json_dumps(s, JSON_ENCODE_ANY) : NULL;
    r = quoted ? buf_puts(dst, quoted) : DR_ENOMEM;
    dr_free(quoted);
    json_decref(s);
    return r;
}

static int pair_number(struct buf *dst, const char *name, double value)
{
    return buf_printf(dst, ", %s: %.9g", name, value);
}

static bool sizes_default(const struct job *job)
{
    const struct prompt_request *p = &job->prompt;
    if (!p->original_width)
        return true; /* the model takes none */
    return p->original_width == job->width && p->original_height == job->height &&
           p->target_width == job->width && p->target_height == job->height && !p->crop_top &&
           !p->crop_left;
}

static int infotext_texts(const struct job *job, struct buf *dst)
{
    int r = buf_printf(dst, "%s\n", job->prompt.prompt);
    if (!r && job->prompt.guidance && job->prompt.negative && *job->prompt.negative)
        r = buf_printf(dst, "Negative prompt: %s\n", job->prompt.negative);
    return r;
}

static bool has_eta(const struct job *job)
{
    return sched_option_row(job->sched.sampler, "eta") >= 0;
}

uint64_t job_picture_seed(const struct job *job, int index)
{
    return job->seed + (job->preset->together ? 0 : (uint64_t)index);
}

/* Whether the sampler has options beside eta, which has a field of its own. */
static bool has_options(const struct job *job)
{
    return sched_option_count(job->sched.sampler) > has_eta(job);
}

/* "r=0.5,s_noise=1" */
static int infotext_options(const struct job *job, struct buf *dst)
{
    const struct sched_option *o = job->sched.sampler->options;
    struct buf text;
    char value[SCHED_OPTION_TEXT];
    buf_init(&text, DR_TAG_JOB, 0);
    int r = 0;
    for (int i = 0; !r && i < sched_option_count(job->sched.sampler); i++)
        if (strcmp(o[i].name, "eta") != 0)
            r = buf_printf(&text, "%s%s=%s", text.len ? "," : "", o[i].name,
                           sched_option_text(&o[i], job->sched.option[i], value));
    if (!r)
        r = pair(dst, "Sampler options", buf_text(&text));
    buf_free(&text);
    return r;
}

/* "style:0.8, shape:1:0.5": names with strengths, the text encoders' where it differs. */
static int infotext_loras(const struct job *job, struct buf *dst)
{
    struct buf text;
    buf_init(&text, DR_TAG_JOB, 0);
    int r = 0;
    for (int i = 0; !r && i < job_loras_count(job); i++) {
        const struct job_lora *l = &job->loras->lora[i];
        r = buf_printf(&text, "%s%s:%.9g", i ? ", " : "", l->name, l->strength);
        if (!r && l->text_strength != l->strength)
            r = buf_printf(&text, ":%.9g", l->text_strength);
    }
    if (!r && text.len)
        r = pair(dst, "LoRA", buf_text(&text));
    buf_free(&text);
    return r;
}

static const char *list_name(const struct sched_config *s)
{
    return s->listed == SCHED_LISTED_SIGMAS ? "sigmas" : "timesteps";
}

/* Whether the schedule was given an option. */
static bool has_schedule_options(const struct sched_config *s)
{
    bool has = false;
    for (int i = 0; i < schedule_option_count(s->schedule); i++)
        has |= s->schedule_option[i] != s->schedule->options[i].dflt;
    return has;
}

/* The title; with options the text of the request's field. */
static int infotext_schedule(const struct sched_config *s, struct buf *dst)
{
    struct buf text;
    if (!has_schedule_options(s))
        return buf_printf(dst, ", Schedule type: %s", schedule_title(s->schedule));
    buf_init(&text, DR_TAG_JOB, 0);
    int r = buf_puts(&text, s->schedule->name);
    for (int i = 0; !r && i < schedule_option_count(s->schedule); i++)
        r = buf_printf(&text, ",%s=%.9g", s->schedule->options[i].name, s->schedule_option[i]);
    if (!r)
        r = pair(dst, "Schedule type", buf_text(&text));
    buf_free(&text);
    return r;
}

/* ", Timesteps: "999,749"", or the schedule's name. */
static int infotext_levels(const struct sched_config *s, struct buf *dst)
{
    struct buf text;
    if (!s->listed)
        return infotext_schedule(s, dst);
    buf_init(&text, DR_TAG_JOB, 0);
    int r = 0;
    for (int i = 0; !r && i < s->steps; i++)
        r = buf_printf(&text, "%s%.9g", i ? "," : "", (double)s->level[i]);
    if (!r)
        r = pair(dst, s->listed == SCHED_LISTED_SIGMAS ? "Sigmas" : "Timesteps", buf_text(&text));
    buf_free(&text);
    return r;
}

/* "sea-style: 0123456789, <cat>: 0123456789": words with digests. */
static int infotext_embeddings(const struct job *job, struct buf *dst)
{
    struct buf text;
    buf_init(&text, DR_TAG_JOB, 0);
    int r = 0;
    for (int i = 0; !r && job->embeddings && i < job->embeddings->n; i++) {
        const struct textual_inversion *t = &job->embeddings->item[i];
        r = buf_printf(&text, "%s%s: %.10s", i ? ", " : "", t->name[0], t->file.hex);
    }
    if (!r && text.len)
        r = pair(dst, "TI hashes", buf_text(&text));
    buf_free(&text);
    return r;
}

static int infotext_guiders(const struct job *job, struct buf *dst)
{
    struct buf text;
    buf_init(&text, DR_TAG_JOB, 0);
    int r = guiders_text(&job->guiders, &text);
    if (!r && text.len)
        r = pair(dst, "Guidance", buf_text(&text));
    buf_free(&text);
    return r;
}

static const char *axes(const struct job *job)
{
    return job->wrap == EXEC_WRAP_X ? "x" : job->wrap == EXEC_WRAP_Y ? "y" : "xy";
}

static int infotext_extras(const struct job *job, struct buf *dst)
{
    const struct prompt_request *p = &job->prompt;
    int r = 0;
    if (p->prompt_2 && *p->prompt_2)
        r = pair(dst, "Prompt 2", p->prompt_2);
    if (!r && p->guidance && p->negative_2 && *p->negative_2)
        r = pair(dst, "Negative prompt 2", p->negative_2);
    if (!r && p->language != &prompt_plain)
        r = pair(dst, "Prompt syntax", p->language->name);
    if (!r && p->emphasis != PROMPT_EMPHASIS_ORIGINAL)
        r = pair(dst, "Emphasis", p->emphasis == PROMPT_EMPHASIS_IGNORE ? "Ignore" : "No norm");
    if (!r && job->image)
        r = pair_number(dst, "Denoising strength", job->image->strength);
    if (!r && job->guidance_rescale > 0)
        r = pair_number(dst, "CFG Rescale", job->guidance_rescale);
    if (!r)
        r = infotext_guiders(job, dst);
    if (!r && job->wrap)
        r = pair(dst, "Tile", axes(job));
    if (!r && has_eta(job))
        r = pair_number(dst, "Eta", sched_eta(&job->sched));
    if (!r && has_options(job))
        r = infotext_options(job, dst);
    if (!r)
        r = infotext_loras(job, dst);
    if (!r)
        r = infotext_embeddings(job, dst);
    if (!r && !sizes_default(job))
        r = buf_printf(dst,
                       ", Original size: %" PRId64 "x%" PRId64 ", Target size: %" PRId64 "x%" PRId64
                       ", Crop: \"%" PRId64 ",%" PRId64 "\"",
                       p->original_width, p->original_height, p->target_width, p->target_height,
                       p->crop_top, p->crop_left);
    return r;
}

/* In infotext. */
static const char *const part_names[COMPONENT_COUNT] = {
    [COMPONENT_UNET] = "UNet",
    [COMPONENT_TEXT_ENCODER] = "Text encoder",
    [COMPONENT_TEXT_ENCODER_2] = "Text encoder 2",
    [COMPONENT_VAE] = "VAE",
};

int receipt_infotext(const struct job *job, const struct receipt_facts *f, int index,
                     struct buf *dst)
{
    int r = infotext_texts(job, dst);
    if (!r)
        r = buf_printf(dst, "Steps: %d, Sampler: %s", job->sched.steps,
                       sched_title(job->sched.sampler));
    if (!r)
        r = infotext_levels(&job->sched, dst);
    if (!r)
        r = pair_number(dst, "CFG scale", job->guidance_scale);
    if (!r)
        r = buf_printf(dst, ", Seed: %" PRIu64 ", Size: %" PRId64 "x%" PRId64,
                       job_picture_seed(job, index), job->width, job->height);
    if (!r && *f->digest)
        r = buf_printf(dst, ", Model hash: %.10s", f->digest);
    if (!r)
        r = pair(dst, "Model", f->model);
    for (int i = 0; !r && i < COMPONENT_COUNT; i++)
        if (f->part[i])
            r = pair(dst, part_names[i], f->part[i]);
    if (!r)
        r = buf_printf(dst, ", Clip skip: %d, RNG: %s", job->prompt.clip_skip,
                       job->rng == DR_RNG_CPU ? "CPU" : "GPU");
    if (!r && job->ensd)
        r = buf_printf(dst, ", ENSD: %" PRId64, job->ensd);
    if (!r)
        r = infotext_extras(job, dst);
    return r ? r : buf_printf(dst, ", Version: darkroom %s", f->version);
}

void receipt_assumed(const struct sched_config *sched, char *dst, size_t n)
{
    const char *key;
    size_t used = 0;
    *dst = '\0';
    for (int i = 0; (key = sched_assumed(sched, i)) && used < n; i++)
        if (*key)
            used += (size_t)snprintf(dst + used, n - used, "%s%s", used ? ", " : "", key);
}

static json_t *text_or_null(const char *s)
{
    return s ? json_string(s) : json_null();
}

static int add_prompts(json_t *o, const struct job *job)
{
    const struct prompt_request *p = &job->prompt;
    int r = jx_set(o, "prompt", json_string(p->prompt));
    if (!r)
        r = jx_set(o, "prompt_2", text_or_null(p->prompt_2));
    if (!r)
        r = jx_set(o, "negative_prompt", text_or_null(p->negative));
    if (!r)
        r = jx_set(o, "negative_prompt_2", text_or_null(p->negative_2));
    if (!r)
        r = jx_set(o, "prompt_syntax", json_string(p->language->name));
    if (!r && p->language->weighing == PROMPT_WEIGHS_SCALE)
        r = jx_set(o, "emphasis", json_string(job_emphasis_name(job)));
    if (!r)
        r = jx_set(o, "clip_skip", json_integer(p->clip_skip));
    if (!r && !p->original_width) /* the model takes no sizes */
        return 0;
    if (!r)
        r = jx_set(o, "original_size",
                   json_sprintf("%" PRId64 "x%" PRId64, p->original_width, p->original_height));
    if (!r)
        r = jx_set(o, "target_size",
                   json_sprintf("%" PRId64 "x%" PRId64, p->target_width, p->target_height));
    return r ? r
             : jx_set(o, "crop", json_sprintf("%" PRId64 ",%" PRId64, p->crop_top, p->crop_left));
}

/* The sampler's name, or an object with what it can be given beside eta. NULL: out of memory. */
static json_t *sampler_json(const struct job *job)
{
    const struct sched_info *info = job->sched.sampler;
    if (!has_options(job))
        return json_string(info->name);
    json_t *o = json_object();
    int r = jx_set(o, "name", json_string(info->name));
    for (int i = 0; !r && i < sched_option_count(info); i++) {
        double v = job->sched.option[i];
        const struct sched_option *option = &info->options[i];
        if (strcmp(option->name, "eta") != 0)
            r = jx_set(o, option->name,
                       option->names   ? json_string(option->names[(int)v])
                       : option->whole ? json_integer((json_int_t)v)
                                       : json_real(v));
    }
    if (r < 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* Each LoRA by its name and digest. */
static json_t *lora_json(const struct job_lora *l)
{
    json_t *o = json_object();
    int r = jx_set(o, "path", json_string(l->name));
    if (!r)
        r = jx_set(o, "strength", json_real(l->strength));
    if (!r)
        r = jx_set(o, "text_strength", json_real(l->text_strength));
    if (!r && *l->blocks)
        r = jx_set(o, "blocks", json_string(l->blocks));
    if (!r)
        r = jx_set(o, "start", json_real(l->start));
    if (!r)
        r = jx_set(o, "end", json_real(l->end));
    if (!r)
        r = jx_set(o, "sha256", json_string(lora_file_digest(l->file)));
    if (!r)
        return o;
    json_decref(o);
    return NULL;
}

/* Each embedding by its file's name, its word where the request named it, and its digest. */
static json_t *embedding_json(const struct textual_inversion *t)
{
    json_t *o = json_object();
    int r = jx_set(o, "path", path_text_json(dr_path_base(t->file.path)));
    if (!r && t->named)
        r = jx_set(o, "token", json_string(t->name[0]));
    if (!r)
        r = jx_set(o, "sha256", json_string(t->file.hex));
    if (!r)
        return o;
    json_decref(o);
    return NULL;
}

static int add_embeddings(json_t *o, const struct job *job)
{
    int r = 0;
    if (!job->embeddings)
        return 0;
    json_t *list = json_array();
    for (int i = 0; !r && i < job->embeddings->n; i++)
        r = jx_add(list, embedding_json(&job->embeddings->item[i]));
    if (!r)
        return jx_set(o, "embeddings", list);
    json_decref(list);
    return r;
}

static int add_image(json_t *o, const struct job_image *m)
{
    if (!m)
        return 0;
    int r = m->path ? jx_set(o, "image", path_text_json(m->path)) : 0;
    if (!r)
        r = jx_set(o, "image_sha256", json_string(m->sha256));
    if (!r)
        r = jx_set(o, "strength", json_real(m->strength));
    return r ? r : jx_set(o, "resize_mode", json_string(job_image_fit_name(m->fit)));
}

static json_t *mask_json(const struct job_mask *m)
{
    json_t *o = json_object();
    const char *path = m->path ? m->path : "in-the-request"; /* the main key must be there */
    int r = jx_set(o, "path", path_text_json(path));
    if (!r && m->blur > 0)
        r = jx_set(o, "blur", json_real(m->blur));
    if (!r && m->grow)
        r = jx_set(o, "grow", json_integer(m->grow));
    if (!r && m->invert)
        r = jx_set(o, "invert", json_true());
    if (!r)
        r = jx_set(o, "fill", json_string(job_mask_fill_name(m->fill)));
    if (!r && m->only >= 0)
        r = jx_set(o, "only", json_integer(m->only));
    if (!r && m->soft)
        r = jx_set(o, "soft", json_true());
    if (!r && !m->paste_back)
        r = jx_set(o, "paste_back", json_false());
    if (!r)
        r = jx_set(o, "sha256", json_string(m->sha256));
    if (!r)
        return o;
    json_decref(o);
    return NULL;
}

static int add_loras(json_t *o, const struct job *job)
{
    json_t *list = json_array();
    int n = job_loras_count(job), r = list ? 0 : DR_ENOMEM;
    for (int i = 0; !r && i < n; i++)
        r = jx_add(list, lora_json(&job->loras->lora[i]));
    if (!r && n)
        r = jx_set(o, "loras", json_incref(list));
    json_decref(list);
    return r;
}

/* The schedule's name, or an object if it was given an option. NULL: out of memory. */
static json_t *schedule_json(const struct sched_config *s)
{
    if (!has_schedule_options(s))
        return json_string(s->schedule->name);
    json_t *o = json_object();
    int r = jx_set(o, "name", json_string(s->schedule->name));
    for (int i = 0; !r && i < schedule_option_count(s->schedule); i++) {
        const struct sched_option *option = &s->schedule->options[i];
        double v = s->schedule_option[i];
        r = jx_set(o, option->name, option->whole ? json_integer((json_int_t)v) : json_real(v));
    }
    if (!r)
        return o;
    json_decref(o);
    return NULL;
}

/* The schedule, or the list. */
static int add_levels(json_t *o, const struct sched_config *s)
{
    if (!s->listed)
        return jx_set(o, "schedule", schedule_json(s));
    json_t *list = json_array();
    int r = 0;
    for (int i = 0; !r && i < s->steps; i++)
        r = jx_add(list, json_real((double)s->level[i]));
    if (r < 0) {
        json_decref(list);
        return r;
    }
    return jx_set(o, list_name(s), list);
}

/* Seed and generators; a mixture of them is the preset's and not named. */
static int add_noise(json_t *o, const struct job *job, int index)
{
    bool together = job->preset->together && job->drawn > 1;
    bool one = job->rng == job->step_rng && job->rng == job->tree_rng;
    int r = jx_set(o, "seed", jx_uint(job_picture_seed(job, index)));
    if (!r && one)
        r = jx_set(o, "rng", json_string(job->rng == DR_RNG_CPU ? "cpu" : "cuda"));
    if (!r && job->ensd)
        r = jx_set(o, "ensd", json_integer(job->ensd));
    if (!r && together)
        r = jx_set(o, "drawn_together", json_integer(job->drawn));
    if (!r && together)
        r = jx_set(o, "drawn_index", json_integer(job->first_drawn + index));
    return r;
}

static int add_sampling(json_t *o, const struct job *job, int index)
{
    const struct sched_config *s = &job->sched;
    int r = jx_set(o, "width", json_integer(job->width));
    if (!r)
        r = jx_set(o, "height", json_integer(job->height));
    if (!r)
        r = jx_set(o, "steps", json_integer(s->steps));
    if (!r)
        r = jx_set(o, "guidance_scale", json_real(job->guidance_scale));
    if (!r)
        r = jx_set(o, "guidance_rescale", json_real(job->guidance_rescale));
    if (!r && job->guiders.n)
        r = jx_set(o, "guidance", guiders_json(&job->guiders));
    if (!r)
        r = add_noise(o, job, index);
    if (!r)
        r = jx_set(o, "sampler", sampler_json(job));
    if (!r)
        r = add_levels(o, s);
    if (!r && schedule_is_spaced(s))
        r = jx_set(o, "spacing", json_string(sched_spacing_name(s->spacing)));
    if (!r && has_eta(job))
        r = jx_set(o, "eta", json_real(sched_eta(s)));
    if (!r)
        r = jx_set(o, "prediction", json_string(sched_prediction_name(s->prediction)));
    char assumed[ASSUMED_BYTES];
    receipt_assumed(s, assumed, sizeof assumed);
    return r || !*assumed ? r : jx_set(o, "scheduler_defaults", json_string(assumed));
}

/* Who decided what the model predicts; zero terminal SNR where the request did. */
static int add_formulation(json_t *o, const struct job *job, const struct receipt_facts *f)
{
    bool zero = job->sched.rescale_betas_zero_snr || job->sched.zero_snr_ignored;
    int r = 0;
    if (f->prediction_from && *f->prediction_from)
        r = jx_set(o, "prediction_from", json_string(f->prediction_from));
    if (!r && f->zsnr_from && !strcmp(f->zsnr_from, "the request"))
        r = jx_set(o, "zsnr", json_boolean(zero));
    return r;
}

static int add_facts(json_t *o, const struct job *job, const struct receipt_facts *f)
{
    int r = jx_set(o, "preset", json_string(job->preset->name));
    if (!r)
        r = add_formulation(o, job, f);
    if (!r)
        r = jx_set(o, "precision", json_string(job->precision));
    if (!r)
        r = jx_set(o, "vae_tiling", json_string(job->vae_tiling ? "on" : "off"));
    if (!r && job->wrap)
        r = jx_set(o, "tile", json_string(axes(job)));
    if (!r)
        r = jx_set(o, "model", json_string(f->model));
    for (int i = 0; !r && i < COMPONENT_COUNT; i++)
        if (f->part[i])
            r = jx_set(o, component_name((enum component)i), json_string(f->part[i]));
    if (!r && *f->digest)
        r = jx_set(o, "model_sha256", json_string(f->digest));
    if (!r)
        r = jx_set(o, "kernels", json_string(f->kernel_set));
    if (!r)
        r = jx_set(o, "layout", json_integer(f->layout));
    return r ? r : jx_set(o, "version", json_string(f->version));
}

json_t *receipt_json(const struct job *job, const struct receipt_facts *f, int index)
{
    json_t *o = json_object();
    int r = add_prompts(o, job);
    if (!r)
        r = add_sampling(o, job, index);
    if (!r)
        r = add_image(o, job->image);
    if (!r && job->mask)
        r = jx_set(o, "mask", mask_json(job->mask));
    if (!r)
        r = add_loras(o, job);
    if (!r)
        r = add_embeddings(o, job);
    if (!r)
        r = add_facts(o, job, f);
    if (r < 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}
