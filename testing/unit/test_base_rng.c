/* Random numbers against torch's, the standard's and the Random123 authors' own. */
#include "testing/helpers/test.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/rng.h"

enum { LARGEST = 90000 };

/* ISO C++ [rand.predef]: the 10,000th word of a default-seeded mt19937. */
static void mersenne_twister_is_the_standard_one(void **state)
{
    (void)state;
    struct dr_rng g;
    dr_rng_seed(&g, DR_RNG_CPU, 5489);
    uint32_t word = 0;
    for (int i = 0; i < 10000; i++)
        word = dr_rng_u32(&g);
    assert_int_equal(word, 4123659995u);
}

/* Known answers published with Random123 (Salmon et al. 2011). */
static void philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], words[4];
    } known[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { ~0u, ~0u, ~0u, ~0u },
          { ~0u, ~0u },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t words[4];
        dr_philox(known[i].counter, known[i].key, words);
        assert_memory_equal(words, known[i].words, sizeof words);
    }
}

static void check_case(const json_t *c, float *drawn)
{
    const char *kind = NULL;
    json_t *calls = NULL, *values = NULL;
    int64_t seed = 0, stride = 0;
    assert_int_equal(jx_get_string(c, "case", "kind", &kind, NULL), 0);
    assert_int_equal(jx_get_int(c, "case", "seed", 0, INT64_MAX, &seed, NULL), 0);
    assert_int_equal(jx_get_int(c, "case", "stride", 1, LARGEST, &stride, NULL), 0);
    assert_int_equal(jx_get_array(c, "case", "calls", &calls, NULL), 0);
    assert_int_equal(jx_get_array(c, "case", "values", &values, NULL), 0);
    struct dr_rng g;
    dr_rng_seed(&g, strcmp(kind, "cpu") ? DR_RNG_CUDA : DR_RNG_CPU, (uint64_t)seed);
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(calls); i++) {
        size_t count = (size_t)json_integer_value(json_array_get(calls, i));
        assert_true(n + count <= LARGEST);
        dr_rng_normal(&g, drawn + n, count);
        n += count;
    }
    assert_int_equal((n + (size_t)stride - 1) / (size_t)stride, json_array_size(values));
    for (size_t i = 0; i < json_array_size(values); i++) {
        double expected = json_number_value(json_array_get(values, i));
        double got = drawn[i * (size_t)stride];
        if (!(fabs(got - expected) <= 2e-6))
            fail_msg("%s seed %lld, value %zu: %.9g, expected %.9g", kind, (long long)seed,
                     i * (size_t)stride, got, expected);
    }
}

static void normals_are_torchs(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    json_t *doc = NULL, *cases = NULL;
    struct dr_error err;
    if (jx_parse_file(test_source("testing/golden/rng/normals.json"), NULL, &doc, &err))
        fail_msg("%s", err.text);
    assert_int_equal(jx_get_array(doc, "", "cases", &cases, NULL), 0);
    assert_true(json_array_size(cases) >= 20);
    float *drawn = dr_malloc(DR_TAG_TEST, LARGEST * sizeof *drawn);
    assert_non_null(drawn);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i), drawn);
    dr_free(drawn);
    json_decref(doc);
    assert_int_equal(test_blocks(), blocks);
}

static void state_is_flat(void **state)
{
    (void)state;
    for (int kind = DR_RNG_CPU; kind <= DR_RNG_CUDA; kind++) {
        struct dr_rng g, saved;
        float first[48], again[48];
        memset(&g, 0xaa, sizeof g);
        dr_rng_seed(&g, kind, 99);
        dr_rng_normal(&g, first, 3); /* leaves a cached value behind */
        memcpy(&saved, &g, sizeof g);
        dr_rng_normal(&g, first, 5);
        dr_rng_normal(&g, first + 5, 43);
        dr_rng_normal(&saved, again, 5);
        dr_rng_normal(&saved, again + 5, 43);
        assert_memory_equal(first, again, sizeof first);
        assert_memory_equal(&g, &saved, sizeof g);
    }
}

static void seeding_leaves_no_garbage(void **state)
{
    (void)state;
    struct dr_rng a, b;
    memset(&a, 0x55, sizeof a);
    memset(&b, 0xcc, sizeof b);
    dr_rng_seed(&a, DR_RNG_CPU, 3);
    dr_rng_seed(&b, DR_RNG_CPU, 3 + ((uint64_t)1 << 32));
    a.seed = b.seed; /* torch reads the low 32 bits only */
    assert_memory_equal(&a, &b, sizeof a);
    dr_rng_normal(&a, NULL, 0);
    assert_memory_equal(&a, &b, sizeof a);
}

static void cuda_calls_use_up_four(void **state)
{
    (void)state;
    struct dr_rng g;
    float v[32];
    dr_rng_seed(&g, DR_RNG_CUDA, 8);
    dr_rng_normal(&g, v, 32);
    dr_rng_normal(&g, v, 1);
    assert_int_equal(g.offset, 8);
}

static void entropy_is_a_seed(void **state)
{
    (void)state;
    uint64_t all = 0;
    bool differs = false;
    for (int i = 0; i < 64; i++) {
        uint64_t a = dr_rng_entropy();
        differs |= a != dr_rng_entropy();
        all |= a;
    }
    assert_true(differs);
    assert_true(all == UINT32_MAX); /* every bit of 32 is drawn, and none above */
}

/* A part is that of the whole, and leaves the generator where the whole does. */
static void parts_are_of_the_whole(void **state)
{
    (void)state;
    static const size_t sizes[][2] = { { 3, 2 }, { 16, 3 }, { 20, 3 }, { 676, 2 }, { 13, 5 } };
    float whole[1400], part[700], next, expected;
    for (int kind = DR_RNG_CPU; kind <= DR_RNG_CUDA; kind++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t n = sizes[i][0], count = sizes[i][1];
            struct dr_rng g, h;
            dr_rng_seed(&g, (enum dr_rng_kind)kind, 5);
            dr_rng_normal(&g, whole, n * count);
            dr_rng_normal(&g, &expected, 1);
            for (size_t k = 0; k < count; k++) {
                dr_rng_seed(&h, (enum dr_rng_kind)kind, 5);
                dr_rng_normal_part(&h, part, k * n, n, n * count);
                dr_rng_normal(&h, &next, 1);
                assert_memory_equal(part, whole + k * n, n * sizeof *part);
                assert_true(next == expected);
            }
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(parts_are_of_the_whole),
    cmocka_unit_test(mersenne_twister_is_the_standard_one),
    cmocka_unit_test(philox_known_answers),
    cmocka_unit_test(normals_are_torchs),
    cmocka_unit_test(state_is_flat),
    cmocka_unit_test(seeding_leaves_no_garbage),
    cmocka_unit_test(cuda_calls_use_up_four),
    cmocka_unit_test(entropy_is_a_seed),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
