/* scheduler_manager.c - see scheduler_manager.h. */
#include "schedulers/scheduler_manager.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/nearest.h"
#include "base/words.h"
#include "schedulers/edm.h"
#include "schedulers/names.h"
#include "schedulers/scheduler_impl.h"
#include "schedulers/scheduler_keys.h"
#include "schedulers/scheduler_lists.h"
#include "schedulers/scheduler_options.h"

static const char FILE_NAME[] = SCHED_FILE_NAME;

/* Of the classes that have no defaults of their own in their descriptor. */
static const struct sched_defaults plain_defaults = {
    .spacing = SCHED_LINSPACE,
    .betas = SCHED_LINEAR,
    .beta_start = 0.0001,
    .beta_end = 0.02,
};

/* Keys whose values are assumed when a sampler of another class than the file's finds them unsaid.
 */
enum assumed {
    ASSUMED_SPACING,
    ASSUMED_OFFSET,
    ASSUMED_BETAS,
    ASSUMED_BETA_START,
    ASSUMED_BETA_END,
    ASSUMED_TRAIN_STEPS,
    ASSUMED_PREDICTION,
    ASSUMED_ALPHA_TO_ONE,
    ASSUMED_CLIP,
    ASSUMED_COUNT
};

static const char *const assumed_keys[ASSUMED_COUNT] = {
    [ASSUMED_SPACING] = "timestep_spacing",   [ASSUMED_OFFSET] = "steps_offset",
    [ASSUMED_BETAS] = "beta_schedule",        [ASSUMED_BETA_START] = "beta_start",
    [ASSUMED_BETA_END] = "beta_end",          [ASSUMED_TRAIN_STEPS] = "num_train_timesteps",
    [ASSUMED_PREDICTION] = "prediction_type", [ASSUMED_ALPHA_TO_ONE] = "set_alpha_to_one",
    [ASSUMED_CLIP] = "clip_sample",
};

static int read_names(const json_t *file, struct sched_config *c, struct dr_error *err)
{
    const char *spacings[SCHED_SPACING_COUNT], *predictions[SCHED_EDM];
    const char *betas[SCHED_BETAS_COUNT];
    for (int i = 0; i < SCHED_SPACING_COUNT; i++)
        spacings[i] = sched_spacing_name((enum sched_spacing)i);
    for (int i = 0; i < SCHED_EDM; i++)
        predictions[i] = sched_prediction_name((enum sched_prediction)i);
    for (int i = 0; i < SCHED_BETAS_COUNT; i++)
        betas[i] = sched_betas_name((enum sched_betas)i);
    int spacing = (int)c->spacing, prediction = (int)c->prediction, kind = (int)c->betas;
    int r = sched_key_name(file, "timestep_spacing", spacings, SCHED_SPACING_COUNT, &spacing, err);
    if (!r)
        r = sched_key_name(file, "prediction_type", predictions, SCHED_EDM, &prediction, err);
    if (!r)
        r = sched_key_name(file, "beta_schedule", betas, SCHED_BETAS_COUNT, &kind, err);
    c->spacing = (enum sched_spacing)spacing;
    c->prediction = (enum sched_prediction)prediction;
    c->betas = (enum sched_betas)kind;
    return r;
}

static int read_numbers(const json_t *file, struct sched_config *c, struct dr_error *err)
{
    int64_t train = c->train_steps, offset = c->steps_offset;
    int r = jx_opt_int(file, FILE_NAME, "num_train_timesteps", 2, SCHED_MAX_TRAIN_STEPS, &train,
                       err);
    if (!r)
        r = jx_opt_int(file, FILE_NAME, "steps_offset", 0, SCHED_MAX_TRAIN_STEPS, &offset, err);
    if (!r)
        r = jx_opt_number(file, FILE_NAME, "beta_start", &c->beta_start, err);
    if (!r)
        r = jx_opt_number(file, FILE_NAME, "beta_end", &c->beta_end, err);
    if (!r)
        r = jx_opt_bool(file, FILE_NAME, "set_alpha_to_one", &c->set_alpha_to_one, err);
    if (!r)
        r = jx_opt_bool(file, FILE_NAME, "rescale_betas_zero_snr", &c->rescale_betas_zero_snr, err);
    c->zero_snr_ignored = c->rescale_betas_zero_snr && !c->sampler->zero_snr;
    c->rescale_betas_zero_snr &= c->sampler->zero_snr;
    c->train_steps = (int)train;
    c->steps_offset = (int)offset;
    if (!r && !(c->beta_start > 0 && c->beta_start <= c->beta_end && c->beta_end < 1)) {
        char got[80];
        snprintf(got, sizeof got, "%.9g, %.9g", c->beta_start, c->beta_end);
        r = sched_key_error(DR_EINVAL, "beta_start, beta_end", got,
                            "0 < beta_start <= beta_end < 1", NULL, err);
    }
    return r;
}

/* clip_sample, of the DDIM rule; `clip` is the default. */
static int read_clip(const json_t *file, bool clip, struct sched_config *c, struct dr_error *err)
{
    double range = 1;
    int r = jx_opt_bool(file, FILE_NAME, "clip_sample", &clip, err);
    if (!r)
        r = jx_opt_number(file, FILE_NAME, "clip_sample_range", &range, err);
    if (!r && clip && !(range > 0 && isfinite(range))) {
        char got[32];
        snprintf(got, sizeof got, "%.9g", range);
        r = sched_key_error(DR_EINVAL, "clip_sample_range", got, "a number above 0", NULL, err);
    }
    c->clip_range = clip ? range : 0;
    return r;
}

static int read_schedule(const json_t *file, struct sched_config *c, struct dr_error *err)
{
    static const struct {
        const char *key;
        const struct schedule_info *schedule;
    } flags[] = { { "use_karras_sigmas", &schedule_karras },
                  { "use_exponential_sigmas", &schedule_exponential },
                  { "use_beta_sigmas", &schedule_beta } };
    const char *said = NULL;
    int r = 0;
    for (size_t i = 0; !r && i < sizeof flags / sizeof *flags; i++) {
        bool on = false;
        r = jx_opt_bool(file, FILE_NAME, flags[i].key, &on, err);
        if (!r && on && said) {
            char keys[96];
            snprintf(keys, sizeof keys, "%s, %s", said, flags[i].key);
            r = sched_key_error(DR_EINVAL, keys, "both true", "at most one of them", NULL, err);
        }
        said = on ? flags[i].key : said;
        c->schedule = on ? flags[i].schedule : c->schedule;
    }
    return r;
}

/* By whose class a file is read for a sampler: its own; Euler's where diffusers has none. */
static const struct sched_info *reads_as(const struct sched_info *sampler)
{
    return sampler->diffusers ? sampler : &sched_euler;
}

/* Everything but the class, for the sampler in *c. */
static int read_file(const json_t *file, const struct sched_defaults *defaults,
                     struct sched_config *c, struct dr_error *err)
{
    static const struct sched_fixed_key dpm[] = {
        { "solver_order", "2" },
        { "thresholding", "false" },
        { "final_sigmas_type", "zero" },
        { NULL, NULL },
    };
    const struct sched_info *as = reads_as(c->sampler);
    int r = as->rule == SCHED_RULE_DPM ? sched_keys_fixed(file, dpm, err) : 0;
    if (!r && as->fixed)
        r = sched_keys_fixed(file, as->fixed, err);
    if (!r)
        r = read_names(file, c, err);
    if (!r)
        r = read_numbers(file, c, err);
    if (!r && c->sampler->rule == SCHED_RULE_DDIM)
        r = read_clip(file, defaults && defaults->clip_sample, c, err);
    if (!r && as->sigma_flags)
        r = read_schedule(file, c, err);
    if (!r && c->sampler->no_sample && c->prediction == SCHED_SAMPLE)
        r = sched_key_error(DR_EUNSUPPORTED, "prediction_type", "sample", "epsilon or v_prediction",
                            c->sampler->name, err);
    return r;
}

/* ---- the class ---- */

/* Parts of names of classes whose models are of another formulation (flow matching, continuous or
 * preconditioned sigmas, discrete tokens): such a model is drawn wrongly by any sampler here. */
static const char *const foreign_classes[] = {
    "Flow",       "flow",      "Rectified", "RFScheduler",  "EDM",          "KarrasVe",
    "ScoreSde",   "CosineDPM", "SCM",       "CMStochastic", "Consistency",  "CogVideo",
    "Wuerstchen", "UnCLIP",    "IPNDM",     "VQDiffusion",  "Amused",       "BlockRefinement",
    "Helios",     "MiniMax",   "RFD4",      "EntropyBound", "DiscreteDDIM", NULL,
};

/* Classes without a sampler here whose models are of our formulation, prediction_type epsilon
 * unless the file says otherwise. */
static const char *const related_classes[] = {
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "PNDMScheduler",
    "RePaintScheduler",
    "SASolverScheduler",
    NULL,
};

/* Keys that say how the model was trained, whatever class reads them: other values are refused
 * whatever sampler is asked for. */
static const struct sched_fixed_key formulation[] = {
    { "trained_betas", "null" },
    { "timestep_type", "discrete" },
    { "use_flow_sigmas", "false" },
    { "use_dynamic_shifting", "false" },
    { "shift", "1" },
    { "snr_shift_scale", "1" },
    { "sigma_data", "null" },
    { "variance_type", "fixed|fixed_small|fixed_small_log|fixed_large|fixed_large_log" },
    { NULL, NULL },
};

static bool related(const char *class)
{
    for (const char *const *name = related_classes; *name; name++)
        if (!strcmp(class, *name))
            return true;
    return false;
}

/* *ret_own: the sampler of the file's class; NULL: there is none, or the file names no class. */
static int read_class(const json_t *file, struct sched_config *c, const struct sched_info **ret_own,
                      struct dr_error *err)
{
    const char *name = NULL, *stated = NULL;
    char path[64];
    snprintf(path, sizeof path, "%s: _class_name", FILE_NAME);
    *ret_own = NULL;
    int r = jx_opt_string(file, FILE_NAME, "_class_name", &name, err);
    if (r || !name)
        return r;
    *ret_own = edm_sampler(name);
    for (const char *const *part = foreign_classes; *part && !*ret_own; part++)
        if (strstr(name, *part))
            return dr_fail_field(err, DR_EUNSUPPORTED, path, name,
                                 "a class of discrete-time diffusion",
                                 "this model has another formulation, which no sampler here "
                                 "supports");
    if (!*ret_own)
        *ret_own = sched_find(name, NULL);
    if (*ret_own)
        return 0;
    /* what is no text there is refused with the rest of the file */
    (void)jx_opt_string(file, FILE_NAME, "prediction_type", &stated, NULL);
    if (!stated && !related(name))
        return sched_lookup(path, name, ret_own, NULL, err);
    snprintf(c->missing_class, sizeof c->missing_class, "%s", name);
    return 0;
}

static void take_defaults(const struct sched_defaults *d, struct sched_config *c)
{
    c->spacing = d->spacing;
    c->betas = d->betas;
    c->beta_start = d->beta_start;
    c->beta_end = d->beta_end;
    c->prediction = SCHED_EPSILON;
    c->train_steps = 1000;
    c->steps_offset = 0;
    c->set_alpha_to_one = d->set_alpha_to_one;
}

/* Keys that the file leaves open and the sampler reads. */
static void note_assumed(const json_t *file, struct sched_config *c)
{
    for (int i = 0; i < ASSUMED_COUNT; i++) {
        const json_t *v = json_object_get(file, assumed_keys[i]);
        bool of_ddim = i == ASSUMED_ALPHA_TO_ONE || i == ASSUMED_CLIP;
        if ((!v || json_is_null(v)) && (!of_ddim || c->sampler->rule == SCHED_RULE_DDIM))
            c->assumed |= 1u << i;
    }
}

/* The file for the sampler in *c: what it leaves open is the class's own if the class is the
 * file's, else how the model's family was trained. */
static int apply_file(const json_t *file, const struct sched_info *own, struct sched_config *c,
                      struct dr_error *err)
{
    const struct sched_defaults *defaults = NULL;
    bool named = own || c->missing_class[0];
    if (own && own == c->sampler) {
        defaults = own->defaults ? own->defaults : &plain_defaults;
        take_defaults(defaults, c);
    } else if (named) {
        note_assumed(file, c);
    }
    return read_file(file, defaults, c, err);
}

/* How the model's family was trained: everything that a file could leave open. */
static int read_trained(const json_t *trained, struct sched_config *ret, struct dr_error *err)
{
    static const char *const optimised[] = { "sd15", "sdxl" };
    *ret = (struct sched_config){ .sampler = &sched_euler, .schedule = &schedule_normal };
    int r = read_names(trained, ret, err);
    if (!r)
        r = sched_key_name(trained, "optimised_levels", optimised, 2, &ret->optimised_for, err);
    return r ? r : read_numbers(trained, ret, err);
}

/* The file's class, if there is a file; the request's sampler, else the file's, else Euler; and the
 * schedule that the sampler's name may carry. */
static int choose_sampler(const json_t *file, const struct spec *wanted, const char *usual,
                          struct sched_config *c, const struct sched_info **ret_own,
                          const struct schedule_info **ret_schedule, struct dr_error *err)
{
    *ret_schedule = NULL;
    *ret_own = NULL;
    int r = file ? read_class(file, c, ret_own, err) : 0;
    if (!r && file)
        r = edm_is_file(file) ? edm_read(file, c, err) : sched_keys_fixed(file, formulation, err);
    if (!r && wanted)
        return sched_lookup("sampler", wanted->value, &c->sampler, ret_schedule, err);
    if (!r && usual && !sched_is_edm(c))
        return sched_lookup("sampler", usual, &c->sampler, NULL, err);
    if (!r && *ret_own)
        c->sampler = *ret_own;
    return r;
}

static void apply_conventions(const struct sched_request *request, struct sched_config *c)
{
    if (request->conventions)
        c->conventions = *request->conventions;
    if (sched_names_have(c->conventions.by_class, c->sampler))
        c->conventions.levels = SCHED_LEVELS_CLASS;
}

static int apply_schedule(const struct sched_request *request, const struct schedule_info *named,
                          const struct spec *spec, struct sched_config *c, struct dr_error *err)
{
    bool usual = spec->value && !sched_is_edm(c) && !named;
    bool of_file = c->schedule != &schedule_normal && !usual && !named;
    if (named)
        c->schedule = named;
    int r = 0;
    if (request->schedule || usual)
        r = schedule_lookup("schedule", spec->value, &c->schedule, err);
    if (!r && request->schedule && named && named != c->schedule)
        r = dr_fail_field(err, DR_EINVAL, "schedule", spec->value, named->name,
                          "the sampler's name says so");
    if (!r && c->schedule->stands_for)
        c->schedule = schedule_find(c->schedule->stands_for(c->sampler));
    if (!r)
        r = sched_schedule_options_apply(spec, c, err);
    int over = schedule_option_row(c->schedule, SCHEDULE_OVER);
    if (!r && of_file && over >= 0)
        c->schedule_option[over] = SCHEDULE_OVER_LEVELS; /* as the file's class means it */
    return r;
}

/* The schedule's options are text of the request. */
static int read_schedule_spec(const struct sched_request *request,
                              const struct schedule_info *named, struct sched_config *c,
                              struct dr_error *err)
{
    struct spec spec = { .value = request->usual_schedule };
    int r = request->schedule ? spec_parse("schedule", request->schedule, &spec, err) : 0;
    if (r < 0)
        return r;
    r = apply_schedule(request, named, &spec, c, err);
    if (request->schedule)
        spec_release(&spec);
    return r;
}

static int apply_spacing(const struct sched_request *request, struct sched_config *c,
                         struct dr_error *err)
{
    const char *names[SCHED_SPACING_COUNT];
    if (!request->spacing)
        return 0;
    int found = -1;
    for (int i = 0; i < SCHED_SPACING_COUNT; i++) {
        names[i] = sched_spacing_name((enum sched_spacing)i);
        if (sched_same_name(request->spacing, names[i]))
            found = i;
    }
    if (found < 0)
        return dr_fail_choice(err, DR_EINVAL, "spacing", request->spacing, names,
                              SCHED_SPACING_COUNT);
    if (!schedule_is_spaced(c)) {
        char hint[96];
        snprintf(hint, sizeof hint, "schedule %s of %s fixes its own timesteps", c->schedule->name,
                 c->sampler->name);
        return dr_fail_field(err, DR_EINVAL, "spacing", request->spacing, "none", hint);
    }
    c->spacing = (enum sched_spacing)found;
    return 0;
}

static int apply_steps(const struct sched_request *request, struct sched_config *c,
                       struct dr_error *err)
{
    char got[32], expected[64];
    if (c->listed)
        return 0;
    c->steps = request->steps;
    if (c->steps >= 1 && c->steps <= c->train_steps)
        return 0;
    snprintf(got, sizeof got, "%d", c->steps);
    snprintf(expected, sizeof expected, "1 to %d", c->train_steps);
    return dr_fail_field(err, DR_EINVAL, "steps", got, expected, NULL);
}

/* The list in place of a schedule and a number of steps. */
static int apply_list(const struct sched_request *request, const struct schedule_info *named,
                      struct sched_config *c, struct dr_error *err)
{
    const char *typed = request->schedule ? request->schedule : named ? named->name : NULL;
    bool sigmas = request->sigmas != NULL;
    const char *field = sigmas ? "sigmas" : "timesteps";
    if (!request->timesteps && !sigmas)
        return 0;
    if (request->timesteps && sigmas)
        return dr_fail_field(err, DR_EINVAL, field, "a list", "none beside timesteps", NULL);
    if (typed)
        return dr_fail_field(err, DR_EINVAL, "schedule", typed, "none",
                             sigmas ? "sigmas are listed" : "timesteps are listed");
    int r = sched_list_read(field, sigmas ? request->sigmas : request->timesteps, c, err);
    if (r < 0)
        return r;
    c->schedule = &schedule_normal;
    if (request->steps && request->steps != c->steps) {
        char got[16], expected[64];
        snprintf(got, sizeof got, "%d", request->steps);
        snprintf(expected, sizeof expected, "%d, as many as %s has", c->steps, field);
        return dr_fail_field(err, DR_EINVAL, "steps", got, expected, NULL);
    }
    return 0;
}

/* Assumed values that this run does not read, or that the request decides, are none. */
static void drop_unread(const struct sched_request *request, struct sched_config *c)
{
    bool spaced = schedule_is_spaced(c);
    if (request->spacing || !spaced)
        c->assumed &= ~(1u << ASSUMED_SPACING);
    if (!spaced || c->spacing != SCHED_LEADING)
        c->assumed &= ~(1u << ASSUMED_OFFSET);
    if (request->sampler && related(c->missing_class))
        c->missing_class[0] = '\0'; /* the sampler was chosen for a class that is known */
}

/* wanted: the request's sampler, NULL where it names none. */
static int configure(const json_t *trained, const json_t *file, const struct sched_request *request,
                     const struct spec *wanted, struct sched_config *ret_config,
                     struct dr_error *err)
{
    struct sched_config c;
    const struct sched_info *own = NULL;
    const struct schedule_info *named = NULL;
    int r = read_trained(trained, &c, err);
    if (!r)
        r = choose_sampler(file, wanted, request->usual_sampler, &c, &own, &named, err);
    if (!r && file && !sched_is_edm(&c))
        r = apply_file(file, own, &c, err);
    if (!r)
        apply_conventions(request, &c);
    if (!r)
        r = read_schedule_spec(request, named, &c, err);
    if (!r)
        r = apply_list(request, named, &c, err);
    if (!r && sched_is_edm(&c))
        r = edm_check(&c, err);
    if (!r)
        r = apply_spacing(request, &c, err);
    if (!r)
        r = apply_steps(request, &c, err);
    if (!r)
        r = sched_options_apply(wanted, request->eta, &c, err);
    if (!r && own && own == c.sampler)
        r = sched_options_from_file(file, wanted, &c, err);
    if (!r) {
        drop_unread(request, &c);
        *ret_config = c;
    }
    return r;
}

int sched_configure(const json_t *trained, const json_t *file, const struct sched_request *request,
                    struct sched_config *ret_config, struct dr_error *err)
{
    struct spec wanted;
    if (!request->sampler)
        return configure(trained, file, request, NULL, ret_config, err);
    int r = spec_parse("sampler", request->sampler, &wanted, err);
    if (r < 0)
        return r;
    r = configure(trained, file, request, &wanted, ret_config, err);
    spec_release(&wanted);
    return r;
}

const char *sched_assumed(const struct sched_config *c, int i)
{
    return i >= ASSUMED_COUNT ? NULL : c->assumed & 1u << i ? assumed_keys[i] : "";
}

/* With the samplers that could take it. */
static void warn_zero_snr(const struct sched_config *c, char ret_text[SCHED_WARNING])
{
    size_t n;
    const struct sched_info *const *all = sched_all(&n);
    size_t used = (size_t)snprintf(ret_text, SCHED_WARNING,
                                   "%s: rescale_betas_zero_snr has no effect with sampler %s, but "
                                   "the model was trained with it: take one of",
                                   FILE_NAME, c->sampler->name);
    bool first = true;
    for (size_t i = 0; i < n && used < SCHED_WARNING; i++) {
        if (!all[i]->zero_snr)
            continue;
        used += (size_t)snprintf(ret_text + used, SCHED_WARNING - used, "%s %s", first ? "" : ",",
                                 all[i]->name);
        first = false;
    }
}

bool sched_warning(const struct sched_config *c, int i, char ret_text[SCHED_WARNING])
{
    bool class = c->missing_class[0];
    if (class && i == 0)
        snprintf(ret_text, SCHED_WARNING, "%s: class %s has no sampler here; using %s", FILE_NAME,
                 c->missing_class, c->sampler->name);
    else if (c->zero_snr_ignored && i == class)
        warn_zero_snr(c, ret_text);
    else
        return false;
    return true;
}
