/* guiders.h - what guides a picture beside the plain formula of classifier-free guidance: a table
 * of guiders, and the list of those that a request asks for ("apg,eta=0.5").
 *
 * A guider is a line of guiders.def and a file: a descriptor with options and the few functions it
 * needs, all of them on plain float arrays of one picture. inference/guidance.c calls them; the
 * loop, the samplers and the network know nothing of them.
 */
#ifndef DR_INFERENCE_GUIDERS_GUIDERS_H
#define DR_INFERENCE_GUIDERS_GUIDERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "core/communication/request.h"
#include "models/unet.h"
#include "schedulers/base_scheduler.h"

enum { GUIDERS_MOST = 8, GUIDER_OPTIONS = 8, GUIDER_TEXT = 256, GUIDER_POINTS = 32 };

struct guider_info;

/* One that a picture has, everything decided. */
struct guider {
    const struct guider_info *info;
    double start, end; /* fractions of the steps: it acts from step int(start * steps) until before
                          step int(end * steps), as guiders of diffusers do */
    double option[GUIDER_OPTIONS];
    char text[GUIDER_TEXT]; /* its text option, "" without one */
    int n_points;           /* what `text` says, where that is a list of points */
    double point[GUIDER_POINTS][2];
    struct unet_changes changes[2]; /* of its row, where it has one: without and with freeu */
};

struct guiders {
    int n;
    struct guider item[GUIDERS_MOST]; /* in the order of guiders.def */
    struct unet_changes freeu;        /* of the other rows, while freeu acts */
};

struct guider_option {
    const char *name;
    double lo, hi, dflt;
    bool whole; /* integers only */
    const char *help;
};

/* One evaluation of one picture. Arrays are [channels, n / channels]. */
struct guider_at {
    const struct sched_ask *ask;
    size_t n;
    int64_t channels;
    double scale;
    const float *negative, *positive; /* the predictions; `negative` as changed so far */
    /* Of the clean picture that a prediction means: clean = clean.x ask->x + clean.pred pred. */
    struct sched_weights clean;
    float *work;        /* [n], anything */
    const float *state; /* [info->vectors, n] as it is; zeros at first */
    float *next;        /* the same after this evaluation; on entry equal to `state` */
};

struct guider_info {
    const char *name, *title, *paper; /* paper: "arXiv 2410.02416", or where the rule comes from */
    const char *diffusers;            /* its class there; NULL: none */
    const struct guider_option *options; /* name NULL at the end; NULL: none */
    /* The key of a text option or NULL, what it is, and its default; NULL: it must be given. */
    const char *text, *text_help, *text_dflt;
    bool alone; /* replaces the formula: only one such guider acts on a picture */
    bool row;   /* has a row of the prompt with another self-attention, `self` in the transformers
                    that its text names, and adds a multiple of positive - that row */
    enum self_kind self;
    int vectors; /* arrays of n floats that it keeps from evaluation to evaluation */

    /* All optional. */
    int (*read)(struct guider *g, const char *path, struct dr_error *err); /* what `text` says */
    /* Changes the scale, 1 for no guidance. steps 0: the largest that it gives. */
    void (*scale)(const struct guider *g, const struct sched_ask *ask, double *io_scale);
    void (*negative)(const struct guider *g, const struct guider_at *at, float *io);
    void (*combine)(const struct guider *g, const struct guider_at *at, float *ret);
    void (*after)(const struct guider *g, const struct guider_at *at, float *io);
    void (*freeu)(const struct guider *g, struct unet_freeu *ret);      /* changes all rows */
    double (*add)(const struct guider *g, const struct sched_ask *ask); /* the row's multiple */
};

/* Line i of guiders.def; NULL past the end. */
const struct guider_info *guider_at_line(int i);
const struct guider_info *guider_find(const char *name);

/* What the request's field `guidance` asks for. DR_EINVAL names "guidance[0].KEY": an unknown name
 * or key, a value out of range, two that do not go together. */
int guiders_read(const struct request *q, struct guiders *ret, struct dr_error *err);
/* Finds the transformers that texts name; before the list is used. */
int guiders_bind(struct guiders *g, const struct unet *u, struct dr_error *err);

/* Whether the list fits a run that begins at first_step: a sampler whose number of steps is open
 * has no fractions of it, a guider must act in some step, and guidance must be on somewhere (`on`).
 */
int guiders_check(const struct guiders *g, const struct sched_config *sched, int first_step,
                  bool on, struct dr_error *err);

/* Whether it acts at an evaluation; always where the number of steps is not known (0). */
bool guider_acts(const struct guider *g, const struct sched_ask *ask);

/* The changes of the rows of negative and positive prompt (one NULL), or of a guider's own row. */
const struct unet_changes *guiders_changes(const struct guiders *g, const struct guider *one,
                                           const struct sched_ask *ask);

/* An option's value by its row. */
static inline double guider_value(const struct guider *g, int row)
{
    return g->option[row];
}

/* A receipt's value of `guidance`: an array of objects, and as one text. */
json_t *guiders_json(const struct guiders *g);
int guiders_text(const struct guiders *g, struct buf *dst);

/* What capabilities say of all; new reference, NULL when memory is short. */
json_t *guiders_list_json(void);

#endif
