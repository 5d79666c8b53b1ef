/* test_backend_pack_weights.c - what lies in packs: a weight that is made there and found again,
 * and the packed forms, word by word and by their sums. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "backend/device.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/panel.h"
#include "backend/cache/pack.h"
#include "backend/vtable.h"
#include "base/alloc.h"
#include "base/fs.h"

static const struct host_weight *host_of(const struct weight *w)
{
    return &((const struct cpu_weight *)w->own)->host;
}

static void a_weight_lives_in_its_pack(void **state)
{
    (void)state;
    enum { C = 6 };
    const float scale[C] = { 1, 2, 3, 4, 5, 6 }, shift[C] = { -1, -2, -3, -4, -5, -6 };
    const struct weight_source s[2] = { { .name = "scale", .data = scale, .shape = SHAPE1(C) },
                                        { .name = "shift", .data = shift, .shape = SHAPE1(C) } };
    const struct weight_desc desc = { WEIGHT_NORM, .out = C, .bias = true, .parts = 1 };
    char path[DR_PATH_MAX];
    struct backend *be;
    struct pack *p;
    struct weight *w;
    snprintf(path, sizeof path, "%s/one", test_dir());
    assert_int_equal(
        backend_open(&(struct backend_options){ .kernels = "scalar", .threads = 1 }, &be, NULL), 0);
    struct weight_bytes bytes = weight_bytes(be, &desc);
    assert_int_equal(bytes.vectors, 128);
    assert_int_equal(bytes.packed, 0);
    struct pack_spec norm = { .key = "k", .blobs = 1, .bytes = 128, .largest = 128 };
    assert_int_equal(pack_create(path, &norm, &p, NULL), 0);
    size_t before = dr_alloc_stats(DR_TAG_WEIGHTS).bytes;
    for (int start = 0; start < 2; start++) { /* made, then found */
        assert_int_equal(weight_prepare_in(be, p, "norm", &desc, s, 2, &w, NULL), 0);
        assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, before);
        assert_memory_equal(host_of(w)->scale, scale, sizeof scale);
        assert_memory_equal(host_of(w)->bias, shift, sizeof shift);
        assert_false(weight_reads_source(w, 0) || weight_reads_source(w, 1));
        weight_release(w, true);
        assert_memory_equal(host_of(w)->bias, shift, sizeof shift);
        weight_free(w);
        if (!start)
            assert_int_equal(pack_finish(p, NULL), 0);
        pack_close(start ? NULL : p);
        if (!start)
            assert_int_equal(pack_open(path, "k", &p, NULL), 0);
        before = dr_alloc_stats(DR_TAG_WEIGHTS).bytes;
    }
    w = NULL;
    assert_int_equal(weight_prepare_in(be, p, "other", &desc, s, 2, &w, NULL), DR_EFORMAT);
    assert_null(w);
    pack_close(p);
    backend_close(be);
}

/* Packs of earlier builds are used as long as the version is the same: whoever changes how a set
 * packs raises BACKEND_LAYOUT_VERSION and writes the new sums here. */
static void packed_forms_are_those_of_the_version(void **state)
{
    (void)state;
    static const struct {
        struct weight_desc desc;
        uint64_t sum;
    } cases[] = {
        { { WEIGHT_LINEAR, .in = 70, .out = 150, .parts = 1 }, UINT64_C(0xb9283ea3a4dd86e7) },
        { { WEIGHT_LINEAR, .in = 1300, .out = 128, .parts = 1, .gated = true },
          UINT64_C(0xfea41e85e24f5571) },
        { { WEIGHT_CONV, .in = 67, .out = 40, .kernel = 3, .parts = 1 },
          UINT64_C(0xcf33cf17cac74043) },
    };
    static float values[1300 * 128];
    int differing = 0;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        values[i] = (float)(int)(i * 2654435761u % 4001) / 2000 - 1;
    assert_int_equal(BACKEND_LAYOUT_VERSION, 7);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct weight_desc *d = &cases[i].desc;
        struct weight_source source;
        struct host_weight w = { .desc = d, .source = &source, .n_sources = 1 };
        source = (struct weight_source){ .data = values,
                                         .shape = d->kernel ? SHAPE4(d->out, d->in, 3, 3)
                                                            : SHAPE2(d->out, d->in) };
        size_t bytes = packing_bf16_pairs.bytes(d);
        void *dst = dr_malloc(DR_TAG_TEST, bytes);
        assert_non_null(dst);
        for (int64_t piece = 0; piece < packing_bf16_pairs.pieces(d); piece++)
            packing_bf16_pairs.piece(&w, piece, dst);
        uint64_t sum = XXH3_64bits(dst, bytes);
        dr_free(dst);
        if (sum != cases[i].sum)
            print_error("case %zu: 0x%016llx\n", i, (unsigned long long)sum);
        differing += sum != cases[i].sum;
    }
    assert_int_equal(differing, 0);
}

/* Every 16-bit value, and float32s of all exponents, against the conversions that define it. */
static void narrowing_is_that_of_the_types(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    static uint16_t values[N], ours[N], theirs[N];
    static uint32_t words[N];
    static float wide[N];
    static const enum dtype types[] = { DTYPE_F16, DTYPE_BF16, DTYPE_F32, DTYPE_F8_E4M3,
                                        DTYPE_F8_E5M2 };
    for (uint32_t i = 0; i < N; i++) {
        values[i] = (uint16_t)i;
        words[i] = i << 16 | (i * 40503u >> 3 & 0xffff);
        if (i % 4 == 0)
            words[i] = i << 16 | 0x8000; /* a tie */
    }
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        const void *src = types[t] == DTYPE_F32 ? (const void *)words : values;
        for (int64_t n = N; n > N - 3; n--) {
            memset(ours, 0x55, sizeof ours);
            dtype_to_f32(wide, src, types[t], n);
            dtype_from_f32(theirs, DTYPE_BF16, wide, n);
            panel_narrow(ours, src, types[t], n);
            assert_memory_equal(ours, theirs, (size_t)n * 2);
        }
    }
}

/* Word by word from the description of the layout in panel.h. */
static void packed_words_are_where_the_layout_says(void **state)
{
    (void)state;
    static const struct weight_desc descs[] = {
        { WEIGHT_LINEAR, .in = 37, .out = 150, .parts = 3 },
        { WEIGHT_LINEAR, .in = 1300, .out = 66, .parts = 1, .gated = true },
        { WEIGHT_CONV, .in = 131, .out = 40, .kernel = 3, .parts = 1 },
        { WEIGHT_CONV, .in = 4, .out = 8, .kernel = 1, .parts = 1 },
    };
    static uint16_t values[1300 * 66];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        values[i] = (uint16_t)(i * 2654435761u >> 7);
    for (size_t c = 0; c < sizeof descs / sizeof *descs; c++) {
        const struct weight_desc *d = &descs[c];
        struct panel_layout l = panel_layout(d, 2);
        struct weight_source source[3];
        struct host_weight w = { .desc = d, .source = source, .n_sources = d->parts };
        int64_t k = d->in * l.taps, rows[3] = { d->out, 0, 0 }, before = 0;
        if (d->parts == 3)
            rows[0] = 30, rows[1] = 70, rows[2] = 50;
        for (int i = 0; i < d->parts; i++) {
            source[i] = (struct weight_source){ .data = values + before * k,
                                                .dtype = DTYPE_F16,
                                                .shape = SHAPE2(rows[i], k) };
            before += rows[i];
        }
        size_t bytes = packing_bf16_pairs.bytes(d);
        uint32_t *dst = dr_malloc(DR_TAG_TEST, bytes);
        assert_non_null(dst);
        memset(dst, 0x5a, bytes);
        for (int64_t piece = 0; piece < packing_bf16_pairs.pieces(d); piece++)
            packing_bf16_pairs.piece(&w, piece, dst);
        for (int64_t panel = 0; panel < l.panels; panel++)
            for (int64_t column = 0, width = panel_width(&l, panel); column < width; column++) {
                int64_t output = panel * PANEL_COLUMNS + column, half = PANEL_COLUMNS / 2;
                bool there = output < d->out;
                if (d->gated) {
                    output = panel * half + column % half;
                    there = output < d->out / 2;
                    output += column < half ? 0 : d->out / 2;
                }
                for (int64_t channel = 0; channel < d->in + d->in % 2; channel++)
                    for (int64_t tap = 0; tap < l.taps; tap++) {
                        int64_t first = channel / l.channels * l.channels;
                        int64_t n = d->in - first < l.channels ? d->in - first : l.channels;
                        int64_t at = panel_at(&l, panel) + panel_block_at(&l, first, width) +
                                     (tap * ((n + 1) / 2) + (channel - first) / 2) * width + column;
                        uint16_t expected = 0;
                        if (there && channel < d->in)
                            panel_narrow(&expected, values + output * k + channel * l.taps + tap,
                                         DTYPE_F16, 1);
                        uint16_t got = (uint16_t)(dst[at] >> (channel % 2 ? 16 : 0));
                        if (got != expected)
                            fail_msg("case %zu: channel %lld, tap %lld, column %lld", c,
                                     (long long)channel, (long long)tap, (long long)column);
                    }
            }
        dr_free(dst);
    }
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_weight_lives_in_its_pack),
        cmocka_unit_test(packed_forms_are_those_of_the_version),
        cmocka_unit_test(narrowing_is_that_of_the_types),
        cmocka_unit_test(packed_words_are_where_the_layout_says),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
