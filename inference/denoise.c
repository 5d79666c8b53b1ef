/* denoise.c - see denoise.h. */
#include "inference/denoise.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "models/unet.h"
#include "schedulers/scheduler_factory.h"

struct denoise {
    int64_t channels, h, w;
    size_t n; /* channels h w */
    const struct denoise_phase *phases;
    int n_phases;
    struct sched *sched;
    struct sched_ask ask;
    const float *clean, *start_noise, *mask; /* of the spec */
    bool soft;
    int first, first_step; /* evaluation and step of the schedule that the run begins with */
    struct dr_rng rng;
    float *input, *pred; /* [n] */
    float *predictions;  /* [rows_most, n], what the UNet gave */
    bool most;           /* show the rows of the evaluation that has most */
    size_t n_state;      /* floats at the beginning of */
    float *memory;       /* [guidance_memory, n]; NULL: the guidance keeps nothing */
    bool combined;       /* since the rows were asked for */
    int guided;          /* rows of the guidance; those of further parts follow */
};

static const char magic[16] = "darkroom denoise";

enum { STATE_VERSION = 2 };

struct state_head {
    char magic[16];
    uint32_t version, head_bytes;
    uint64_t bytes;                 /* of the whole block */
    uint8_t identity[SHA256_BYTES]; /* of the picture */
    uint8_t sum[SHA256_BYTES];      /* SHA-256 of the block with zeros here */
    struct dr_rng rng;
};

static int check_phases(const struct denoise_spec *spec, struct dr_error *err)
{
    for (int i = 0; i < spec->n_phases; i++) {
        bool rises = i ? spec->phases[i].first > spec->phases[i - 1].first : !spec->phases[i].first;
        if (!rises)
            return dr_fail(err, DR_EINVAL, "phases of a picture must begin at 0 and rise");
    }
    for (int i = 0; i < spec->n_phases; i++)
        if (spec->phases[i].weight && !guidance_composes(&spec->phases[i].guidance))
            return dr_fail(err, DR_EINVAL,
                           "prompt: parts with AND, or a weight of the whole prompt, do not go "
                           "together with guidance interval, schedule, pag or seg");
    return spec->n_phases > 0 ? 0 : dr_fail(err, DR_EINVAL, "a picture without a phase");
}

/* The latents to begin with, in d->input. */
static void initial_latents(struct denoise *d, const struct denoise_spec *spec)
{
    if (spec->clean && !spec->pure) {
        sched_add_noise(d->sched, spec->first_step, spec->clean, spec->start_noise, d->input);
        return;
    }
    if (spec->latents) {
        memcpy(d->input, spec->latents, d->n * sizeof *d->input);
        return;
    }
    float scale = (float)sched_init_noise_scale(d->sched);
    const struct denoise_noise *noise = spec->noise;
    size_t index = noise ? (size_t)noise->index : 0, count = noise ? (size_t)noise->count : 1;
    if (spec->start_noise)
        memcpy(d->input, spec->start_noise, d->n * sizeof *d->input);
    else
        dr_rng_normal_part(&d->rng, d->input, index * d->n, d->n, count * d->n);
    for (size_t i = 0; i < d->n; i++)
        d->input[i] *= scale;
}

/* From here on the generator is the steps'. */
static void take_noise(struct denoise *d, const struct denoise_noise *noise)
{
    if (!noise)
        return;
    if (noise->fresh)
        dr_rng_seed(&d->rng, noise->rng, noise->seed);
    sched_take_source(d->sched, &(struct sched_source){ .index = noise->index,
                                                        .count = noise->count,
                                                        .seed = noise->tree_seed,
                                                        .kind = noise->tree });
}

static int open_state(struct denoise *d, const struct denoise_spec *spec, struct dr_error *err)
{
    d->input = dr_calloc(DR_TAG_JOB, d->n, sizeof *d->input);
    d->pred = dr_calloc(DR_TAG_JOB, d->n, sizeof *d->pred);
    d->predictions = dr_calloc(DR_TAG_JOB, d->n * (size_t)denoise_rows_most(d),
                               sizeof *d->predictions);
    const struct guidance *g = &d->phases[0].guidance; /* all phases have the same guiders */
    size_t memory = (size_t)guidance_memory(g) * d->n;
    d->n_state = (size_t)guidance_state(g) * d->n;
    if (memory)
        d->memory = dr_calloc(DR_TAG_JOB, memory, sizeof *d->memory);
    if (!d->input || !d->pred || !d->predictions || (memory && !d->memory))
        return dr_fail(err, DR_ENOMEM, "out of memory for the latents of a picture");
    int r = sched_new(spec->sched, d->n, &d->sched, err);
    if (!r && (spec->timesteps || spec->sigmas))
        r = sched_replace(d->sched, spec->timesteps, spec->sigmas, err);
    if (r < 0)
        return r;
    if (spec->first_step < 0 || spec->first_step >= spec->sched->steps)
        return dr_fail(err, DR_EINVAL, "first step: got %d of %d", spec->first_step,
                       spec->sched->steps);
    dr_rng_seed(&d->rng, spec->rng, spec->seed);
    if (spec->generator)
        d->rng = *spec->generator;
    d->first = sched_level_of(d->sched, spec->first_step);
    initial_latents(d, spec);
    take_noise(d, spec->noise);
    return sched_begin(d->sched, d->input, spec->first_step, err);
}

int denoise_open(const struct denoise_spec *spec, struct denoise **ret, struct dr_error *err)
{
    int r = check_phases(spec, err);
    if (r < 0)
        return r;
    struct denoise *d = dr_calloc(DR_TAG_JOB, 1, sizeof *d);
    if (!d)
        return dr_fail(err, DR_ENOMEM, "out of memory for a picture");
    d->channels = spec->channels;
    d->h = spec->h;
    d->w = spec->w;
    d->n = (size_t)(spec->channels * spec->h * spec->w);
    d->phases = spec->phases;
    d->n_phases = spec->n_phases;
    d->most = spec->most;
    d->first_step = spec->first_step;
    d->clean = spec->clean;
    d->start_noise = spec->start_noise;
    d->mask = spec->mask;
    d->soft = spec->soft;
    r = open_state(d, spec, err);
    if (r < 0)
        denoise_close(d);
    else
        *ret = d;
    return r;
}

void denoise_close(struct denoise *d)
{
    if (!d)
        return;
    sched_free(d->sched);
    dr_free(d->input);
    dr_free(d->pred);
    dr_free(d->predictions);
    dr_free(d->memory);
    dr_free(d);
}

static const struct denoise_phase *phase(const struct denoise *d)
{
    int i = d->n_phases - 1;
    while (i && d->phases[i].first > d->ask.evaluation)
        i--;
    return &d->phases[i];
}

int denoise_rows_most(const struct denoise *d)
{
    int most = 0;
    for (int i = 0; i < d->n_phases; i++) {
        int rows = guidance_rows(&d->phases[i].guidance) + d->phases[i].n_more;
        most = rows > most ? rows : most;
    }
    return most;
}

/* Rows of the prompt's further parts after n others; returns how many there are. */
static int add_parts(const struct denoise *d, int n, struct unet_row *rows)
{
    const struct denoise_phase *p = phase(d);
    const struct unet_changes *changes = rows[n - 1].changes; /* of the positive row */
    for (int i = 0; i < p->n_more; i++, n++)
        rows[n] = (struct unet_row){ .latent = d->ask.x,
                                     .timestep = d->ask.timestep,
                                     .conditioning = p->more[i],
                                     .changes = changes,
                                     .pred = d->predictions + (size_t)n * d->n };
    return n;
}

/* The parts' predictions become one, in the place of the first. The negative one is there: a
 * composed prompt asks for it. */
static void compose(struct denoise *d)
{
    const struct denoise_phase *p = phase(d);
    const float *negative = d->predictions;
    float *positive = d->predictions + d->n;
    const float *more = d->predictions + (size_t)d->guided * d->n;
    for (size_t i = 0; p->weight && i < d->n; i++) {
        double base = negative[i], sum = p->weight[0] * (positive[i] - base);
        for (int k = 0; k < p->n_more; k++)
            sum += p->weight[1 + k] * (more[(size_t)k * d->n + i] - base);
        positive[i] = (float)(base + sum);
    }
}

int denoise_rows(struct denoise *d, struct unet_row *ret_rows)
{
    if (!sched_next(d->sched, &d->ask))
        return 0;
    /* Outside, evaluations and steps are counted from the run's first. */
    d->ask.evaluation -= d->first;
    d->ask.evaluations -= d->ask.evaluations ? d->first : 0;
    d->ask.step -= d->first_step;
    d->ask.steps -= d->ask.steps ? d->first_step : 0;
    memcpy(d->input, d->ask.x, d->n * sizeof *d->input);
    d->ask.x = d->input;
    d->combined = false;
    struct sched_ask ask = d->ask;
    if (d->most)
        ask.steps = 0;
    d->guided = guidance_expand(&phase(d)->guidance, &ask, d->predictions, d->n, ret_rows);
    return add_parts(d, d->guided, ret_rows);
}

struct unet *denoise_unet(const struct denoise *d)
{
    return phase(d)->unet;
}

const struct weight_variant *denoise_variant(const struct denoise *d)
{
    return phase(d)->variant;
}

int denoise_combine(struct denoise *d, struct dr_error *err)
{
    compose(d);
    const struct guidance_at at = { .ask = &d->ask,
                                    .predictions = d->predictions,
                                    .n = d->n,
                                    .channels = d->channels,
                                    .clean = sched_clean_weights(d->sched, &d->ask),
                                    .memory = d->memory };
    guidance_combine(&phase(d)->guidance, &at, d->pred);
    d->combined = true;
    for (size_t i = 0; i < d->n; i++)
        if (!isfinite(d->pred[i]))
            return dr_fail(err, DR_EFORMAT,
                           "the model's prediction is not finite at evaluation %d: its weights "
                           "overflow or hold NaN",
                           d->ask.evaluation);
    return 0;
}

/* Puts what stays of the picture back into the latents, with the noise of the level that they have
 * come to. Hard masks do it at every level, the clean picture at the end; soft ones as long as the
 * share of the run that is over is less than what stays. */
static void keep_known(struct denoise *d)
{
    struct sched_ask next;
    float *x = sched_latents(d->sched);
    size_t plane = (size_t)(d->h * d->w);
    bool more = sched_next(d->sched, &next);
    double over = more ? (double)(next.evaluation - d->first) / (next.evaluations - d->first) : 1;
    if (more)
        sched_noise_to(d->sched, next.sigma, d->clean, d->start_noise, d->input);
    const float *known = more ? d->input : d->clean;
    for (size_t i = 0; i < d->n; i++) {
        float m = d->mask[i % plane];
        bool stays = d->soft ? more && 1.0f - m > (float)over : m <= 0;
        if (stays)
            x[i] = known[i];
    }
}

int denoise_advance(struct denoise *d, struct dr_error *err)
{
    const struct guidance *g = &phase(d)->guidance;
    if (d->combined)
        guidance_advance(g, d->n, d->memory);
    int r = sched_feed(d->sched, d->pred, guidance_uncond(g, d->predictions), &d->rng, err);
    if (!r && d->mask)
        keep_known(d);
    return r;
}

float *denoise_input(struct denoise *d)
{
    return d->input;
}

float *denoise_pred(struct denoise *d)
{
    return d->pred;
}

float *denoise_latents(struct denoise *d)
{
    return sched_latents(d->sched);
}

double denoise_timestep(const struct denoise *d)
{
    return d->ask.timestep;
}

int denoise_evaluations(const struct denoise *d)
{
    int all = sched_evaluations(d->sched);
    return all ? all - d->first : 0;
}

void denoise_size(const struct denoise *d, int64_t *ret_h, int64_t *ret_w)
{
    *ret_h = d->h;
    *ret_w = d->w;
}

/* ---- the state ---- */

size_t denoise_state_size(const struct denoise *d)
{
    return sizeof(struct state_head) + sched_state_size(d->sched) + d->n_state * sizeof(float);
}

/* The sum of a block whose own sum is taken as zeros. */
static int sum_of(const void *state, size_t size, uint8_t ret_sum[SHA256_BYTES],
                  struct dr_error *err)
{
    static const uint8_t zeros[SHA256_BYTES];
    const size_t at = offsetof(struct state_head, sum), after = at + sizeof zeros;
    struct sha256 *s = sha256_new();
    int r = s ? sha256_update(s, state, at) : DR_ENOMEM;
    if (!r)
        r = sha256_update(s, zeros, sizeof zeros);
    if (!r)
        r = sha256_update(s, (const uint8_t *)state + after, size - after);
    if (!r)
        r = sha256_finish(s, ret_sum);
    sha256_free(s);
    return r < 0 ? dr_fail(err, r, "saved picture: no checksum: %s", dr_code_meaning(r)) : 0;
}

int denoise_save(const struct denoise *d, const uint8_t identity[SHA256_BYTES], void *ret_state,
                 struct dr_error *err)
{
    struct state_head head;
    size_t size = denoise_state_size(d);
    memset(&head, 0, sizeof head);
    memcpy(head.magic, magic, sizeof magic);
    head.version = STATE_VERSION;
    head.head_bytes = sizeof head;
    head.bytes = size;
    memcpy(head.identity, identity, sizeof head.identity);
    memcpy(&head.rng, &d->rng, sizeof head.rng);
    memcpy(ret_state, &head, sizeof head);
    uint8_t *at = (uint8_t *)ret_state + sizeof head;
    sched_save(d->sched, at);
    if (d->n_state)
        memcpy(at + sched_state_size(d->sched), d->memory, d->n_state * sizeof *d->memory);
    int r = sum_of(ret_state, size, head.sum, err);
    memcpy(ret_state, &head, sizeof head);
    return r;
}

int denoise_load(struct denoise *d, const uint8_t identity[SHA256_BYTES], const void *state,
                 size_t size, struct dr_error *err)
{
    struct state_head head;
    uint8_t sum[SHA256_BYTES];
    if (size < sizeof head || memcmp(state, magic, sizeof magic))
        return dr_fail(err, DR_EFORMAT, "saved picture: not one, or cut off");
    memcpy(&head, state, sizeof head);
    if (head.version != STATE_VERSION || head.head_bytes != sizeof head)
        return dr_fail(err, DR_EFORMAT, "saved picture: got version %u, expected %d", head.version,
                       STATE_VERSION);
    if (head.bytes != size || size != denoise_state_size(d))
        return dr_fail(err, DR_EFORMAT, "saved picture: got %zu bytes, expected %zu", size,
                       denoise_state_size(d));
    int r = sum_of(state, size, sum, err);
    if (r < 0)
        return r;
    if (memcmp(sum, head.sum, sizeof sum))
        return dr_fail(err, DR_EFORMAT, "saved picture: damaged, its checksum does not match");
    if (memcmp(head.identity, identity, sizeof head.identity))
        return dr_fail(err, DR_EFORMAT, "saved picture: of another request");
    if (head.rng.kind != d->rng.kind || head.rng.seed != d->rng.seed ||
        head.rng.index > DR_RNG_WORDS)
        return dr_fail(err, DR_EFORMAT, "saved picture: of another seed or generator");
    const uint8_t *at = (const uint8_t *)state + sizeof head;
    r = sched_load(d->sched, at, sched_state_size(d->sched), err);
    if (r < 0)
        return r;
    memcpy(&d->rng, &head.rng, sizeof d->rng);
    if (d->n_state)
        memcpy(d->memory, at + sched_state_size(d->sched), d->n_state * sizeof *d->memory);
    return 0;
}
