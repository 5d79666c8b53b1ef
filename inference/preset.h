/* preset.h - the conventions of a program where programs differ: presets.def as data.
 *
 * A preset says how the same words and numbers become a picture: where noise levels lie and what
 * the first noise is scaled with, which generators there are, what an open field means. Whoever
 * needs a convention reads its member; nothing asks for a preset's name.
 */
#ifndef DR_INFERENCE_PRESET_H
#define DR_INFERENCE_PRESET_H

#include "base/error.h"
#include "base/rng.h"
#include "schedulers/base_scheduler.h"

struct preset {
    const char *name, *title;
    struct sched_conventions sched;
    /* Generators of the first noise, of the noise in steps and of a Brownian path, where the
     * request names none. */
    enum dr_rng_kind noise, step_noise, tree_noise;
    bool fresh_steps; /* noise in steps is of a generator of its own, seeded the same */
    bool together;    /* one generator, of the first seed, for all pictures of a batch */
    const char
        *language; /* of prompts (conditioning/prompt_language.h), unless the request has one */
    /* Where the request leaves them open; NULL, 0: the model's and the table's. */
    const char *sampler, *schedule;
    int steps;
    double cfg;
    bool skip_both;           /* clip skip is of the negative prompt too */
    bool no_skip_where_zeros; /* none of models that take zeros for no negative prompt (SDXL) */
    bool empty_is_none;       /* an empty negative prompt counts as none */
    bool encodes_none;        /* no negative prompt counts as an empty one */
};

/* In the order of presets.def; NULL past the end. */
const struct preset *preset_at(int i);

/* Case, blanks, '-' and '_' do not count. DR_EINVAL about "preset". */
int preset_find(const char *name, const struct preset **ret, struct dr_error *err);

#endif
