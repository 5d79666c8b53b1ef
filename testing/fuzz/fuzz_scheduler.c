/* fuzz_scheduler.c - libFuzzer target: a line that asks for a sampler, then scheduler_config.json.
 *
 *     SAMPLER SCHEDULE SPACING STEPS ETA TIMESTEPS SIGMAS        "-": not asked for
 *     {"_class_name": "EulerDiscreteScheduler", ...}
 *
 * What is accepted can be run: levels are finite and fall, questions and latents are finite for a
 * model that answers with something finite, and a run that is saved and loaded half-way ends in the
 * same bits. */
#include "testing/fuzz/fuzz.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "schedulers/base_scheduler.h"
#include "schedulers/scheduler_manager.h"
#include "testing/helpers/sched_access.h"

enum { VALUES = 4, STEPS = 64 };

static const char *word_of(char **rest)
{
    char *word = *rest;
    size_t n = strcspn(word, " ");
    *rest = word + n + (word[n] == ' ');
    word[n] = '\0';
    return *word && strcmp(word, "-") ? word : NULL;
}

static struct sched_request request_of(char *line)
{
    struct sched_request q = { .eta = NAN, .steps = 7 };
    const char *word;
    q.sampler = word_of(&line);
    q.schedule = word_of(&line);
    q.spacing = word_of(&line);
    if ((word = word_of(&line)))
        q.steps = (int)strtol(word, NULL, 10);
    if ((word = word_of(&line)))
        q.eta = strtod(word, NULL);
    q.timesteps = word_of(&line);
    q.sigmas = word_of(&line);
    return q;
}

static bool all_finite(const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return false;
    return true;
}

static void check_levels(const struct sched *s)
{
    int n = sched_levels(s);
    const float *sigmas = sched_sigmas(s);
    FUZZ_MUST(n >= 1);
    FUZZ_MUST(all_finite(sched_timesteps(s), (size_t)n));
    FUZZ_MUST(all_finite(sigmas, (size_t)n + 1));
    FUZZ_MUST(isfinite(sched_init_noise_scale(s)) && sched_init_noise_scale(s) > 0);
    for (int i = 0; i < n; i++)
        FUZZ_MUST(sigmas[i] > 0 && sched_timesteps(s)[i] >= 0);
    FUZZ_MUST(sigmas[n] >= 0);
}

/* One evaluation of a model that halves what it sees; false at the end. */
static bool advance(struct sched *s, struct dr_rng *rng)
{
    struct sched_ask ask;
    struct dr_error err = { 0 };
    float pred[VALUES];
    if (!sched_next(s, &ask))
        return false;
    FUZZ_MUST(all_finite(ask.x, VALUES) && isfinite(ask.timestep) && isfinite(ask.sigma));
    for (int i = 0; i < VALUES; i++)
        pred[i] = 0.5f * ask.x[i];
    int r = sched_feed(s, pred, pred, rng, &err);
    FUZZ_MUST_SAY(!r, err.text);
    return true;
}

static void run(struct sched *s, struct dr_rng *rng)
{
    while (advance(s, rng)) {}
    FUZZ_MUST(all_finite(sched_latents(s), VALUES));
}

static void check_run(const struct sched_config *config, struct sched *s)
{
    static const float start[VALUES] = { 1, -0.5f, 0.25f, 2 };
    struct dr_error err = { 0 };
    struct dr_rng rng;
    float x[VALUES], whole[VALUES];
    struct sched *other;
    if (!sched_evaluations(s)) /* open: unit tests run those */
        return;
    for (int i = 0; i < VALUES; i++)
        x[i] = start[i] * (float)sched_init_noise_scale(s);
    dr_rng_seed(&rng, DR_RNG_CPU, 5);
    int r = sched_begin(s, x, 0, &err);
    FUZZ_MUST_SAY(!r, err.text);
    for (int i = 0; i < sched_evaluations(s) / 2; i++)
        advance(s, &rng);
    struct dr_rng kept = rng;
    size_t size = sched_state_size(s);
    void *state = malloc(size);
    FUZZ_MUST(state);
    sched_save(s, state);
    run(s, &rng);
    memcpy(whole, sched_latents(s), sizeof whole);
    r = sched_new(config, VALUES, &other, &err);
    FUZZ_MUST_SAY(!r, err.text);
    r = sched_load(other, state, size, &err);
    FUZZ_MUST_SAY(!r, err.text);
    run(other, &kept);
    FUZZ_MUST(!memcmp(whole, sched_latents(other), sizeof whole));
    sched_free(other);
    free(state);
}

static void check_config(const struct sched_config *config)
{
    struct sched *s;
    struct dr_error err = { 0 };
    char warning[SCHED_WARNING];
    for (int i = 0; i < 8 && sched_warning(config, i, warning); i++)
        FUZZ_MUST(warning[0]);
    int r = sched_new(config, VALUES, &s, &err);
    if (r) {
        fuzz_must_explain(r, &err);
        return;
    }
    check_levels(s);
    check_run(config, s);
    sched_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct sched_config config;
    struct dr_error err = { 0 };
    char *text = fuzz_text(bytes, n), *rest = text;
    char *line = fuzz_line(&rest);
    struct sched_request request = request_of(line ? line : text);
    size_t used = (size_t)(rest - text);
    if (request.steps <= STEPS) {
        int r = sched_configure_text(used < n ? rest : NULL, n - used, &request, &config, &err);
        if (r == DR_EFORMAT || r == DR_ELIMIT) /* not JSON; nested too deeply */
            fuzz_must_explain(r, &err);
        else if (r)
            fuzz_must_name(r, &err);
        else
            check_config(&config);
    }
    free(text);
    fuzz_must_be_clean();
    return 0;
}
