/* test_models_gguf.c - the container: files of the reference's writer, and every way one can be
 * bad; both dialects of diffusion models. (Values of the types: test_tensor_blocks.c.) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/npy.h"
#include "models/clip_text.h"
#include "models/formats/classify.h"
#include "models/formats/gguf.h"
#include "models/unet.h"
#include "models/vae.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/changed_model.h"
#include "testing/helpers/gguf_writer.h"
#include "testing/helpers/model_access.h"
#include "testing/helpers/sgm_maker.h"
#include "testing/helpers/test.h"

static const char *temporary(const char *name)
{
    static char paths[4][600];
    static unsigned i;
    char *path = paths[i++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_dir(), name);
    return path;
}

static const char *metadata(const struct st_header *h, const char *key)
{
    for (size_t i = 0; i < h->n_metadata; i++)
        if (!strcmp(h->metadata[i].key, key))
            return h->metadata[i].value;
    return "(none)";
}

/* ---- the reference's file ---- */

static void expect_tensor(const struct safetensors *st, const char *name, enum dtype dtype,
                          struct shape shape)
{
    const struct st_tensor *t = st_find(&st->header, name);
    char text[100];
    if (!t || t->dtype != dtype || !shape_equal(&t->shape, &shape))
        fail_msg("%s: %s %s", name, t ? dtype_name(t->dtype) : "none",
                 t ? shape_text(&t->shape, text, sizeof text) : "");
}

static void written_by_the_reference(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } entries[] = {
        { "general.architecture", "sdxl" },
        { "general.alignment", "64" },
        { "a.uint8", "250" },
        { "a.int8", "-5" },
        { "a.uint16", "65000" },
        { "a.int16", "-300" },
        { "a.uint32", "4000000000" },
        { "a.int32", "-70000" },
        { "a.float32", "0.5" },
        { "a.bool", "true" },
        { "a.string", "n\xc3\xb3 one" },
        { "a.uint64", "1152921504606846976" },
        { "a.int64", "-1152921504606846976" },
        { "a.float64", "0.1" },
        { "a.strings", "(none)" },
    };
    struct safetensors st;
    struct dr_error err;
    uint64_t blocks = test_blocks();
    assert_int_equal(st_open(test_source("testing/golden/gguf/small.gguf"), &st, &err), 0);
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        assert_string_equal(metadata(&st.header, entries[i].key), entries[i].value);
    assert_int_equal(st.header.n_tensors, 14);
    expect_tensor(&st, "f32", DTYPE_F32, SHAPE1(5));
    expect_tensor(&st, "f16", DTYPE_F16, SHAPE2(7, 1));
    expect_tensor(&st, "bf16", DTYPE_BF16, SHAPE2(2, 3));
    expect_tensor(&st, "Q4_0", DTYPE_Q4_0, SHAPE2(3, 256));
    expect_tensor(&st, "Q6_K", DTYPE_Q6_K, SHAPE2(3, 256));
    expect_tensor(&st, "reshaped", DTYPE_Q8_0, SHAPE3(4, 2, 96));
    float values[6];
    dtype_to_f32(values, st_data(&st, st_find(&st.header, "f32")), DTYPE_F32, 5);
    assert_true(values[0] == 0 && values[4] == 4);
    dtype_to_f32(values, st_data(&st, st_find(&st.header, "bf16")), DTYPE_BF16, 6);
    assert_true(values[5] == 5);
    struct npy want;
    assert_int_equal(npy_load(test_source("testing/golden/gguf/Q8_0.values.npy"), &want, &err), 0);
    float got[768];
    dtype_read(got, st_data(&st, st_find(&st.header, "reshaped")), DTYPE_Q8_0, 0, 768);
    assert_memory_equal(got, want.data, sizeof got);
    npy_free(&want);
    st_close(&st);
    assert_int_equal(test_blocks(), blocks);
}

/* ---- bad files ---- */

static const char *bad_path;

static void expect_bad(struct gguf_bytes *b, int code, const char *words)
{
    struct dr_error err = { 0 };
    struct safetensors st;
    gguf_save(b, bad_path);
    uint64_t blocks = test_blocks();
    int r = st_open(bad_path, &st, &err);
    if (r != code || !strstr(err.text, words) || !strstr(err.text, bad_path))
        fail_msg("returned %d \"%s\", expected %d \"%s\"", r, err.text, code, words);
    assert_int_equal(test_blocks(), blocks);
}

static void bad_counts(void **state)
{
    (void)state;
    static const struct {
        uint32_t version;
        uint64_t tensors, entries;
        int code;
        const char *words;
    } cases[] = {
        { 3, UINT64_C(1) << 63, 0, DR_ELIMIT, "at most 65536" },
        { 3, 0, UINT64_C(1) << 63, DR_ELIMIT, "at most 65536" },
        { 3, UINT64_MAX, UINT64_MAX, DR_ELIMIT, "at most 65536" },
        { 3, 65537, 0, DR_ELIMIT, "at most 65536" },
        { 3, 65536, 0, DR_EFORMAT, "more tensors and entries than the file has room for" },
        { 2, 0, 1, DR_EFORMAT, "more tensors and entries than the file has room for" },
        { 1, 0, 0, DR_EUNSUPPORTED, "GGUF version 1, expected 2 or 3" },
        { 4, 0, 0, DR_EUNSUPPORTED, "GGUF version 4" },
        { 0x03000000, 0, 0, DR_EUNSUPPORTED, "big-endian" },
    };
    bad_path = temporary("bad.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gguf_bytes b = { 0 };
        gguf_preamble(&b, cases[i].version, cases[i].tensors, cases[i].entries);
        expect_bad(&b, cases[i].code, cases[i].words);
    }
    for (size_t n = 4; n < 24; n++) {
        struct gguf_bytes b = { 0 };
        gguf_preamble(&b, 3, 0, 0);
        b.n = n;
        expect_bad(&b, DR_EFORMAT, "the file ends inside the header");
    }
}

/* One entry whose value `put` writes, and room behind it. */
static void expect_bad_entry(const char *key, void (*put)(struct gguf_bytes *b), int code,
                             const char *words)
{
    struct gguf_bytes b = { 0 };
    gguf_preamble(&b, 3, 0, 1);
    gguf_text(&b, key);
    put(&b);
    expect_bad(&b, code, words);
}

static void long_string(struct gguf_bytes *b)
{
    gguf_u32(b, GGUF_STRING);
    gguf_u64(b, UINT64_MAX);
    gguf_u64(b, 0);
}

static void no_text(struct gguf_bytes *b)
{
    gguf_u32(b, GGUF_STRING);
    gguf_text(b, "\xff\xfe");
}

static void text_with_nul(struct gguf_bytes *b)
{
    gguf_u32(b, GGUF_STRING);
    gguf_u64(b, 3);
    gguf_put(b, "a\0b", 3);
}

static void unknown_value(struct gguf_bytes *b)
{
    gguf_u32(b, 13);
    gguf_u64(b, 0);
}

static void put_array(struct gguf_bytes *b, uint32_t type, uint64_t n)
{
    gguf_u32(b, GGUF_ARRAY);
    gguf_u32(b, type);
    gguf_u64(b, n);
    gguf_u64(b, 0);
    gguf_u64(b, 0);
}

static void long_array(struct gguf_bytes *b)
{
    put_array(b, 12, (UINT64_C(1) << 61) + 1); /* times 8 it wraps */
}

static void long_strings(struct gguf_bytes *b)
{
    put_array(b, GGUF_STRING, UINT64_C(1) << 61);
}

static void nested_array(struct gguf_bytes *b)
{
    put_array(b, GGUF_ARRAY, 1);
}

static void unknown_array(struct gguf_bytes *b)
{
    put_array(b, 99, 1);
}

static void nine_dimensions(struct gguf_bytes *b)
{
    put_array(b, GGUF_INT32, 9);
}

static void wrong_type(struct gguf_bytes *b)
{
    put_array(b, GGUF_UINT32, 2);
}

static void alignment_text(struct gguf_bytes *b)
{
    gguf_u32(b, GGUF_STRING);
    gguf_text(b, "32");
}

static void alignment_wide(struct gguf_bytes *b)
{
    gguf_u32(b, 10);
    gguf_u64(b, 32);
}

static void alignment_zero(struct gguf_bytes *b)
{
    gguf_u32(b, GGUF_UINT32);
    gguf_u32(b, 0);
}

static void alignment_odd(struct gguf_bytes *b)
{
    gguf_u32(b, GGUF_UINT32);
    gguf_u32(b, 48);
}

static void alignment_huge(struct gguf_bytes *b)
{
    gguf_u32(b, GGUF_UINT32);
    gguf_u32(b, UINT32_C(1) << 31);
}

static void bad_entries(void **state)
{
    (void)state;
    bad_path = temporary("bad.gguf");
    expect_bad_entry("k", long_string, DR_EFORMAT, "a string is longer than the rest of the file");
    expect_bad_entry("k", no_text, DR_EFORMAT, "a value that is no UTF-8 text");
    expect_bad_entry("k", text_with_nul, DR_EFORMAT, "a value that is no UTF-8 text");
    expect_bad_entry("\xff", no_text, DR_EFORMAT, "a key that is no UTF-8 text");
    expect_bad_entry("", no_text, DR_EFORMAT, "a key of 0 bytes");
    expect_bad_entry("k", unknown_value, DR_EFORMAT, "a value of a type that does not exist");
    expect_bad_entry("k", long_array, DR_EFORMAT, "an array is longer than the rest of the file");
    expect_bad_entry("k", long_strings, DR_EFORMAT, "an array is longer than the rest of the file");
    expect_bad_entry("k", nested_array, DR_EFORMAT, "an array of arrays");
    expect_bad_entry("k", unknown_array, DR_EFORMAT, "an array of a type that does not exist");
    expect_bad_entry("comfy.gguf.orig_shape.a", nine_dimensions, DR_EFORMAT,
                     "more than 8 dimensions");
    expect_bad_entry("comfy.gguf.orig_shape.a", wrong_type, DR_EFORMAT, "an array of int32");
    expect_bad_entry("general.alignment", alignment_text, DR_EFORMAT, "expected a uint32");
    expect_bad_entry("general.alignment", alignment_wide, DR_EFORMAT, "expected a uint32");
    expect_bad_entry("general.alignment", alignment_zero, DR_EFORMAT, "a power of two");
    expect_bad_entry("general.alignment", alignment_odd, DR_EFORMAT, "a power of two");
    expect_bad_entry("general.alignment", alignment_huge, DR_EFORMAT, "a power of two");
    struct gguf_bytes b = { 0 };
    gguf_preamble(&b, 3, 0, 2);
    gguf_entry_text(&b, "k", "1");
    gguf_entry_text(&b, "k", "2");
    expect_bad(&b, DR_EFORMAT, "the key 'k' appears twice");
}

/* Two tensors and so many bytes of data. */
struct pair {
    struct shape first, second;
    uint32_t type; /* of the first; the second is F32 */
    uint64_t first_at, second_at;
    size_t data;
    const char *second_name;
    int code;
    const char *words;
};

static void bad_tensors(void **state)
{
    (void)state;
    static const struct pair cases[] = {
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, 32, 64, "b", 0, "" },
        { { 1, { 8 } }, { 1, { 6 } }, 0, 0, 32, 56, "b", 0, "" }, /* not padded at the end */
        /* places */
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, 32, 60, "b", DR_EFORMAT, "file is truncated" },
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, 32, 96, "b", DR_EFORMAT, "32 bytes after the last" },
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, 4, 64, "b", DR_EFORMAT, "offset is not aligned" },
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, 0, 64, "b", DR_EFORMAT, "overlaps tensor" },
        { { 1, { 9 } }, { 1, { 8 } }, 0, 0, 32, 64, "b", DR_EFORMAT, "'b': overlaps tensor 'a'" },
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, 64, 96, "b", DR_EFORMAT, "belong to no tensor" },
        { { 1, { 8 } }, { 1, { 8 } }, 0, 32, 64, 96, "b", DR_EFORMAT, "belong to no tensor" },
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, UINT64_MAX - 31, 64, "b", DR_EFORMAT, "ends beyond" },
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, UINT64_C(1) << 62, 64, "b", DR_EFORMAT, "belong to" },
        /* shapes */
        { { 2, { INT64_C(1) << 32, INT64_C(1) << 32 } },
          { 1, { 8 } },
          0,
          0,
          32,
          64,
          "b",
          DR_EFORMAT,
          "larger than any file" },
        { { 1, { (INT64_C(1) << 62) + 1 } },
          { 1, { 8 } },
          0,
          0,
          32,
          64,
          "b",
          DR_EFORMAT,
          "larger than any file" },
        { { 1, { (INT64_C(1) << 42) + 1 } },
          { 1, { 8 } },
          0,
          0,
          32,
          64,
          "b",
          DR_EFORMAT,
          "file is truncated" },
        { { 1, { -1 } }, { 1, { 8 } }, 0, 0, 32, 64, "b", DR_EFORMAT, "a dimension of 2^63" },
        { { 5, { 1, 1, 1, 1, 8 } },
          { 1, { 8 } },
          0,
          0,
          32,
          64,
          "b",
          DR_ELIMIT,
          "more than 4 dimensions" },
        { { 2, { 2, 33 } },
          { 1, { 8 } },
          GGUF_Q8_0,
          0,
          96,
          128,
          "b",
          DR_EFORMAT,
          "no whole blocks" },
        { { 2, { 256, 32 } },
          { 1, { 8 } },
          GGUF_Q4_K,
          0,
          96,
          128,
          "b",
          DR_EFORMAT,
          "no whole blocks" },
        { { 0, { 0 } }, { 1, { 8 } }, GGUF_Q8_0, 0, 32, 64, "b", DR_EFORMAT, "no whole blocks" },
        /* types and names */
        { { 1, { 256 } },
          { 1, { 8 } },
          16,
          0,
          32,
          64,
          "b",
          DR_EUNSUPPORTED,
          "'a': is of type IQ2_XXS, which Darkroom does not read" },
        { { 1, { 256 } }, { 1, { 8 } }, 9, 0, 32, 64, "b", DR_EUNSUPPORTED, "type Q8_1" },
        { { 1, { 256 } },
          { 1, { 8 } },
          4,
          0,
          32,
          64,
          "b",
          DR_EUNSUPPORTED,
          "type 4, which is unknown" },
        { { 1, { 256 } }, { 1, { 8 } }, 12345, 0, 32, 64, "b", DR_EUNSUPPORTED, "type 12345" },
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, 32, 64, "a", DR_EFORMAT, "the name appears twice" },
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, 32, 64, "", DR_EFORMAT, "a tensor's name of 0 bytes" },
        { { 1, { 8 } }, { 1, { 8 } }, 0, 0, 32, 64, "\xc0\x80", DR_EFORMAT, "no UTF-8" },
    };
    static const unsigned char zeros[256];
    bad_path = temporary("bad.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct pair *c = &cases[i];
        struct gguf_bytes b = { 0 };
        gguf_preamble(&b, 3, 2, 0);
        gguf_tensor(&b, "a", &c->first, c->type, c->first_at);
        gguf_tensor(&b, c->second_name, &c->second, GGUF_F32, c->second_at);
        gguf_pad(&b, 32);
        gguf_put(&b, zeros, c->data);
        if (c->code) {
            expect_bad(&b, c->code, c->words);
            continue;
        }
        struct safetensors st;
        struct dr_error err;
        gguf_save(&b, bad_path);
        if (st_open(bad_path, &st, &err))
            fail_msg("%s", err.text);
        st_close(&st);
    }
}

static void cut_anywhere(void **state)
{
    (void)state;
    struct safetensors st;
    struct dr_error err;
    const char *path = temporary("cut.gguf");
    unsigned char bytes[4096];
    FILE *f = fopen(test_source("testing/golden/gguf/small.gguf"), "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_int_equal(n, sizeof bytes);
    for (size_t cut = 0; cut < n; cut += 7) {
        struct gguf_bytes b = { 0 };
        gguf_put(&b, bytes, cut);
        gguf_save(&b, path);
        assert_int_equal(st_open(path, &st, &err), DR_EFORMAT);
    }
}

static void other_original_shape(void **state)
{
    (void)state;
    struct gguf_bytes b = { 0 };
    bad_path = temporary("bad.gguf");
    gguf_preamble(&b, 3, 1, 1);
    gguf_text(&b, "comfy.gguf.orig_shape.a");
    gguf_u32(&b, GGUF_ARRAY);
    gguf_u32(&b, GGUF_INT32);
    gguf_u64(&b, 2);
    gguf_u32(&b, 3);
    gguf_u32(&b, 3);
    gguf_tensor(&b, "a", &SHAPE1(8), GGUF_F32, 0);
    gguf_pad(&b, 32);
    gguf_put(&b, (float[8]){ 0 }, 32);
    expect_bad(&b, DR_EFORMAT, "'a': comfy.gguf.orig_shape.*: another number of elements");
}

/* ---- diffusion models ---- */

static enum dtype type_that_fits(const struct shape *s)
{
    int64_t last = s->n > 1 ? s->d[s->n - 1] : 1;
    return last % 256 == 0 ? DTYPE_Q4_K : last % 32 == 0 ? DTYPE_Q8_0 : DTYPE_F16;
}

/* As stable-diffusion.cpp writes whole checkpoints: its names for text encoders, q, k and v apart
 * or stacked, dimensions of 1 at the end. */
static struct gguf_plan whole(const struct st_tensor *t)
{
    static const struct {
        const char *from, *to;
    } names[] = {
        { "conditioner.embedders.0.transformer.", "cond_stage_model.transformer." },
        { "conditioner.embedders.1.model.ln_final.",
          "cond_stage_model.1.transformer.text_model.final_layer_norm." },
        { "conditioner.embedders.1.model.positional_embedding",
          "cond_stage_model.1.transformer.text_model.embeddings.position_embedding.weight" },
        { "conditioner.embedders.1.model.token_embedding.weight",
          "cond_stage_model.1.transformer.text_model.embeddings.token_embedding.weight" },
        { "conditioner.embedders.1.model.text_projection",
          "cond_stage_model.1.transformer.text_model.text_projection" },
        { "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_",
          "cond_stage_model.1.transformer.text_model.encoder.layers.0.self_attn.in_proj." },
        { "conditioner.embedders.1.model.transformer.resblocks.0.attn.out_proj.",
          "cond_stage_model.1.transformer.text_model.encoder.layers.0.self_attn.out_proj." },
        { "conditioner.embedders.1.model.transformer.resblocks.0.ln_1.",
          "cond_stage_model.1.transformer.text_model.encoder.layers.0.layer_norm1." },
        { "conditioner.embedders.1.model.transformer.resblocks.0.ln_2.",
          "cond_stage_model.1.transformer.text_model.encoder.layers.0.layer_norm2." },
        { "conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.",
          "cond_stage_model.1.transformer.text_model.encoder.layers.0.mlp.fc1." },
        { "conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_proj.",
          "cond_stage_model.1.transformer.text_model.encoder.layers.0.mlp.fc2." },
    };
    static char name[400];
    snprintf(name, sizeof name, "%s", t->name);
    if (strstr(name, "logit_scale"))
        return (struct gguf_plan){ 0 };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i].from);
        if (!strncmp(t->name, names[i].from, n))
            snprintf(name, sizeof name, "%s%s", names[i].to, t->name + n);
    }
    struct gguf_plan p = { name, type_that_fits(&t->shape), t->shape };
    if (t->dtype != DTYPE_F16)
        p.name = NULL;
    return p;
}

static int same_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct checkpoint *other = ctx;
    static const char *const components[] = { "unet", "text_encoder", "text_encoder_2", "vae" };
    struct weight_source want;
    int64_t count, want_count;
    (void)shape;
    for (int i = 0; i < COMPONENT_COUNT; i++) {
        size_t n = strlen(components[i]);
        if (strncmp(p->src.name, components[i], n) || p->src.name[n] != '.')
            continue;
        assert_true(checkpoint_find(other, (enum component)i, name, &want));
        float *a = param_values(&p->src, &count), *b = param_values(&want, &want_count);
        if (count != want_count || memcmp(a, b, (size_t)count * sizeof *a))
            fail_msg("%s: other values", p->src.name);
        dr_free(a);
        dr_free(b);
    }
    return 0;
}

/* Every parameter of every network of one checkpoint has the values of the other's. */
static void expect_same(const char *path, const char *values)
{
    struct checkpoint *a, *b = NULL;
    struct dr_error err;
    struct clip_text *clip;
    struct unet *unet;
    struct vae *vae;
    struct visitor v = { .param = same_param };
    if (checkpoint_open(path, &a, &err) || checkpoint_open(values, &b, &err))
        fail_msg("%s", err.text);
    v.ctx = b;
    for (int i = 0; i < 2; i++) {
        enum component of = i ? COMPONENT_TEXT_ENCODER_2 : COMPONENT_TEXT_ENCODER;
        struct clip_text *other;
        assert_int_equal(clip_text_new(checkpoint_clip_arch(a, i), &clip, &err), 0);
        assert_int_equal(clip_text_new(checkpoint_clip_arch(b, i), &other, &err), 0);
        if (checkpoint_load(a, of, clip, clip_text_visit, &err) ||
            checkpoint_load(b, of, other, clip_text_visit, &err))
            fail_msg("%s", err.text);
        assert_int_equal(clip_text_visit(clip, &v), 0);
        clip_text_free(clip);
        clip_text_free(other);
    }
    assert_int_equal(unet_new(checkpoint_unet_arch(a), &unet, &err), 0);
    if (checkpoint_load(a, COMPONENT_UNET, unet, unet_visit, &err))
        fail_msg("%s", err.text);
    assert_int_equal(unet_visit(unet, &v), 0);
    unet_free(unet);
    assert_int_equal(vae_new(checkpoint_vae_arch(a), true, true, &vae, &err), 0);
    if (checkpoint_load(a, COMPONENT_VAE, vae, vae_visit, &err))
        fail_msg("%s", err.text);
    assert_int_equal(vae_visit(vae, &v), 0);
    vae_free(vae);
    assert_null(checkpoint_warning(a, 0));
    checkpoint_close(a);
    checkpoint_close(b);
}

static void whole_checkpoints(void **state)
{
    (void)state;
    const char *from = temporary("plain.safetensors"), *path = temporary("whole.gguf");
    const char *values = temporary("values.safetensors");
    struct safetensors st;
    struct dr_error err;
    sgm_save(&sgm_tiny, false, from);
    gguf_convert(from, NULL, whole, path, values);
    assert_int_equal(st_open(path, &st, &err), 0);
    size_t blocks = 0;
    for (size_t i = 0; i < st.header.n_tensors; i++)
        blocks += dtype_block(st.header.tensors[i].dtype) > 1;
    assert_true(blocks > 40);
    assert_string_equal(classify(&st.header)->id, "sdxl");
    st_close(&st);
    expect_same(path, values);
}

/* As ComfyUI-GGUF's tools write UNets: no prefix, rows that do not fit joined to rows of 256. */
static struct gguf_plan unet_alone(const struct st_tensor *t)
{
    static const char prefix[] = "model.diffusion_model.";
    struct gguf_plan p = { NULL, DTYPE_F32, t->shape };
    int64_t count = 0;
    if (strncmp(t->name, prefix, sizeof prefix - 1))
        return p;
    p.name = t->name + sizeof prefix - 1;
    shape_count(&t->shape, &count);
    if (t->shape.n < 2 || count % 256)
        return p;
    p.dtype = DTYPE_Q4_K;
    if (t->shape.d[t->shape.n - 1] % 256)
        p.shape = SHAPE2(count / 256, 256);
    return p;
}

/* The checkpoint with its UNet replaced by each of two files, which have the same values. */
static void as_parts(const char *model, const char *gguf, const char *values)
{
    struct model_spec spec[2] = { { .model = { model, NULL } }, { .model = { model, NULL } } };
    struct checkpoint *c[2];
    struct unet *unet[2];
    struct dr_error err;
    spec[0].part[COMPONENT_UNET].path = gguf;
    spec[1].part[COMPONENT_UNET].path = values;
    for (int i = 0; i < 2; i++) {
        if (checkpoint_open_spec(&spec[i], NULL, &c[i], &err) ||
            unet_new(checkpoint_unet_arch(c[i]), &unet[i], &err) ||
            checkpoint_load(c[i], COMPONENT_UNET, unet[i], unet_visit, &err))
            fail_msg("%s", err.text);
    }
    struct visitor v = { .param = same_param, .ctx = c[1] };
    assert_int_equal(unet_visit(unet[0], &v), 0);
    for (int i = 0; i < 2; i++) {
        unet_free(unet[i]);
        checkpoint_close(c[i]);
    }
}

static void unets_alone(void **state)
{
    (void)state;
    const char *from = temporary("plain.safetensors"), *path = temporary("unet.gguf");
    const char *values = temporary("values.safetensors");
    struct safetensors st, want;
    struct checkpoint *c;
    struct dr_error err;
    sgm_save(&sgm_tiny, false, from);
    gguf_convert(from, "sdxl", unet_alone, path, values);
    assert_int_equal(checkpoint_open(path, &c, &err), DR_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "UNet alone"));
    assert_int_equal(st_open(path, &st, &err), 0);
    assert_int_equal(st_open(values, &want, &err), 0);
    assert_string_equal(classify(&st.header)->id, "unet");
    assert_string_equal(metadata(&st.header, "general.architecture"), "sdxl");
    for (size_t i = 0; i < want.header.n_tensors; i++) {
        const struct st_tensor *w = &want.header.tensors[i];
        const struct st_tensor *t = st_find(&st.header, w->name + strlen("model.diffusion_model."));
        assert_non_null(t);
        assert_true(shape_equal(&t->shape, &w->shape));
        int64_t count = 0;
        shape_count(&t->shape, &count);
        float *got = malloc((size_t)count * sizeof *got + 1);
        dtype_read(got, st_data(&st, t), t->dtype, 0, count);
        assert_memory_equal(got, st_data(&want, w), (size_t)count * sizeof *got);
        free(got);
    }
    st_close(&want);
    st_close(&st);
    as_parts(from, path, values);
}

static void other_models(void **state)
{
    (void)state;
    struct gguf_bytes b = { 0 };
    struct checkpoint *c;
    struct dr_error err;
    const char *path = temporary("llama.gguf");
    gguf_preamble(&b, 3, 1, 1);
    gguf_entry_text(&b, "general.architecture", "llama");
    gguf_tensor(&b, "token_embd.weight", &SHAPE1(8), GGUF_F32, 0);
    gguf_pad(&b, 32);
    gguf_put(&b, (float[8]){ 0 }, 32);
    gguf_save(&b, path);
    assert_int_equal(checkpoint_open(path, &c, &err), DR_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "general.architecture 'llama'"));
    gguf_preamble(&b, 3, 2, 0);
    gguf_tensor(&b, "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
                &SHAPE2(1, 1024), GGUF_F32, 0);
    gguf_tensor(&b, "model.diffusion_model.out.2.bias", &SHAPE1(8), GGUF_F32, 4096);
    gguf_pad(&b, 32);
    gguf_put(&b, (float[1032]){ 0 }, 4128);
    gguf_save(&b, path);
    assert_int_equal(checkpoint_open(path, &c, &err), DR_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "a Stable Diffusion 2.x checkpoint in the spelling of"));
}

static int open_it(void *path, struct dr_error *err)
{
    struct safetensors st;
    int r = st_open(path, &st, err);
    if (!r)
        st_close(&st);
    return r;
}

static void short_of_memory(void **state)
{
    (void)state;
    test_oom_walk(open_it, (void *)test_source("testing/golden/gguf/small.gguf"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(written_by_the_reference),
    cmocka_unit_test(bad_counts),
    cmocka_unit_test(bad_entries),
    cmocka_unit_test(bad_tensors),
    cmocka_unit_test(cut_anywhere),
    cmocka_unit_test(other_original_shape),
    cmocka_unit_test(whole_checkpoints),
    cmocka_unit_test(unets_alone),
    cmocka_unit_test(other_models),
    cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
