/* formulation.c - see formulation.h. */
#include "models/formulation.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "models/edm_marks.h"

static const char SCHEDULER_FILE[] = "scheduler_config.json";

/* What was found so far and who said it; "" where nothing was. */
struct marks {
    const char *path;                      /* of the model, for errors */
    bool asked_prediction, asked_zero_snr; /* the request says it: contradictions do not matter */
    struct checkpoint_formulation said;
    const struct edm_kind *edm; /* NULL: another formulation */
};

static struct marks marks_of(const struct checkpoint *c, const char *path)
{
    return (struct marks){ .path = path,
                           .asked_prediction = c->asked_prediction != NULL,
                           .asked_zero_snr = c->asked_zero_snr != MODEL_SAYS };
}

/* ---- values ---- */

static const char *const spellings[][8] = {
    { "epsilon", "epsilon", "eps", "noise", NULL },
    { "v_prediction", "v_prediction", "v", "v-prediction", "v_pred", "vpred", "velocity", NULL },
    { "sample", "sample", "x0", NULL },
};

const char *model_prediction(const char *value)
{
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        for (const char *const *s = spellings[i] + 1; *s; s++)
            if (!strcasecmp(value, *s))
                return spellings[i][0];
    return NULL;
}

static bool nothing(const char *value)
{
    return !*value || !strcasecmp(value, "none") || !strcasecmp(value, "null");
}

static int contradiction(const struct marks *m, const char *by, const char *value,
                         const char *before_by, const char *before, struct dr_error *err)
{
    return dr_fail(err, DR_EFORMAT,
                   "%s: its marks contradict each other: %s says %s, %s says %s; its "
                   "prediction type is ambiguous (--prediction or --zsnr decides)",
                   m->path, before_by, before, by, value);
}

static int say(const struct marks *m, bool asked, const char *value, const char *by,
               char *ret_value, size_t n_value, char ret_by[96], struct dr_error *err)
{
    if (*ret_value && !asked && strcmp(ret_value, value))
        return contradiction(m, by, value, ret_by, ret_value, err);
    if (!*ret_value) {
        snprintf(ret_value, n_value, "%s", value);
        snprintf(ret_by, 96, "%s", by);
    }
    return 0;
}

static int say_prediction(struct marks *m, const char *value, const char *by, struct dr_error *err)
{
    const char *known = model_prediction(value);
    if (!known)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: %s says '%.60s', expected epsilon, v_prediction or sample: a model of "
                       "another formulation, which Darkroom does not support",
                       m->path, by, value);
    return say(m, m->asked_prediction, known, by, m->said.prediction, sizeof m->said.prediction,
               m->said.prediction_by, err);
}

static int say_zero_snr(struct marks *m, bool zero, const char *by, struct dr_error *err)
{
    return say(m, m->asked_zero_snr, zero ? "true" : "false", by, m->said.zero_snr,
               sizeof m->said.zero_snr, m->said.zero_snr_by, err);
}

/* ---- headers ---- */

enum entry_kind { ENTRY_PREDICTION, ENTRY_V, ENTRY_ZERO_SNR, ENTRY_ARCHITECTURE };

static const struct {
    const char *key;
    enum entry_kind kind;
} entries[] = {
    { "modelspec.prediction_type", ENTRY_PREDICTION },
    { "prediction_type", ENTRY_PREDICTION },
    { "ss_prediction_type", ENTRY_PREDICTION },
    { "ss_v_parameterization", ENTRY_V },
    { "v_parameterization", ENTRY_V },
    { "ss_zero_terminal_snr", ENTRY_ZERO_SNR },
    { "zero_terminal_snr", ENTRY_ZERO_SNR },
    { "rescale_betas_zero_snr", ENTRY_ZERO_SNR },
    { "modelspec.architecture", ENTRY_ARCHITECTURE },
};

static int read_flag(const struct marks *m, const char *by, const char *value, bool *ret,
                     struct dr_error *err)
{
    *ret = !strcasecmp(value, "true") || !strcmp(value, "1");
    if (*ret || !strcasecmp(value, "false") || !strcmp(value, "0"))
        return 0;
    return dr_fail(err, DR_EFORMAT, "%s: %s says '%.60s', expected true or false", m->path, by,
                   value);
}

/* Architectures of the ModelSpec standard that say what the model predicts; and those that share
 * the tensors of SDXL and not its formulation. */
static int read_architecture(struct marks *m, const char *by, const char *value,
                             struct dr_error *err)
{
    if (!strncasecmp(value, "stable-diffusion-v2-768-v", 25))
        return say_prediction(m, "v_prediction", by, err);
    if (!strncasecmp(value, "stable-diffusion-v2-512", 23))
        return say_prediction(m, "epsilon", by, err);
    static const char *const foreign[] = { "cosxl", "edm", "flow", "playground", NULL };
    for (const char *const *word = foreign; *word && !m->edm; word++)
        if (strcasestr(value, *word))
            return dr_fail(err, DR_EUNSUPPORTED,
                           "%s: %s says '%.60s', a model of another formulation, which Darkroom "
                           "does not support",
                           m->path, by, value);
    return 0;
}

static int read_entry(struct marks *m, enum entry_kind kind, const char *by, const char *value,
                      struct dr_error *err)
{
    bool flag;
    int r = 0;
    if (nothing(value))
        return 0;
    if (kind == ENTRY_PREDICTION)
        return say_prediction(m, value, by, err);
    if (kind == ENTRY_ARCHITECTURE)
        return read_architecture(m, by, value, err);
    r = read_flag(m, by, value, &flag, err);
    if (r)
        return r;
    return kind == ENTRY_V ? say_prediction(m, flag ? "v_prediction" : "epsilon", by, err)
                           : say_zero_snr(m, flag, by, err);
}

/* Tensors without meaning of their own, which fine-tunes are marked by. */
static int read_tensors(struct marks *m, const struct st_header *h, struct dr_error *err)
{
    for (size_t i = 0; i < h->n_tensors; i++)
        if (!strncmp(h->tensors[i].name, "edm_", 4) && !edm_is_mark(m->edm, h->tensors[i].name))
            return dr_fail(err, DR_EUNSUPPORTED,
                           "%s: tensor %.80s says that the model is of the EDM formulation, "
                           "expected edm_mean with edm_std, or edm_vpred.sigma_max, in a "
                           "checkpoint of one file",
                           m->path, h->tensors[i].name);
    int r = st_find(h, "v_pred") ? say_prediction(m, "v_prediction", "tensor v_pred", err) : 0;
    if (!r && st_find(h, "ztsnr"))
        r = say_zero_snr(m, true, "tensor ztsnr", err);
    return r;
}

static int read_header(struct marks *m, const struct st_header *h, struct dr_error *err)
{
    int r = read_tensors(m, h, err);
    for (size_t i = 0; !r && i < h->n_metadata; i++)
        for (size_t k = 0; !r && k < sizeof entries / sizeof *entries; k++) {
            char by[96];
            if (strcmp(h->metadata[i].key, entries[k].key))
                continue;
            snprintf(by, sizeof by, "__metadata__ %s", entries[k].key);
            r = read_entry(m, entries[k].kind, by, h->metadata[i].value, err);
        }
    return r;
}

/* ---- what holds ---- */

/* How the family was trained, as an object. */
static int take_trained(struct checkpoint *c, struct dr_error *err)
{
    const char *text = c->family->scheduler;
    return jx_parse(text, strlen(text), NULL, SCHEDULER_FILE, &c->trained, err);
}

/* What models of the family predict unless something says otherwise. */
static const char *usual(const struct checkpoint *c)
{
    return json_string_value(json_object_get(c->trained, "prediction_type"));
}

/* One of two things that a request may ask for; usually: what holds where nothing is said. */
static int settle(struct checkpoint *c, const char *path, const char *usually, const char *asked,
                  char *value, size_t n, char by[96])
{
    int r = 0;
    if (!asked || !strcmp(asked, *value ? value : usually))
        return 0;
    if (*value)
        r = checkpoint_warn(c, "%s: %s says %s: %s, as asked for, is used", path, by, value, asked);
    snprintf(value, n, "%s", asked);
    snprintf(by, 96, "the request");
    c->overridden = true;
    return r;
}

static int put_text(json_t *file, const char *key, const char *value)
{
    return *value ? jx_set(file, key, json_string(value)) : 0;
}

/* What the marks say goes into c->scheduler, unless the request says otherwise. */
static int decide(struct checkpoint *c, struct marks *m, struct dr_error *err)
{
    struct checkpoint_formulation *f = &m->said;
    const char *zero = c->asked_zero_snr == MODEL_SAYS  ? NULL
                       : c->asked_zero_snr == MODEL_HAS ? "true"
                                                        : "false";
    int r = settle(c, m->path, usual(c), c->asked_prediction, f->prediction, sizeof f->prediction,
                   f->prediction_by);
    if (!r)
        r = settle(c, m->path, "false", zero, f->zero_snr, sizeof f->zero_snr, f->zero_snr_by);
    if (!r && !*f->prediction && !strcmp(f->zero_snr, "true"))
        r = checkpoint_warn(c,
                            "%s says zero terminal SNR, but nothing names the prediction type: "
                            "assuming %s",
                            f->zero_snr_by, usual(c));
    if (!r && !c->scheduler && (*f->prediction || *f->zero_snr) && !(c->scheduler = json_object()))
        r = DR_ENOMEM;
    if (!r)
        r = put_text(c->scheduler, "prediction_type", f->prediction);
    if (!r && *f->zero_snr)
        r = jx_set(c->scheduler, "rescale_betas_zero_snr",
                   json_boolean(!strcmp(f->zero_snr, "true")));
    c->formulation = *f;
    if (!*f->prediction)
        snprintf(c->formulation.prediction, sizeof c->formulation.prediction, "%s", usual(c));
    return r ? dr_fail(err, r, "out of memory for the scheduler's configuration") : 0;
}

/* ---- a single file ---- */

enum { YAML_MOST = 1 << 20 };

/* The value of a line "KEY: VALUE" of that key, without quotes and comment; NULL: another line. */
static const char *line_value(const char *line, size_t n, const char *key, char dst[64])
{
    size_t blank = strspn(line, " "), len = strlen(key);
    if (blank + len >= n || strncmp(line + blank, key, len) || line[blank + len] != ':')
        return NULL;
    size_t used = 0;
    for (size_t i = blank + len + 1; i < n && line[i] != '#' && used + 1 < 64; i++)
        if (!strchr(" \t\r\"'", line[i]))
            dst[used++] = line[i];
    dst[used] = '\0';
    return dst;
}

/* NAME.yaml beside NAME.safetensors, in the layout of CompVis's inference configurations, of which
 * one line matters: model.params.parameterization. */
static int read_yaml(const struct checkpoint *c, struct marks *m, struct dr_error *err)
{
    char name[DR_PATH_MAX], by[96], value[64];
    const char *base = dr_path_base(c->path);
    const struct model_file *f;
    snprintf(name, sizeof name, "%.*s.yaml", (int)(strlen(base) - strlen(dr_path_extension(base))),
             base);
    int r = model_files_find(c->model, name, YAML_MOST, &f, err);
    for (const char *p = !r && f && f->text ? f->text : ""; !r && *p;) {
        size_t n = strcspn(p, "\n");
        snprintf(by, sizeof by, "%.60s parameterization", name);
        if (line_value(p, n, "parameterization", value))
            r = say_prediction(m, value, by, err);
        p += n + (p[n] == '\n');
    }
    return r;
}

/* The steps that Stable Diffusion 2.0 base was trained for, by which diffusers' from_single_file
 * recognises it. */
enum { BASE_STEPS = 875000 };

static bool trained_as_base(const struct safetensors *st)
{
    const struct st_tensor *t = st_find(&st->header, "global_step");
    int64_t wide;
    int32_t narrow;
    if (t && t->dtype == DTYPE_I64 && t->end - t->begin == sizeof wide) {
        memcpy(&wide, st_data(st, t), sizeof wide);
        return wide == BASE_STEPS;
    }
    if (!t || t->dtype != DTYPE_I32 || t->end - t->begin != sizeof narrow)
        return false;
    memcpy(&narrow, st_data(st, t), sizeof narrow);
    return narrow == BASE_STEPS;
}

/* Of a family whose models differ in what they predict, the one that this file is of. */
static int choose_member(struct checkpoint *c, struct marks *m, const struct safetensors *st,
                         struct dr_error *err)
{
    const struct family *f = c->family;
    int r = 0;
    if (f->epsilon && trained_as_base(st))
        r = say_prediction(m, "epsilon", "tensor global_step", err);
    const char *said = c->asked_prediction ? c->asked_prediction : m->said.prediction;
    if (!r && f->epsilon && !strcmp(said, "epsilon"))
        c->family = f->epsilon;
    if (!r && f->unsaid && !*said && checkpoint_warn(c, "%s", f->unsaid))
        r = dr_fail(err, DR_ENOMEM, "out of memory for a warning");
    return r;
}

/* Nothing of such a model is the request's to choose. */
static int decide_edm(struct checkpoint *c, struct marks *m, const struct safetensors *st,
                      struct dr_error *err)
{
    const char *mark = m->edm->needs;
    if (c->asked_prediction || c->asked_zero_snr != MODEL_SAYS)
        return dr_fail(err, DR_EINVAL,
                       "%s: %s: expected nothing for a model of the EDM formulation (tensor %s)",
                       m->path, c->asked_prediction ? "--prediction" : "--zsnr", mark);
    int r = say_prediction(m, m->edm->prediction, mark, err);
    if (!r && !strcmp(m->said.zero_snr, "true"))
        r = dr_fail(err, DR_EFORMAT,
                    "%s: its marks contradict each other: %s says zero terminal SNR, tensor %s "
                    "says EDM",
                    m->path, m->said.zero_snr_by, mark);
    c->formulation = m->said;
    return r ? r : edm_scheduler(c, m->edm, st, err);
}

int formulation_of_file(struct checkpoint *c, const struct safetensors *st, struct dr_error *err)
{
    struct marks m = marks_of(c, c->path);
    m.edm = edm_find(&st->header);
    int r = read_header(&m, &st->header, err);
    if (!r)
        r = read_yaml(c, &m, err);
    if (!r)
        r = choose_member(c, &m, st, err);
    if (!r)
        r = take_trained(c, err);
    if (!r && m.edm)
        return decide_edm(c, &m, st, err);
    return r ? r : decide(c, &m, err);
}

/* ---- a folder ---- */

static int stand_in(struct checkpoint *c, const char *class, struct dr_error *err)
{
    c->scheduler = json_deep_copy(c->trained);
    if (!c->scheduler)
        return dr_fail(err, DR_ENOMEM, "out of memory for the scheduler's configuration");
    return checkpoint_warn(c,
                           "there is no scheduler/%s: model_index.json's %.60s is used with the "
                           "values that %s has as a rule",
                           SCHEDULER_FILE, class, c->family->text)
               ? dr_fail(err, DR_ENOMEM, "out of memory for a warning")
               : 0;
}

static int use_class(struct checkpoint *c, const json_t *index, struct dr_error *err)
{
    const json_t *named = json_array_get(json_object_get(index, "scheduler"), 1);
    if (json_is_string(named) && !c->scheduler) {
        int r = stand_in(c, json_string_value(named), err);
        if (r)
            return r;
    }
    const json_t *own = json_object_get(c->scheduler, "_class_name");
    if (!json_is_string(named) || (own && !json_is_string(own)) || (own && json_equal(own, named)))
        return 0;
    int r = 0;
    if (own)
        r = checkpoint_warn(c,
                            "model_index.json names the scheduler %.60s, %s the class %.60s: the "
                            "first is used",
                            json_string_value(named), SCHEDULER_FILE, json_string_value(own));
    if (!r)
        r = jx_set(c->scheduler, "_class_name", json_string(json_string_value(named)));
    return r ? dr_fail(err, r, "out of memory for the scheduler's configuration") : 0;
}

/* What the file says, in the words of the headers. What is no text or flag is judged with the rest
 * of the file. */
static int read_scheduler(struct marks *m, const json_t *file, struct dr_error *err)
{
    const json_t *prediction = json_object_get(file, "prediction_type");
    const json_t *zero = json_object_get(file, "rescale_betas_zero_snr");
    const char *known = json_is_string(prediction) ? model_prediction(json_string_value(prediction))
                                                   : NULL;
    char by[96];
    int r = 0;
    snprintf(by, sizeof by, "%s prediction_type", SCHEDULER_FILE);
    if (known)
        r = say_prediction(m, known, by, err);
    snprintf(by, sizeof by, "%s rescale_betas_zero_snr", SCHEDULER_FILE);
    if (!r && json_is_boolean(zero))
        r = say_zero_snr(m, json_is_true(zero), by, err);
    return r;
}

int formulation_of_folder(struct checkpoint *c, const json_t *index, struct dr_error *err)
{
    struct marks m = marks_of(c, c->path);
    int r = take_trained(c, err);
    if (!r)
        r = use_class(c, index, err);
    if (!r)
        r = read_scheduler(&m, c->scheduler, err);
    for (size_t i = 0; !r && i < c->n_files; i++)
        if (c->file_of[i] == COMPONENT_UNET && !c->own[COMPONENT_UNET])
            r = read_header(&m, &c->files[i]->header, err);
    return r ? r : decide(c, &m, err);
}

/* ---- a UNet of its own ---- */

static int read_part(const struct checkpoint *c, struct marks *m, struct dr_error *err)
{
    static const struct jx_limits limits = { .bytes = 1 << 20, .python = true };
    json_t *file = NULL;
    int r = 0;
    if (c->pipeline[COMPONENT_UNET])
        r = model_files_json(c->own[COMPONENT_UNET], "scheduler/scheduler_config.json", true,
                             &limits, &file, err);
    if (!r && file)
        r = read_scheduler(m, file, err);
    json_decref(file);
    for (size_t i = 0; !r && i < c->n_files; i++)
        if (c->file_of[i] == COMPONENT_UNET)
            r = read_header(m, &c->files[i]->header, err);
    return r;
}

int formulation_of_unet(struct checkpoint *c, struct dr_error *err)
{
    struct marks m = marks_of(c, checkpoint_part_path(c, COMPONENT_UNET));
    const char *own = c->formulation.prediction;
    int r = read_part(c, &m, err);
    if (r)
        return r;
    if (!*m.said.prediction && !*m.said.zero_snr) {
        if (strcmp(own, "epsilon") && !c->asked_prediction)
            r = checkpoint_warn(c, "%s does not say what it predicts: %.40s, as %s does", m.path,
                                own, c->path);
        return r ? dr_fail(err, r, "out of memory for a warning") : 0;
    }
    if (*m.said.prediction && !*m.said.zero_snr && c->scheduler)
        snprintf(m.said.zero_snr, sizeof m.said.zero_snr, "false");
    return decide(c, &m, err);
}
