/* networks.c - see networks.h. A pass walks the same code twice: on the plan backend
 * for FLOPs and the size of the workspace, then for real as often as wanted. What a picture does
 * once per prompt (keys and values of the text) is done before. */
#include "bench/networks.h"

#include <string.h>

#include "backend/measure.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "bench/ops.h"

enum { TOKENS = 77, ROWS = 2, SKIP = 2 };

struct network_case {
    const char *name;
    enum bench_part part;
    int64_t pixels; /* of the edge */
    int rows;
};

static const struct network_case cases[] = {
    { "unet_512", BENCH_UNET, 512, 1 },
    { "unet_512_cfg", BENCH_UNET, 512, 2 }, /* two prompts, neither of zeros; the same latents */
    { "unet_1024", BENCH_UNET, 1024, 1 },
    { "unet_1024_cfg", BENCH_UNET, 1024, 2 },
    { "vae_decode_512", BENCH_DECODER, 512, 1 },
    { "vae_decode_1024", BENCH_DECODER, 1024, 1 },
    { "vae_encode_1024", BENCH_ENCODER, 1024, 1 },
    { "vae_decode_tiny_512", BENCH_TINY_DECODER, 512, 1 },
    { "vae_decode_tiny_1024", BENCH_TINY_DECODER, 1024, 1 },
    { "text_encoders", BENCH_TEXT, 0, 1 },
};

enum { CASES = sizeof cases / sizeof *cases };

const char *bench_network_name(int i)
{
    return i >= 0 && i < CASES ? cases[i].name : NULL;
}

struct bench_network {
    const struct network_case *c;
    struct bench_model *m;
    struct backend *plan;
    struct exec x;
    struct op_need need;
    int64_t edge; /* latents */
    float *in, *out, *text, *pooled, *ids;
    int32_t *words;
    struct unet_context *context[ROWS];
};

/* ---- the passes ---- */

static int pass_unet(struct bench_network *b, struct exec *x, struct dr_error *err)
{
    const struct unet_arch *a = unet_arch(b->m->unet);
    int64_t out = a->out_channels * b->edge * b->edge;
    struct unet_conditioning conditioning[ROWS];
    struct unet_row rows[ROWS];
    for (int i = 0; i < b->c->rows; i++) {
        conditioning[i] = unet_prompt(b->context[i]);
        rows[i] = (struct unet_row){ .latent = b->in,
                                     .timestep = 500,
                                     .conditioning = &conditioning[i],
                                     .pred = b->out + i * out };
    }
    return unet_forward(b->m->unet, x, rows, b->c->rows, b->edge, b->edge, err);
}

static int pass_text(struct bench_network *b, struct exec *x, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; i < BENCH_ENCODERS && !r; i++)
        if (b->m->text[i])
            r = clip_text_encode(b->m->text[i], x, b->words, 1, TOKENS,
                                 (struct clip_state){ .skip = SKIP }, b->out, b->pooled, err);
    return r;
}

static int pass(void *ctx, struct exec *x, struct dr_error *err)
{
    struct bench_network *b = ctx;
    switch (b->c->part) {
    case BENCH_UNET:
        return pass_unet(b, x, err);
    case BENCH_DECODER:
    case BENCH_TINY_DECODER:
        return vae_decode(b->m->vae, x, b->in, 1, b->edge, b->edge, b->out, err);
    case BENCH_ENCODER:
        return vae_encode(b->m->vae, x, b->in, 1, b->c->pixels, b->c->pixels, b->out, err);
    default:
        return pass_text(b, x, err);
    }
}

/* Keys and values of every row's text. */
static int make_contexts(void *ctx, struct exec *x, struct dr_error *err)
{
    struct bench_network *b = ctx;
    int r = 0;
    for (int i = 0; b->c->part == BENCH_UNET && i < b->c->rows && !r; i++) {
        const struct unet_arch *a = unet_arch(b->m->unet);
        r = unet_context_new(b->m->unet, x, b->text + i * TOKENS * a->context, TOKENS,
                             b->pooled + i * a->pooled, b->ids, &b->context[i], err);
    }
    return r;
}

static void drop_contexts(struct bench_network *b)
{
    for (int i = 0; i < ROWS; i++) {
        unet_context_free(b->context[i]);
        b->context[i] = NULL;
    }
}

/* ---- inputs ---- */

static int noise(float **ret, int64_t n, struct dr_error *err)
{
    *ret = dr_malloc(DR_TAG_JOB, (size_t)(n + 1) * sizeof **ret);
    if (!*ret)
        return dr_fail(err, DR_ENOMEM, "out of memory for inputs");
    return bench_fill(*ret, DTYPE_F32, n + 1, 0, 1, err);
}

static int unet_inputs(struct bench_network *b, struct dr_error *err)
{
    const struct unet_arch *a = unet_arch(b->m->unet);
    int64_t pixels = b->edge * b->edge;
    int r = noise(&b->in, a->in_channels * pixels, err);
    if (!r)
        r = noise(&b->out, a->out_channels * pixels * b->c->rows, err);
    if (!r)
        r = noise(&b->text, TOKENS * a->context * b->c->rows, err);
    if (!r)
        r = noise(&b->pooled, a->pooled * b->c->rows, err);
    if (!r)
        r = noise(&b->ids, a->n_time_ids, err);
    for (int i = 0; i < a->n_time_ids && !r; i++)
        b->ids[i] = i == 2 || i == 3 ? 0 : (float)b->c->pixels; /* sizes and the crop */
    return r;
}

static int vae_inputs(struct bench_network *b, struct dr_error *err)
{
    const struct vae_arch *a = vae_arch(b->m->vae);
    int64_t latents = b->edge * b->edge, pixels = b->c->pixels * b->c->pixels;
    bool encoder = b->c->part == BENCH_ENCODER;
    int r = noise(&b->in, encoder ? a->in_channels * pixels : a->latent_channels * latents, err);
    return r ? r
             : noise(&b->out, encoder ? vae_moments(a) * latents : a->out_channels * pixels, err);
}

static int text_inputs(struct bench_network *b, struct dr_error *err)
{
    int64_t width = 1, vocab = INT32_MAX;
    for (int i = 0; i < BENCH_ENCODERS; i++) {
        const struct clip_arch *a = b->m->text[i] ? clip_text_arch(b->m->text[i]) : NULL;
        if (!a)
            continue;
        width = a->width > width ? a->width : width;
        width = a->projection > width ? a->projection : width;
        vocab = a->vocab < vocab ? a->vocab : vocab;
    }
    b->words = dr_malloc(DR_TAG_JOB, TOKENS * sizeof *b->words);
    if (!b->words)
        return dr_fail(err, DR_ENOMEM, "out of memory for inputs");
    for (int i = 0; i < TOKENS; i++)
        b->words[i] = (int32_t)(i * 613 % vocab);
    b->words[TOKENS - 1] = (int32_t)(vocab - 1); /* the end */
    int r = noise(&b->out, TOKENS * width, err);
    return r ? r : noise(&b->pooled, width, err);
}

static int make_inputs(struct bench_network *b, struct dr_error *err)
{
    switch (b->c->part) {
    case BENCH_UNET:
        b->edge = b->c->pixels / 8;
        return unet_inputs(b, err);
    case BENCH_TEXT:
        return text_inputs(b, err);
    default:
        b->edge = b->c->pixels / vae_factor(b->m->vae);
        return vae_inputs(b, err);
    }
}

/* ---- a case ---- */

static int plan(struct bench_network *b, size_t *ret_workspace, struct dr_error *err)
{
    struct pass_need contexts, need;
    int r = pass_measure(b->plan, make_contexts, b, &contexts, err);
    if (!r)
        r = pass_measure(b->plan, pass, b, &need, err);
    drop_contexts(b);
    if (r < 0)
        return r;
    b->need.flops = need.totals.flops;
    b->need.executed = need.totals.executed;
    *ret_workspace = need.workspace > contexts.workspace ? need.workspace : contexts.workspace;
    return 0;
}

int bench_network_new(struct bench_model *m, int i, const atomic_int *stop,
                      struct bench_network **ret, struct dr_error *err)
{
    size_t workspace = 0;
    struct bench_network *b = dr_calloc(DR_TAG_JOB, 1, sizeof *b);
    if (!b)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    b->c = &cases[i];
    b->m = m;
    b->x = (struct exec){ .be = m->be, .stop = stop };
    int r = bench_model_need(m, b->c->part, stop, err);
    if (!r)
        r = backend_open_plan(m->be, &b->plan, err);
    if (!r)
        r = make_inputs(b, err);
    if (!r)
        r = plan(b, &workspace, err);
    if (!r)
        r = workspace_new(m->be, workspace, &b->x.ws, err);
    if (!r)
        r = make_contexts(b, &b->x, err);
    if (r)
        bench_network_free(b);
    else
        *ret = b;
    return r;
}

void bench_network_free(struct bench_network *b)
{
    if (!b)
        return;
    drop_contexts(b);
    workspace_free(b->x.ws);
    backend_close(b->plan);
    dr_free(b->in);
    dr_free(b->out);
    dr_free(b->text);
    dr_free(b->pooled);
    dr_free(b->ids);
    dr_free(b->words);
    dr_free(b);
}

int bench_network_run(struct bench_network *b, double *ret_seconds, struct dr_error *err)
{
    double start = dr_now();
    int r = pass(b, &b->x, err);
    *ret_seconds = dr_now() - start;
    return r;
}

struct op_need bench_network_need(const struct bench_network *b)
{
    return b->need;
}
