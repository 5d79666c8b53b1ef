/* formulation.c - see formulation.h. */
#include "models/formulation.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"

static const char SCHEDULER_FILE[] = "scheduler_config.json";

/* What was found so far and who said it; "" where nothing was. */
struct marks {
    const char *path; /* of the model, for errors */
    char prediction[24], prediction_by[96];
    char zero_snr[8], zero_snr_by[96]; /* "true" or "false" */
};

/* ---- values ---- */

static const char *const spellings[][8] = {
    { "epsilon", "epsilon", "eps", "noise", NULL },
    { "v_prediction", "v_prediction", "v", "v-prediction", "v_pred", "vpred", "velocity", NULL },
    { "sample", "sample", "x0", NULL },
};

/* The prediction type of any spelling; NULL: unknown. */
static const char *prediction_of(const char *value)
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
                   "prediction type is ambiguous",
                   m->path, before_by, before, by, value);
}

static int say(const struct marks *m, const char *value, const char *by, char *ret_value,
               size_t n_value, char ret_by[96], struct dr_error *err)
{
    if (*ret_value && strcmp(ret_value, value))
        return contradiction(m, by, value, ret_by, ret_value, err);
    if (!*ret_value) {
        snprintf(ret_value, n_value, "%s", value);
        snprintf(ret_by, 96, "%s", by);
    }
    return 0;
}

static int say_prediction(struct marks *m, const char *value, const char *by, struct dr_error *err)
{
    const char *known = prediction_of(value);
    if (!known)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: %s says '%.60s', expected epsilon, v_prediction or sample: a model of "
                       "another formulation, which Darkroom does not support",
                       m->path, by, value);
    return say(m, known, by, m->prediction, sizeof m->prediction, m->prediction_by, err);
}

static int say_zero_snr(struct marks *m, bool zero, const char *by, struct dr_error *err)
{
    return say(m, zero ? "true" : "false", by, m->zero_snr, sizeof m->zero_snr, m->zero_snr_by,
               err);
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

/* Architectures that share the tensors of SDXL and not its formulation. */
static int check_architecture(const struct marks *m, const char *by, const char *value,
                              struct dr_error *err)
{
    static const char *const foreign[] = { "cosxl", "edm", "flow", "playground", NULL };
    for (const char *const *word = foreign; *word; word++)
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
        return check_architecture(m, by, value, err);
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
        if (!strncmp(h->tensors[i].name, "edm_", 4))
            return dr_fail(err, DR_EUNSUPPORTED,
                           "%s: tensor %.80s says that the model is of the EDM formulation, which "
                           "Darkroom does not support",
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

/* ---- a single file ---- */

static int write_scheduler(struct checkpoint *c, const struct marks *m, struct dr_error *err)
{
    if (!*m->prediction && !*m->zero_snr)
        return 0;
    int r = 0;
    c->scheduler = json_object();
    if (*m->prediction)
        r = jx_set(c->scheduler, "prediction_type", json_string(m->prediction));
    if (!r && *m->zero_snr)
        r = jx_set(c->scheduler, "rescale_betas_zero_snr",
                   json_boolean(!strcmp(m->zero_snr, "true")));
    if (!r && !*m->prediction && !strcmp(m->zero_snr, "true"))
        r = checkpoint_warn(c,
                            "%s says zero terminal SNR, but nothing names the prediction type: "
                            "assuming epsilon",
                            m->zero_snr_by);
    return r ? dr_fail(err, r, "out of memory for the scheduler's configuration") : 0;
}

int formulation_of_file(struct checkpoint *c, const struct safetensors *st, struct dr_error *err)
{
    struct marks m = { .path = c->path };
    int r = read_header(&m, &st->header, err);
    return r ? r : write_scheduler(c, &m, err);
}

/* ---- a folder ---- */

static int stand_in(struct checkpoint *c, const char *class, struct dr_error *err)
{
    int r = jx_parse(c->family->scheduler, strlen(c->family->scheduler), NULL, SCHEDULER_FILE,
                     &c->scheduler, err);
    if (r)
        return r;
    return checkpoint_warn(c,
                           "there is no scheduler/%s: model_index.json's %.60s is used with the "
                           "values of SDXL base",
                           SCHEDULER_FILE, class)
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
    const char *known = json_is_string(prediction) ? prediction_of(json_string_value(prediction))
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
    struct marks m = { .path = c->path };
    int r = use_class(c, index, err);
    if (!r)
        r = read_scheduler(&m, c->scheduler, err);
    for (size_t i = 0; !r && i < c->n_files; i++)
        if (c->file_of[i] == COMPONENT_UNET && !c->own[COMPONENT_UNET])
            r = read_header(&m, &c->files[i]->header, err);
    if (r)
        return r;
    const char *said = json_string_value(json_object_get(c->scheduler, "prediction_type"));
    if (!c->scheduler)
        return write_scheduler(c, &m, err);
    if (*m.prediction && !said)
        r = jx_set(c->scheduler, "prediction_type", json_string(m.prediction));
    if (!r && *m.zero_snr && !json_object_get(c->scheduler, "rescale_betas_zero_snr"))
        r = jx_set(c->scheduler, "rescale_betas_zero_snr",
                   json_boolean(!strcmp(m.zero_snr, "true")));
    return r ? dr_fail(err, r, "out of memory for the scheduler's configuration") : 0;
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
    struct marks m = { .path = checkpoint_part_path(c, COMPONENT_UNET) };
    const char *own = json_string_value(json_object_get(c->scheduler, "prediction_type"));
    int r = read_part(c, &m, err);
    if (r)
        return r;
    if (!*m.prediction && !*m.zero_snr) {
        if (own && strcmp(own, "epsilon"))
            r = checkpoint_warn(c, "%s does not say what it predicts: %.40s, as %s does", m.path,
                                own, c->path);
        return r ? dr_fail(err, r, "out of memory for a warning") : 0;
    }
    if (!c->scheduler)
        return write_scheduler(c, &m, err);
    if (*m.prediction)
        r = jx_set(c->scheduler, "prediction_type", json_string(m.prediction));
    if (!r)
        r = jx_set(c->scheduler, "rescale_betas_zero_snr",
                   json_boolean(!strcmp(m.zero_snr, "true")));
    return r ? dr_fail(err, r, "out of memory for the scheduler's configuration") : 0;
}
