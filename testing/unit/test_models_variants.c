/* test_models_variants.c - how variants are made and kept: stopped, short of memory, planned,
 * beside a pack, in the cache. */
#include "models/adapters/variant_cache.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "backend/cache/pack.h"
#include "testing/backends/packing.h"
#include "testing/helpers/changed_model.h"

static void must(int r, const struct dr_error *err)
{
    if (r)
        fail_msg("%s", err->text);
}

/* ---- kinds of tests ---- */

static int no_check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    (void)d;
    (void)shape;
    (void)err;
    return 0;
}

/* Adds to the first element, and counts how often. */
static int applied;

static int add_one(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    (void)err;
    applied++;
    t->value[0] += (float)d->strength;
    return 0;
}

static const struct delta_kind counts = {
    .name = "counts", .adds = true, .check = no_check, .apply = add_one
};

/* Stops the making of the variant. */
static int set_stop(const struct weight_delta *d, const struct delta_target *t,
                    struct dr_error *err)
{
    (void)err;
    (void)t;
    atomic_store((atomic_int *)d->tensor[0].data, 1);
    return 0;
}

static const struct delta_kind stops = { .name = "stops", .check = no_check, .apply = set_stop };

/* ---- stopped, short of memory, planned ---- */

enum { H = 4, W = 4, N = 4 * H * W };

static void forward(struct odd *m, const struct weight_variant *v, float pred[N])
{
    struct dr_error err = { 0 };
    float latent[N], text[2 * ODD_CONTEXT], pooled[ODD_POOLED], ids[ODD_IDS] = { 1, 2, 3 };
    struct unet_context *context;
    struct exec x = m->x;
    x.variant = v;
    for (int i = 0; i < N; i++)
        latent[i] = (float)(i % 7) - 3;
    for (int i = 0; i < 2 * ODD_CONTEXT; i++)
        text[i] = (float)(i % 5) - 2;
    for (int i = 0; i < ODD_POOLED; i++)
        pooled[i] = (float)(i % 3) - 1;
    must(unet_context_new(m->unet, &x, text, 2, pooled, ids, &context, &err), &err);
    const struct unet_conditioning prompt = unet_prompt(context);
    struct unet_row row = { latent, 500, &prompt, pred, NULL };
    must(unet_forward(m->unet, &x, &row, 1, H, W, &err), &err);
    unet_context_free(context);
}

static struct variant_spec spec_of(struct odd *m, const struct changes *c)
{
    return (struct variant_spec){ .network = m->unet,
                                  .visit = unet_visit,
                                  .be = m->be,
                                  .deltas = c->list,
                                  .n = c->n,
                                  .stop = &m->stop };
}

static void some_changes(struct odd *m, struct changes *c)
{
    c->n = 0;
    changes_low_rank(c, m->unet, unet_visit,
                     "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight", 3);
    changes_low_rank(c, m->unet, unet_visit, "mid_block.resnets.1.conv1.weight", 2);
    changes_difference(c, m->unet, unet_visit, "up_blocks.0.resnets.0.norm1.weight");
}

/* A stop while the parameter of these deltas, the last of the network's, is changed. */
static void stop_before(struct odd *m, const struct weight_delta *d)
{
    struct dr_error err = { 0 };
    struct changes c;
    struct weight_variant *v;
    some_changes(m, &c);
    struct weight_delta stop = { .kind = &stops, .param = d->param, .strength = 1 };
    stop.tensor[0].data = &m->stop;
    c.list[c.n++] = &stop;
    c.list[c.n++] = d;
    struct variant_spec spec = spec_of(m, &c);
    uint64_t blocks = test_blocks();
    assert_int_equal(weight_variant_open(&spec, &v, &err), DR_ECANCELED);
    assert_non_null(strstr(err.text, d->param));
    assert_int_equal(test_blocks(), blocks);
    assert_int_equal(weight_variant_open(&spec, &v, &err), DR_ECANCELED); /* from the start */
    assert_int_equal(test_blocks(), blocks);
    atomic_store(&m->stop, 0);
    c.n -= 2;
    changes_free(&c);
}

static void a_stop_leaves_the_base(void **state)
{
    (void)state;
    static float base[N], now[N];
    struct odd m;
    struct changes last = { .n = 0 };
    odd_must(&m, ODD_CPU, NULL, 2);
    changes_low_rank(&last, m.unet, unet_visit, "conv_out.weight", 2);
    changes_difference(&last, m.unet, unet_visit, "conv_out.bias");
    forward(&m, NULL, base);
    for (size_t i = 0; i < last.n; i++)
        stop_before(&m, last.list[i]);
    forward(&m, NULL, now);
    assert_memory_equal(now, base, sizeof now);
    changes_free(&last);
    odd_close(&m);
}

static int open_and_close(void *ctx, struct dr_error *err)
{
    const struct variant_spec *spec = ctx;
    struct variant_cache *c;
    const struct weight_variant *v = NULL;
    int r = variant_cache_new(SIZE_MAX, &c, err);
    if (r)
        return r;
    r = variant_cache_acquire(c, spec, &v, err);
    variant_cache_release(c, v);
    variant_cache_free(c);
    return r;
}

static void a_lack_of_memory_leaves_the_base(void **state)
{
    (void)state;
    static float base[N], now[N];
    const char *const sets[] = { "scalar", PACKING_SET };
    packing_set_add();
    for (int i = 0; i < 2; i++) {
        struct odd m;
        struct changes c;
        odd_must(&m, ODD_CPU, sets[i], 1);
        some_changes(&m, &c);
        struct variant_spec spec = spec_of(&m, &c);
        forward(&m, NULL, base);
        test_oom_walk(open_and_close, &spec);
        forward(&m, NULL, now);
        assert_memory_equal(now, base, sizeof now);
        changes_free(&c);
        odd_close(&m);
    }
}

static void a_plan_says_what_a_variant_takes(void **state)
{
    (void)state;
    float pred[N];
    const char *const sets[] = { "scalar", PACKING_SET };
    packing_set_add();
    for (int i = 0; i < 2; i++) {
        struct odd real, plan;
        struct changes c;
        struct dr_error err = { 0 };
        struct weight_variant *v, *planned;
        odd_must(&real, ODD_CPU, sets[i], 1);
        odd_must(&plan, ODD_PLAN, sets[i], 1);
        some_changes(&real, &c);
        struct variant_spec specs[] = { spec_of(&real, &c), spec_of(&plan, &c) };
        struct dr_alloc_stats before = dr_alloc_stats(DR_TAG_WEIGHTS);
        must(weight_variant_open(&specs[1], &planned, &err), &err);
        assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, before.bytes);
        must(weight_variant_open(&specs[0], &v, &err), &err);
        size_t bytes = dr_alloc_stats(DR_TAG_WEIGHTS).bytes - before.bytes;
        assert_true(bytes > 0);
        assert_int_equal(weight_variant_facts(planned)->bytes, bytes);
        assert_int_equal(weight_variant_facts(v)->bytes, bytes);
        assert_int_equal(weight_variant_facts(v)->layers, 3);
        forward(&plan, planned, pred);
        struct plan_totals of_variant = backend_plan_totals(plan.be);
        backend_plan_reset(plan.be);
        forward(&plan, NULL, pred);
        assert_true(of_variant.flops == backend_plan_totals(plan.be).flops);
        weight_variant_close(v);
        weight_variant_close(planned);
        changes_free(&c);
        odd_close(&plan);
        odd_close(&real);
    }
}

/* Making a variant reads and writes the backend's buffers by its calls only. */
static void making_touches_no_buffer(void **state)
{
    (void)state;
    static float pred[2][N];
    for (int i = 0; i < 2; i++) {
        struct odd m;
        struct changes c;
        struct dr_error err = { 0 };
        struct weight_variant *v;
        odd_must(&m, i ? ODD_GUARDED : ODD_CPU, NULL, 2);
        some_changes(&m, &c);
        struct variant_spec spec = spec_of(&m, &c);
        must(weight_variant_open(&spec, &v, &err), &err);
        forward(&m, v, pred[i]);
        weight_variant_close(v);
        changes_free(&c);
        odd_close(&m);
    }
    assert_memory_equal(pred[0], pred[1], sizeof pred[0]);
}

/* ---- the pack ---- */

static size_t read_whole(const char *path, unsigned char *dst, size_t most)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(dst, 1, most, f);
    assert_true(n > 0 && n < most);
    fclose(f);
    return n;
}

static struct pack *pack_of(struct odd *m, const char *path)
{
    struct dr_error err = { 0 };
    struct params_bytes sum = { 0 };
    struct pack *pack;
    params_release(m->unet, unet_visit, false);
    params_unprepare(m->unet, unet_visit);
    must(params_bytes(m->unet, unet_visit, m->be, "unet", &sum, &err), &err);
    struct pack_spec spec = { "key", sum.blobs, sum.bytes, sum.largest };
    must(pack_create(path, &spec, &pack, &err), &err);
    struct params_packing how = { .pack = pack, .prefix = "unet" };
    must(params_prepare_in(m->unet, unet_visit, m->be, &how, &err), &err);
    must(pack_finish(pack, &err), &err);
    must(params_acquire(m->unet, unet_visit, &err), &err);
    return pack;
}

static void the_pack_is_never_written(void **state)
{
    (void)state;
    enum { MOST = 8 << 20 };
    static unsigned char before[MOST], after[MOST];
    static float base[N], now[N], changed[N], private_base[N];
    struct odd m;
    struct changes c;
    struct dr_error err = { 0 };
    struct weight_variant *v;
    struct stat first, second;
    char path[300];
    packing_set_add();
    snprintf(path, sizeof path, "%s/weights.pack", test_dir());
    odd_must(&m, ODD_CPU, PACKING_SET, 2);
    some_changes(&m, &c);
    struct variant_spec spec = spec_of(&m, &c);
    forward(&m, NULL, private_base);
    struct pack *pack = pack_of(&m, path);
    size_t n = read_whole(path, before, MOST);
    assert_int_equal(stat(path, &first), 0);
    forward(&m, NULL, base);
    assert_memory_equal(base, private_base, sizeof base);
    must(weight_variant_open(&spec, &v, &err), &err);
    forward(&m, v, changed);
    assert_memory_not_equal(changed, base, sizeof base);
    assert_int_equal(read_whole(path, after, MOST), n);
    assert_memory_equal(before, after, n);
    weight_variant_close(v);
    assert_int_equal(read_whole(path, after, MOST), n);
    assert_memory_equal(before, after, n);
    assert_int_equal(stat(path, &second), 0);
    assert_memory_equal(&first.st_mtim, &second.st_mtim, sizeof first.st_mtim);
    assert_memory_equal(&first.st_ctim, &second.st_ctim, sizeof first.st_ctim);
    assert_true(pack_current(pack));
    must(pack_check(pack, &err), &err);
    forward(&m, NULL, now);
    assert_memory_equal(now, base, sizeof base);
    changes_free(&c);
    odd_close(&m);
    pack_close(pack);
}

/* ---- the cache ---- */

/* A set with one delta, so that each set is applied once when it is made. */
struct set {
    struct weight_delta delta;
    const struct weight_delta *list[1];
};

static struct variant_spec set_init(struct set *s, struct odd *m, double strength)
{
    s->delta = (struct weight_delta){ .kind = &counts,
                                      .param = "mid_block.resnets.0.conv1.weight",
                                      .strength = strength };
    s->list[0] = &s->delta;
    return (struct variant_spec){
        .network = m->unet, .visit = unet_visit, .be = m->be, .deltas = s->list, .n = 1
    };
}

static const struct weight_variant *acquire(struct variant_cache *c,
                                            const struct variant_spec *spec)
{
    struct dr_error err = { 0 };
    const struct weight_variant *v;
    must(variant_cache_acquire(c, spec, &v, &err), &err);
    return v;
}

static void the_cache_finds_sets_again(void **state)
{
    (void)state;
    enum { SETS = 3 };
    struct odd m;
    struct set set[SETS];
    struct variant_spec spec[SETS];
    struct variant_facts facts;
    struct variant_cache *c;
    struct dr_error err = { 0 };
    const struct weight_variant *v[SETS], *again;
    odd_must(&m, ODD_CPU, "scalar", 1);
    for (int i = 0; i < SETS; i++)
        spec[i] = set_init(&set[i], &m, 1 + i);
    must(weight_variant_check(&spec[0], &facts, &err), &err);
    size_t before = dr_alloc_stats(DR_TAG_WEIGHTS).bytes;
    must(variant_cache_new(2 * facts.bytes, &c, &err), &err);
    applied = 0;
    for (int round = 0; round < 3; round++) /* two alternate */
        for (int i = 0; i < 2; i++)
            variant_cache_release(c, acquire(c, &spec[i]));
    assert_int_equal(applied, 2);
    v[0] = acquire(c, &spec[0]);
    again = acquire(c, &spec[0]); /* shared */
    assert_ptr_equal(again, v[0]);
    assert_int_equal(applied, 2);
    v[2] = acquire(c, &spec[2]); /* for which the second goes, not the one in use */
    assert_int_equal(applied, 3);
    assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, before + 2 * facts.bytes);
    v[1] = acquire(c, &spec[1]); /* over the budget: all are in use */
    assert_int_equal(applied, 4);
    assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, before + 3 * facts.bytes);
    variant_cache_release(c, v[0]); /* still used once */
    assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, before + 3 * facts.bytes);
    variant_cache_release(c, again);
    assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, before + 2 * facts.bytes);
    variant_cache_release(c, v[1]);
    variant_cache_release(c, v[2]);
    variant_cache_release(c, acquire(c, &spec[2]));
    variant_cache_release(c, acquire(c, &spec[1]));
    assert_int_equal(applied, 4);
    variant_cache_release(c, acquire(c, &spec[0])); /* the third was used less recently */
    assert_int_equal(applied, 5);
    variant_cache_release(c, acquire(c, &spec[1]));
    assert_int_equal(applied, 5);
    set[0].delta.strength = 0;
    assert_null(acquire(c, &spec[0]));
    variant_cache_release(c, NULL);
    variant_cache_free(c);
    assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, before);
    odd_close(&m);
}

/* A set in a cache for one, then another, which takes over the first one's memory. */
static int replace_a_set(void *ctx, struct dr_error *err)
{
    const struct variant_spec *spec = ctx;
    struct variant_cache *c;
    const struct weight_variant *v = NULL;
    struct variant_facts facts;
    int r = weight_variant_check(&spec[0], &facts, err);
    if (!r)
        r = variant_cache_new(facts.bytes, &c, err);
    for (int i = 0, made = !r; made && i < 2; i++) {
        v = NULL;
        if (!r)
            r = variant_cache_acquire(c, &spec[i], &v, err);
        variant_cache_release(c, v);
        if (i)
            variant_cache_free(c);
    }
    return r;
}

/* With the same bits as in memory of its own, whether it needs more of it or less. */
static void a_set_takes_the_place_of_another(void **state)
{
    (void)state;
    static float fresh[N], taken[N];
    struct odd m;
    struct changes sets[2] = { { .n = 0 }, { .n = 0 } };
    struct dr_error err = { 0 };
    odd_must(&m, ODD_CPU, NULL, 2);
    some_changes(&m, &sets[0]);
    changes_difference(&sets[1], m.unet, unet_visit, "mid_block.resnets.1.conv2.weight");
    for (int i = 0; i < 2; i++) {
        struct variant_spec specs[] = { spec_of(&m, &sets[1 - i]), spec_of(&m, &sets[i]) };
        struct weight_variant *v, *old, *other;
        size_t before = dr_alloc_stats(DR_TAG_WEIGHTS).bytes;
        must(weight_variant_open(&specs[1], &v, &err), &err);
        forward(&m, v, fresh);
        weight_variant_close(v);
        must(weight_variant_open(&specs[0], &old, &err), &err);
        must(weight_variant_open_over(&specs[1], old, &other, &err), &err);
        forward(&m, other, taken);
        assert_memory_equal(taken, fresh, sizeof fresh);
        assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes,
                         before + weight_variant_facts(other)->bytes);
        weight_variant_close(other);
        test_oom_walk(replace_a_set, specs);
        assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, before);
    }
    changes_free(&sets[0]);
    changes_free(&sets[1]);
    odd_close(&m);
}

static void without_a_budget_nothing_is_kept(void **state)
{
    (void)state;
    struct odd m, other;
    struct set set;
    struct variant_cache *c;
    struct dr_error err = { 0 };
    odd_must(&m, ODD_CPU, "scalar", 1);
    odd_must(&other, ODD_CPU, "scalar", 1);
    struct variant_spec spec = set_init(&set, &m, 1), of_other = set_init(&set, &other, 1);
    size_t before = dr_alloc_stats(DR_TAG_WEIGHTS).bytes;
    must(variant_cache_new(0, &c, &err), &err);
    const struct weight_variant *v = acquire(c, &spec), *w = acquire(c, &of_other);
    assert_ptr_not_equal(v, w); /* the same set, of another network */
    must(weight_variant_fits(v, m.unet, &err), &err);
    must(weight_variant_fits(w, other.unet, &err), &err);
    variant_cache_release(c, v);
    variant_cache_release(c, w);
    assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, before);
    set.delta.param = "nothing";
    assert_int_equal(variant_cache_acquire(c, &spec, &v, &err), DR_EINVAL);
    variant_cache_free(c);
    odd_close(&other);
    odd_close(&m);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_leaves_the_base),
        cmocka_unit_test(a_lack_of_memory_leaves_the_base),
        cmocka_unit_test(a_plan_says_what_a_variant_takes),
        cmocka_unit_test(making_touches_no_buffer),
        cmocka_unit_test(the_pack_is_never_written),
        cmocka_unit_test(the_cache_finds_sets_again),
        cmocka_unit_test(a_set_takes_the_place_of_another),
        cmocka_unit_test(without_a_budget_nothing_is_kept),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
