/* test_models_conditioning.c - what a row of the UNet carries beside one text: several sets of keys
 * and values with weights and masks, residuals, extra channels, texts of several chunks; and the
 * trunk, which runs alone. Attention over sets is compared with the formula in double, the rest,
 * bit by bit, with the same thing done by hand. */
#include "testing/helpers/odd_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/ops/op.h"
#include "base/alloc.h"
#include "base/rng.h"
#include "models/unet_trunk.h"

enum { H = 5, W = 7, SIZE = 4 * H * W, ROWS = 3 };

static void must(int r, const struct dr_error *err)
{
    if (r)
        fail_msg("%s", err->text);
}

/* Normals of a seed; dr_free them. */
static float *normals(int64_t n, uint64_t seed)
{
    struct dr_rng rng;
    float *v = dr_calloc(DR_TAG_TEST, (size_t)n, sizeof *v);
    assert_non_null(v);
    dr_rng_seed(&rng, DR_RNG_CPU, seed);
    dr_rng_normal(&rng, v, (size_t)n);
    return v;
}

static void for_each_set(void (*check)(struct odd *g, const char *kernels))
{
    const char *name;
    bool usable;
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        if (!usable)
            continue;
        struct odd g;
        odd_must(&g, ODD_CPU, name, 2);
        check(&g, name);
        assert_int_equal(workspace_used(g.ws), 0);
        odd_close(&g);
    }
}

static double tolerance_of(const struct odd *g)
{
    return backend_operand(g->be, OP_LINEAR) == DTYPE_F32 ? 1e-5 : 4e-2;
}

/* ---- weights made up for any network ---- */

enum { PARAMS = 1200 };

struct made {
    struct {
        char name[PARAM_NAME];
        float *values;
    } param[PARAMS];
    int n;
    bool quiet; /* self-attention and feed-forward add nothing */
};

static int make_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct made *m = ctx;
    int64_t count = 0;
    assert_true(m->n < PARAMS && shape_count(shape, &count));
    float *v = normals(count, (uint64_t)m->n + 1);
    bool off = m->quiet && (strstr(name, "attn1.to_out") || strstr(name, "ff.net.2"));
    int64_t rows = shape->d[0];
    for (int64_t i = 0; i < count; i++)
        v[i] = off ? 0 : v[i] / (float)sqrt(shape->n > 1 ? (double)count / (double)rows : 4);
    snprintf(m->param[m->n].name, PARAM_NAME, "%s", name);
    m->param[m->n++].values = v;
    p->src = (struct weight_source){ .data = v, .dtype = DTYPE_F32, .shape = *shape };
    return 0;
}

static void made_release(struct made *m)
{
    for (int i = 0; i < m->n; i++)
        dr_free(m->param[i].values);
    m->n = 0;
}

static const float *made_values(const struct made *m, const char *name)
{
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->param[i].name, name))
            return m->param[i].values;
    fail_msg("no parameter %s", name);
    return NULL;
}

/* ---- a transformer against the formula in double ---- */

enum { C = 16, HEADS = 2, GROUPS = 4, WIDTH = 12, PH = 4, PW = 6, PIXELS = PH * PW };
enum { SETS = 2, TOKENS_A = 5, TOKENS_B = 9, SAMPLES = 4 };

static const int set_tokens[SETS] = { TOKENS_A, TOKENS_B };

struct block_case {
    int n; /* sets, A first */
    double weight[SETS];
    bool masked[SETS];
};
/* In the order that spatial_run wants. */
static const struct block_case block_cases[SAMPLES] = {
    { 0, { 0 }, { false } },
    { 1, { 1 }, { false } },
    { 1, { 0.6 }, { true } },
    { 2, { 1, -0.7 }, { false, true } },
};

static float mask_at(int pixel)
{
    return pixel % PW < PW / 2 ? 1 : pixel == PIXELS - 1 ? 0.25f : 0;
}

/* y [n] = w [n, k] x + b. */
static void affine(const float *w, const float *b, const double *x, int n, int k, double *y)
{
    for (int i = 0; i < n; i++) {
        y[i] = b ? b[i] : 0;
        for (int j = 0; j < k; j++)
            y[i] += w[i * k + j] * x[j];
    }
}

/* x [rows, C], normalised by groups of `width` channels over `pixels` rows each. */
static void normalise(double *x, int pixels, int width, double eps, const float *scale,
                      const float *shift)
{
    for (int g = 0; g < C / width; g++) {
        double mean = 0, var = 0, count = pixels * width;
        for (int p = 0; p < pixels; p++)
            for (int c = g * width; c < (g + 1) * width; c++)
                mean += x[p * C + c] / count;
        for (int p = 0; p < pixels; p++)
            for (int c = g * width; c < (g + 1) * width; c++)
                var += (x[p * C + c] - mean) * (x[p * C + c] - mean) / count;
        for (int p = 0; p < pixels; p++)
            for (int c = g * width; c < (g + 1) * width; c++)
                x[p * C + c] = (x[p * C + c] - mean) / sqrt(var + eps) * scale[c] + shift[c];
    }
}

/* sum [C] += factor * softmax(q k^T / sqrt(width of a head)) v over one set's tokens. */
static void attend_in_double(const struct made *m, const double *q, const float *text, int tokens,
                             double factor, double *sum)
{
    double k[TOKENS_B][C], v[TOKENS_B][C], word[WIDTH];
    for (int t = 0; t < tokens; t++) {
        for (int i = 0; i < WIDTH; i++)
            word[i] = text[t * WIDTH + i];
        affine(made_values(m, "s.transformer_blocks.0.attn2.to_k.weight"), NULL, word, C, WIDTH,
               k[t]);
        affine(made_values(m, "s.transformer_blocks.0.attn2.to_v.weight"), NULL, word, C, WIDTH,
               v[t]);
    }
    for (int h = 0; h < HEADS; h++) {
        double e[TOKENS_B], total = 0;
        int first = h * C / HEADS, end = first + C / HEADS;
        for (int t = 0; t < tokens; t++) {
            double dot = 0;
            for (int c = first; c < end; c++)
                dot += q[c] * k[t][c];
            total += e[t] = exp(dot / sqrt(C / HEADS));
        }
        for (int t = 0; t < tokens; t++)
            for (int c = first; c < end; c++)
                sum[c] += factor * e[t] / total * v[t][c];
    }
}

/* One sample: x [PIXELS, C] in place. */
static void reference(const struct made *m, const struct block_case *b, float *const *text,
                      double *x)
{
    static const char at[] = "s.transformer_blocks.0.";
    char name[PARAM_NAME], other[PARAM_NAME];
    double in[PIXELS * C], t[PIXELS * C], normed[PIXELS * C];
    memcpy(in, x, sizeof in);
    normalise(in, PIXELS, C / GROUPS, 1e-6, made_values(m, "s.norm.weight"),
              made_values(m, "s.norm.bias"));
    for (int p = 0; p < PIXELS; p++) {
        double q[C], sum[C] = { 0 }, out[C];
        affine(made_values(m, "s.proj_in.weight"), made_values(m, "s.proj_in.bias"), in + p * C, C,
               C, t + p * C);
        memcpy(normed + p * C, t + p * C, C * sizeof *t);
        snprintf(name, sizeof name, "%snorm2.weight", at);
        snprintf(other, sizeof other, "%snorm2.bias", at);
        normalise(normed + p * C, 1, C, 1e-5, made_values(m, name), made_values(m, other));
        snprintf(name, sizeof name, "%sattn2.to_q.weight", at);
        affine(made_values(m, name), NULL, normed + p * C, C, C, q);
        for (int i = 0; i < b->n; i++)
            attend_in_double(m, q, text[i], set_tokens[i],
                             b->weight[i] * (b->masked[i] ? mask_at(p) : 1), sum);
        snprintf(name, sizeof name, "%sattn2.to_out.0.weight", at);
        snprintf(other, sizeof other, "%sattn2.to_out.0.bias", at);
        affine(made_values(m, name), made_values(m, other), sum, C, C, out);
        for (int c = 0; c < C; c++)
            t[p * C + c] += out[c];
        affine(made_values(m, "s.proj_out.weight"), made_values(m, "s.proj_out.bias"), t + p * C, C,
               C, out);
        for (int c = 0; c < C; c++)
            x[p * C + c] += out[c];
    }
}

static int spatial_walk(void *s, const struct visitor *v)
{
    return spatial_visit(s, v, "s");
}

/* Keys and values of one set of tokens. */
static void make_set(struct spatial *s, struct exec *x, int64_t columns, const float *text,
                     int tokens, struct kv_set *ret)
{
    struct dr_error err = { 0 };
    struct act in;
    *ret = (struct kv_set){ .tokens = tokens };
    must(blk_new(x, 1, 1, 1, columns * tokens, &ret->all, &err), &err);
    must(blk_new(x, 1, 1, tokens, WIDTH, &in, &err), &err);
    must(act_write(x, in, text, &err), &err);
    must(spatial_text(s, x, in, ret, &err), &err);
    act_free(x, &in);
}

static void run_samples(struct spatial *s, struct exec *x, const struct kv_set *sets,
                        const float *in, float *out)
{
    struct dr_error err = { 0 };
    struct kv_blocks kv[SAMPLES] = { 0 };
    struct stream io = { .x = { 0 } };
    struct act mask;
    float values[PIXELS];
    for (int p = 0; p < PIXELS; p++)
        values[p] = mask_at(p);
    must(blk_new(x, 1, PH, PW, 1, &mask, &err), &err);
    must(act_write(x, mask, values, &err), &err);
    for (int i = 0; i < SAMPLES; i++) {
        kv[i].n = block_cases[i].n;
        for (int k = 0; k < kv[i].n; k++) {
            kv[i].block[k] = (struct kv_block){ &sets[k], block_cases[i].weight[k], { 0 } };
            if (block_cases[i].masked[k])
                kv[i].block[k].mask = mask;
        }
    }
    must(blk_new(x, SAMPLES, PH, PW, C, &io.x, &err), &err);
    must(act_write(x, io.x, in, &err), &err);
    must(spatial_run(s, x, kv, &io, false, &err), &err);
    must(act_read(x, io.x, out, &err), &err);
    act_free(x, &io.x);
    act_free(x, &mask);
}

static void check_formula(struct odd *g, const char *kernels)
{
    static struct made m;
    struct dr_error err = { 0 };
    struct spatial s;
    struct kv_set sets[SETS];
    int64_t columns = 0;
    float *text[SETS], *in = normals(SAMPLES * PIXELS * C, 77), out[SAMPLES * PIXELS * C];
    m.quiet = true;
    must(spatial_init(&s, C, WIDTH, HEADS, 1, GROUPS, &columns, &err), &err);
    must(spatial_walk(&s, &(struct visitor){ .param = make_param, .ctx = &m }), &err);
    must(params_prepare(&s, spatial_walk, g->be, NULL, &err), &err);
    for (int i = 0; i < SETS; i++) {
        text[i] = normals(set_tokens[i] * WIDTH, 90 + (uint64_t)i);
        make_set(&s, &g->x, columns, text[i], set_tokens[i], &sets[i]);
    }
    run_samples(&s, &g->x, sets, in, out);
    for (int i = 0; i < SAMPLES; i++) {
        double x[PIXELS * C];
        float want[PIXELS * C];
        for (int k = 0; k < PIXELS * C; k++)
            x[k] = in[i * PIXELS * C + k];
        reference(&m, &block_cases[i], text, x);
        for (int k = 0; k < PIXELS * C; k++)
            want[k] = (float)x[k];
        double d = test_rel_l2(out + i * PIXELS * C, want, PIXELS * C);
        print_message("  %-8s sample %d %.2e\n", kernels, i, d);
        assert_true(d <= tolerance_of(g) / 5);
    }
    for (int i = 0; i < SETS; i++) {
        act_free(&g->x, &sets[i].all);
        dr_free(text[i]);
    }
    params_unprepare(&s, spatial_walk);
    spatial_release(&s);
    made_release(&m);
    dr_free(in);
}

static void attention_over_sets_is_the_formula(void **state)
{
    (void)state;
    for_each_set(check_formula);
}

/* ---- rows of the UNet ---- */

/* Texts A and B, and what the rows of a test need. */
struct fixture {
    struct odd *g;
    struct unet_context *a, *b;
    float *latent, *text, *mask, *pred;
};

static struct unet_context *context_of(struct odd *g, const float *text, int64_t tokens)
{
    struct dr_error err = { 0 };
    struct unet_context *c = NULL;
    float *added = normals(ODD_POOLED + ODD_IDS, 3);
    must(unet_context_new(g->unet, &g->x, text, tokens, added, added + ODD_POOLED, &c, &err), &err);
    dr_free(added);
    return c;
}

static void fixture_open(struct fixture *f, struct odd *g)
{
    f->g = g;
    f->latent = normals(ROWS * SIZE, 5);
    f->text = normals(2 * 19 * ODD_CONTEXT, 6);
    f->mask = normals(H * W, 7);
    f->pred = normals(2 * ROWS * SIZE, 8);
    f->a = context_of(g, f->text, 19);
    f->b = context_of(g, f->text + 19 * ODD_CONTEXT, 11);
}

static void fixture_close(struct fixture *f)
{
    unet_context_free(f->a);
    unet_context_free(f->b);
    dr_free(f->latent);
    dr_free(f->text);
    dr_free(f->mask);
    dr_free(f->pred);
}

/* The prediction for row `row` under that conditioning, to f->pred. */
static const float *predict(struct fixture *f, const struct unet_conditioning *c, int row)
{
    struct dr_error err = { 0 };
    const struct unet_row r = { f->latent + row * SIZE, 500, c, f->pred + row * SIZE, NULL };
    must(unet_forward(f->g->unet, &f->g->x, &r, 1, H, W, &err), &err);
    assert_int_equal(workspace_used(f->g->ws), 0);
    return r.pred;
}

static struct unet_conditioning both(const struct fixture *f, double wa, double wb,
                                     const float *mask_b)
{
    return (struct unet_conditioning){ .n_blocks = 2,
                                       .blocks = { { f->a, wa, NULL }, { f->b, wb, mask_b } } };
}

static void check_weights(struct odd *g, const char *kernels)
{
    (void)kernels;
    struct fixture f;
    float first[SIZE], zeros[H * W] = { 0 };
    fixture_open(&f, g);
    struct unet_conditioning a = unet_prompt(f.a), c = both(&f, 1, 0, f.mask);
    memcpy(first, predict(&f, &a, 0), sizeof first);
    assert_memory_equal(predict(&f, &c, 0), first, sizeof first);
    c = both(&f, 1, 0.5, NULL);
    assert_true(test_rel_l2(predict(&f, &c, 0), first, SIZE) > 1e-3);
    c = both(&f, 1, 0.5, zeros);
    assert_true(test_rel_l2(predict(&f, &c, 0), first, SIZE) <= tolerance_of(g));
    c.blocks[1] = (struct unet_block){ f.a, 0.25, NULL };
    c.blocks[0].weight = 0.75;
    assert_true(test_rel_l2(predict(&f, &c, 0), first, SIZE) <= tolerance_of(g));
    fixture_close(&f);
}

static void weights_and_masks_count(void **state)
{
    (void)state;
    for_each_set(check_weights);
}

/* Rows of every kind in one forward have the bits that they have alone. */
static void check_company(struct odd *g, const char *kernels)
{
    struct dr_error err = { 0 };
    struct fixture f;
    fixture_open(&f, g);
    float *zeros = dr_calloc(DR_TAG_TEST, 19 * ODD_CONTEXT, sizeof *zeros);
    struct unet_context *none = context_of(g, zeros, 19);
    struct unet_conditioning c[ROWS] = { both(&f, 0.5, 0.75, f.mask), unet_prompt(f.b),
                                         unet_prompt(none) };
    struct unet_row rows[ROWS];
    float *together = f.pred + ROWS * SIZE;
    for (int i = 0; i < ROWS; i++)
        rows[i] = (struct unet_row){ f.latent + i * SIZE, 500, &c[i], together + i * SIZE, NULL };
    must(unet_forward(g->unet, &g->x, rows, ROWS, H, W, &err), &err);
    for (int i = 0; i < ROWS; i++)
        if (memcmp(predict(&f, &c[i], i), together + i * SIZE, SIZE * sizeof(float)))
            fail_msg("%s: row %d has other bits in company", kernels, i);
    unet_context_free(none);
    dr_free(zeros);
    fixture_close(&f);
}

static void rows_of_all_kinds_go_together(void **state)
{
    (void)state;
    for_each_set(check_company);
}

/* ---- the skips, seen and changed by hand ---- */

enum { CONCATENATED = UNET_SKIPS + 1 };

/* What the way up takes, in order of UNET_SKIPS and the middle; add: something is added to it. */
struct skips {
    int n; /* of the network */
    int seen;
    float *values[CONCATENATED];
    struct act shape[CONCATENATED];
    bool add;
    struct dr_error err;
};

/* Deterministic, different for each activation. */
static float addend(int which, int64_t i)
{
    return (float)((which * 31 + i * 7) % 23 - 11) / 64;
}

static int watch_skips(struct exec *x, const struct op *op, struct dr_error *err)
{
    struct skips *s = x->watcher;
    if (op->kind != OP_RESIZE || op->dst.c == op->dst.ld)
        return 0;
    bool right = s->seen % 2, middle = s->seen == 0; /* [what comes from below, skip] */
    int which = middle ? s->n : s->n - 1 - s->seen / 2;
    s->seen++;
    if (!right && !middle)
        return 0;
    int64_t count = op->src.n * op->src.h * op->src.w * op->src.c;
    float *v = normals(count, 1);
    int r = act_read(x, op->src, v, err);
    for (int64_t i = 0; s->add && i < count; i++)
        v[i] += addend(which, i);
    if (!r && s->add)
        r = act_write(x, op->src, v, err);
    s->values[which] = v;
    s->shape[which] = op->src;
    return r;
}

static void watch(struct odd *g, struct skips *s, bool add)
{
    memset(s, 0, sizeof *s);
    s->n = 1;
    const struct unet_arch *a = unet_arch(g->unet);
    for (int i = 0; i < a->levels; i++)
        s->n += a->layers[i] + (i < a->levels - 1);
    s->add = add;
    g->x.watch = watch_skips;
    g->x.watcher = s;
}

static void unwatch(struct odd *g, struct skips *s)
{
    g->x.watch = NULL;
    assert_int_equal(s->seen, 2 * s->n);
}

static void skips_release(struct skips *s)
{
    for (int i = 0; i <= s->n; i++)
        dr_free(s->values[i]);
}

/* The addends as residuals, in a workspace of their own. */
static void make_residuals(struct odd *g, const struct skips *s, struct workspace **ws,
                           struct act acts[CONCATENATED], struct unet_residuals *ret)
{
    struct dr_error err = { 0 };
    must(workspace_new(g->be, 4 << 20, ws, &err), &err);
    struct exec own = g->x;
    own.ws = *ws;
    for (int k = 0; k <= s->n; k++) {
        const struct act *a = &s->shape[k];
        int64_t count = a->h * a->w * a->c;
        float *v = normals(count, 1);
        for (int64_t i = 0; i < count; i++)
            v[i] = addend(k, i);
        must(blk_new(&own, 1, a->h, a->w, a->c, &acts[k], &err), &err);
        must(act_write(&own, acts[k], v, &err), &err);
        dr_free(v);
    }
    *ret = (struct unet_residuals){
        .skips = acts, .n_skips = s->n, .middle = acts[s->n], .weight = 1
    };
}

static void check_residuals(struct odd *g, const char *kernels)
{
    struct fixture f;
    struct skips s;
    struct act acts[CONCATENATED];
    struct workspace *ws;
    struct unet_residuals r;
    float plain[SIZE], by_hand[SIZE];
    fixture_open(&f, g);
    struct unet_conditioning c = unet_prompt(f.a);
    memcpy(plain, predict(&f, &c, 0), sizeof plain);
    watch(g, &s, true);
    memcpy(by_hand, predict(&f, &c, 0), sizeof by_hand);
    unwatch(g, &s);
    assert_true(test_rel_l2(by_hand, plain, SIZE) > 1e-3);
    make_residuals(g, &s, &ws, acts, &r);
    c.residuals[c.n_residuals++] = &r;
    if (memcmp(predict(&f, &c, 0), by_hand, sizeof by_hand))
        fail_msg("%s: residuals are not the addends", kernels);
    r.weight = 0.5; /* twice a half; halves are exact, their sums nearly */
    c.residuals[c.n_residuals++] = &r;
    assert_true(test_rel_l2(predict(&f, &c, 0), by_hand, SIZE) <= tolerance_of(g));
    r.weight = 0;
    assert_memory_equal(predict(&f, &c, 0), plain, sizeof plain);
    skips_release(&s);
    workspace_free(ws);
    fixture_close(&f);
}

static void residuals_are_added_to_skips_and_middle(void **state)
{
    (void)state;
    for_each_set(check_residuals);
}

/* ---- the trunk ---- */

static void check_trunk(struct odd *g, const char *kernels)
{
    struct dr_error err = { 0 };
    struct fixture f;
    struct skips s;
    struct checkpoint *file;
    struct unet_trunk t;
    struct unet_context *context;
    struct unet_pass p;
    struct stream y;
    fixture_open(&f, g);
    struct unet_conditioning c = unet_prompt(f.a);
    watch(g, &s, false);
    predict(&f, &c, 0);
    unwatch(g, &s);

    must(checkpoint_open_in(NULL, test_source("testing/golden/odd/model"), NULL, &file, &err),
         &err);
    must(unet_trunk_init(&t, checkpoint_unet_arch(file), &err), &err);
    must(checkpoint_load(file, COMPONENT_UNET, &t, unet_trunk_visit, &err), &err);
    must(params_prepare(&t, unet_trunk_visit, g->be, NULL, &err), &err);
    float *added = normals(ODD_POOLED + ODD_IDS, 3);
    must(unet_trunk_context_new(&t, &g->x, f.text, 19, added, added + ODD_POOLED, &context, &err),
         &err);
    assert_true(unet_context_bytes(context) < unet_context_bytes(f.a));
    c = unet_prompt(context);
    const struct unet_row row = { f.latent, 500, &c, NULL, NULL };
    must(unet_pass_begin(&p, &t, &g->x, &row, 1, H, W, &err), &err);
    must(unet_trunk_run(&p, H, W, &y), &err);
    assert_int_equal(p.n_skips, s.n);
    for (int i = 0; i <= s.n; i++) {
        struct act *a = i < s.n ? &p.skips[i] : &y.x;
        int64_t count = a->n * a->h * a->w * a->c;
        float *v = normals(count, 1);
        must(act_read(&g->x, *a, v, &err), &err);
        assert_int_equal(count, s.shape[i].h * s.shape[i].w * s.shape[i].c);
        if (memcmp(v, s.values[i], (size_t)count * sizeof *v))
            fail_msg("%s: output %d of the trunk alone has other bits", kernels, i);
        dr_free(v);
        act_free(&g->x, a);
    }
    unet_pass_end(&p);
    unet_context_free(context);
    params_unprepare(&t, unet_trunk_visit);
    unet_trunk_release(&t);
    checkpoint_close(file);
    dr_free(added);
    skips_release(&s);
    fixture_close(&f);
}

static void a_trunk_runs_alone(void **state)
{
    (void)state;
    for_each_set(check_trunk);
}

/* ---- extra channels ---- */

static void check_extra(struct odd *g, const char *kernels)
{
    enum { CHANNELS = 9, EXTRA = 5, PLANE = H * W };
    static struct made m;
    struct dr_error err = { 0 };
    struct unet_arch arch = *unet_arch(g->unet);
    struct unet *u;
    struct unet_context *context;
    float *in = normals(CHANNELS * PLANE, 21), *text = normals(19 * ODD_CONTEXT, 22);
    float *added = normals(ODD_POOLED + ODD_IDS, 23), split[SIZE], whole[SIZE];
    arch.in_channels = CHANNELS;
    must(unet_new(&arch, &u, &err), &err);
    must(unet_visit(u, &(struct visitor){ .param = make_param, .ctx = &m }), &err);
    must(params_prepare(u, unet_visit, g->be, NULL, &err), &err);
    must(unet_context_new(u, &g->x, text, 19, added, added + ODD_POOLED, &context, &err), &err);
    struct unet_conditioning plain = unet_prompt(context), extra = plain;
    extra.extra = in + (CHANNELS - EXTRA) * PLANE;
    extra.n_extra = EXTRA;
    const struct unet_row rows[] = { { in, 500, &plain, whole, NULL },
                                     { in, 500, &extra, split, NULL } };
    must(unet_forward(u, &g->x, rows, 2, H, W, &err), &err);
    if (memcmp(split, whole, sizeof whole))
        fail_msg("%s: extra channels are not those of the input", kernels);
    extra.extra = in;
    must(unet_forward(u, &g->x, rows, 2, H, W, &err), &err);
    assert_true(test_rel_l2(split, whole, SIZE) > 1e-4);
    extra.n_extra = CHANNELS;
    assert_int_equal(unet_forward(u, &g->x, rows, 2, H, W, &err), DR_EINVAL);
    unet_context_free(context);
    unet_free(u);
    made_release(&m);
    dr_free(in);
    dr_free(text);
    dr_free(added);
}

static void extra_channels_follow_the_latent(void **state)
{
    (void)state;
    for_each_set(check_extra);
}

/* ---- texts of several chunks ---- */

/* 77 tokens, and the same two and three times: every softmax is over copies, so the attention is
 * that of the first. */
static void check_chunks(struct odd *g, const char *kernels)
{
    enum { CHUNK = 77 };
    struct dr_error err = { 0 };
    struct fixture f;
    struct unet_context *context[ROWS];
    struct unet_conditioning c[ROWS];
    struct unet_row rows[ROWS];
    float *text = normals(ROWS * CHUNK * ODD_CONTEXT, 31);
    fixture_open(&f, g);
    for (int i = 0; i < ROWS; i++) {
        memcpy(text + i * CHUNK * ODD_CONTEXT, text, CHUNK * ODD_CONTEXT * sizeof *text);
        context[i] = context_of(g, text, (i + 1) * CHUNK);
        c[i] = unet_prompt(context[i]);
        rows[i] = (struct unet_row){ f.latent, 500, &c[i], f.pred + (ROWS + i) * SIZE, NULL };
    }
    must(unet_forward(g->unet, &g->x, rows, ROWS, H, W, &err), &err);
    for (int i = 0; i < ROWS; i++) {
        assert_memory_equal(predict(&f, &c[i], 0), rows[i].pred, SIZE * sizeof(float));
        double d = test_rel_l2(rows[i].pred, rows[0].pred, SIZE);
        print_message("  %-8s %d tokens off by %.2e\n", kernels, (i + 1) * CHUNK, d);
        assert_true(d <= tolerance_of(g));
    }
    for (int i = 0; i < ROWS; i++)
        unet_context_free(context[i]);
    dr_free(text);
    fixture_close(&f);
}

static void a_text_has_any_number_of_chunks(void **state)
{
    (void)state;
    for_each_set(check_chunks);
}

/* ---- rules ---- */

/* A row with everything: two texts, one masked, and residuals. */
static void everything(struct odd *g, struct skips *s, size_t *ret_peak)
{
    struct fixture f;
    struct act acts[CONCATENATED];
    struct workspace *ws;
    struct unet_residuals r;
    fixture_open(&f, g);
    struct unet_conditioning c = both(&f, 0.5, 0.75, f.mask);
    make_residuals(g, s, &ws, acts, &r);
    c.residuals[c.n_residuals++] = &r;
    workspace_reset(g->ws);
    predict(&f, &c, 0);
    *ret_peak = workspace_peak(g->ws);
    workspace_free(ws);
    fixture_close(&f);
}

static void a_plan_is_exact(void **state)
{
    (void)state;
    struct odd real, plan;
    struct skips s;
    struct fixture f;
    size_t peak, planned;
    odd_must(&real, ODD_CPU, NULL, 2);
    odd_must(&plan, ODD_PLAN, NULL, 2);
    fixture_open(&f, &real);
    struct unet_conditioning c = unet_prompt(f.a);
    watch(&real, &s, false);
    predict(&f, &c, 0);
    unwatch(&real, &s);
    everything(&real, &s, &peak);
    everything(&plan, &s, &planned);
    assert_true(peak > 0);
    assert_int_equal(planned, peak);
    skips_release(&s);
    fixture_close(&f);
    odd_close(&plan);
    odd_close(&real);
}

static void wrong_rows_are_errors(void **state)
{
    (void)state;
    struct odd g;
    struct dr_error err = { 0 };
    struct fixture f;
    odd_must(&g, ODD_CPU, NULL, 1);
    fixture_open(&f, &g);
    struct unet_residuals few = { .n_skips = 2, .weight = 1 };
    struct unet_conditioning c = { 0 };
    const struct unet_row row = { f.latent, 500, &c, f.pred, NULL };
    assert_int_equal(unet_forward(g.unet, &g.x, &row, 1, H, W, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "row 0: 0 blocks"));
    c = unet_prompt(f.a);
    c.n_blocks = UNET_BLOCKS + 1;
    assert_int_equal(unet_forward(g.unet, &g.x, &row, 1, H, W, &err), DR_EINVAL);
    c = both(&f, 1, NAN, NULL);
    assert_int_equal(unet_forward(g.unet, &g.x, &row, 1, H, W, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "weight"));
    c = unet_prompt(f.a);
    c.residuals[c.n_residuals++] = &few;
    assert_int_equal(unet_forward(g.unet, &g.x, &row, 1, H, W, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "2 skips"));
    c.n_residuals = UNET_RESIDUALS + 1;
    assert_int_equal(unet_forward(g.unet, &g.x, &row, 1, H, W, &err), DR_EINVAL);
    assert_int_equal(workspace_used(g.ws), 0);
    fixture_close(&f);
    odd_close(&g);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(attention_over_sets_is_the_formula),
    cmocka_unit_test(weights_and_masks_count),
    cmocka_unit_test(rows_of_all_kinds_go_together),
    cmocka_unit_test(residuals_are_added_to_skips_and_middle),
    cmocka_unit_test(a_trunk_runs_alone),
    cmocka_unit_test(extra_channels_follow_the_latent),
    cmocka_unit_test(a_text_has_any_number_of_chunks),
    cmocka_unit_test(a_plan_is_exact),
    cmocka_unit_test(wrong_rows_are_errors),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
