/* test_models_parts.c - parts that replace the model's own: layouts, misfits, identity. */
#include "testing/helpers/model_folder.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"
#include "testing/helpers/model_access.h"
#include "testing/helpers/part_file.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/sgm_maker.h"

/* The same text for the same name. */
static const char *at(const char *name)
{
    static char paths[16][400];
    char path[400];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    for (size_t i = 0; i < 16; i++) {
        if (!*paths[i])
            memcpy(paths[i], path, sizeof path);
        if (!strcmp(paths[i], path))
            return paths[i];
    }
    fail_msg("too many files");
    return "";
}

/* Another file of the same network: the last bit of each value is another. */
static size_t copy_changed(const char *from, const char *cut, const char *put, const char *to)
{
    return part_file(from, cut, put, 0, 1, to);
}

static struct checkpoint *must_open(const struct model_spec *spec)
{
    struct dr_error err = { 0 };
    struct checkpoint *c;
    if (checkpoint_open_spec(spec, NULL, &c, &err) || folder_load(c, &err))
        fail_msg("%s", err.text);
    if (checkpoint_warning(c, 0))
        fail_msg("%s", checkpoint_warning(c, 0));
    return c;
}

static void must_fail(const struct model_spec *spec, const char *words, const char *file)
{
    struct dr_error err = { 0 };
    struct checkpoint *c;
    uint64_t blocks = test_blocks();
    int r = checkpoint_open_spec(spec, NULL, &c, &err);
    if (!r) {
        r = folder_load(c, &err);
        checkpoint_close(c);
    }
    if (!r || !strstr(err.text, words) || !strstr(err.text, file))
        fail_msg("returned %d \"%s\", expected \"%s\" and \"%s\"", r, err.text, file, words);
    assert_int_equal(test_blocks(), blocks);
}

/* Every tensor of `component` differs from the base's in the last bit of each value, every other is
 * the base's. */
struct comparison {
    const struct checkpoint *base, *other;
    enum component component;
    bool changed;
    size_t n;
};

static int compare(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct comparison *k = ctx;
    struct weight_source a, b;
    int64_t count;
    (void)p;
    assert_true(shape_count(shape, &count));
    assert_true(checkpoint_find(k->base, k->component, name, &a));
    assert_true(checkpoint_find(k->other, k->component, name, &b));
    assert_int_equal(a.dtype, b.dtype);
    size_t size = dtype_size(a.dtype);
    const unsigned char *x = a.data, *y = b.data;
    for (size_t i = 0; i < (size_t)count * size; i++)
        if (y[i] != (x[i] ^ (k->changed && i % size == 0)))
            fail_msg("%s: byte %zu is %d, expected %d changed", name, i, y[i], x[i]);
    k->n++;
    return 0;
}

static void compare_all(const struct checkpoint *base, const struct checkpoint *other,
                        enum component replaced)
{
    struct dr_error err;
    struct unet *unet;
    struct vae *vae;
    struct clip_text *clip;
    struct comparison k = { .base = base, .other = other };
    struct visitor v = { .param = compare, .ctx = &k };
    k.changed = replaced == COMPONENT_UNET;
    assert_int_equal(unet_new(checkpoint_unet_arch(other), &unet, &err), 0);
    assert_int_equal(unet_visit(unet, &v), 0);
    unet_free(unet);
    k.component = COMPONENT_VAE;
    k.changed = replaced == COMPONENT_VAE;
    assert_int_equal(vae_new(checkpoint_vae_arch(other), false, true, &vae, &err), 0);
    assert_int_equal(vae_visit(vae, &v), 0);
    vae_free(vae);
    for (int i = 0; i < 2; i++) {
        k.component = i ? COMPONENT_TEXT_ENCODER_2 : COMPONENT_TEXT_ENCODER;
        k.changed = replaced == k.component;
        assert_int_equal(clip_text_new(checkpoint_clip_arch(other, i), &clip, &err), 0);
        assert_int_equal(clip_text_visit(clip, &v), 0);
        clip_text_free(clip);
    }
    assert_true(k.n > 100);
}

/* ---- layouts ---- */

/* The base is a diffusers folder of odd sizes: what a file does not show is in its
 * configurations. */
static void named_as_in_diffusers(void **state)
{
    static const struct {
        enum component component;
        const char *from, *cut, *put;
    } cases[] = {
        { COMPONENT_UNET, "unet/diffusion_pytorch_model.safetensors", "", "" },
        { COMPONENT_TEXT_ENCODER, "text_encoder/model.safetensors", "", "" },
        { COMPONENT_TEXT_ENCODER, "text_encoder/model.safetensors", "text_model.", "" },
        { COMPONENT_TEXT_ENCODER_2, "text_encoder_2/model.safetensors", "", "" },
        { COMPONENT_VAE, "vae/diffusion_pytorch_model.safetensors", "", "" },
    };
    (void)state;
    folder_make();
    struct checkpoint *base = folder_open();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy_changed(folder_path(cases[i].from), cases[i].cut, cases[i].put, at("part.st"));
        struct model_spec spec = { .model = { folder_root(), NULL } };
        spec.part[cases[i].component].path = at("part.st");
        struct checkpoint *c = must_open(&spec);
        assert_memory_equal(checkpoint_unet_arch(c), &folder_unet_arch, sizeof folder_unet_arch);
        assert_memory_equal(checkpoint_clip_arch(c, 0), &folder_clip_arch[0],
                            sizeof folder_clip_arch[0]);
        assert_memory_equal(checkpoint_clip_arch(c, 1), &folder_clip_arch[1],
                            sizeof folder_clip_arch[1]);
        assert_memory_equal(checkpoint_vae_arch(c), &folder_vae_arch, sizeof folder_vae_arch);
        compare_all(base, c, cases[i].component);
        assert_string_equal(checkpoint_part_path(c, cases[i].component), at("part.st"));
        checkpoint_close(c);
    }
    checkpoint_close(base);
}

/* The folder of a component, and a whole diffusers folder that has it. */
static void folders(void **state)
{
    static const char *const names[COMPONENT_COUNT] = { "unet", "text_encoder", "text_encoder_2",
                                                        "vae" };
    static const char *const weights[COMPONENT_COUNT] = { "diffusion_pytorch_model.safetensors",
                                                          "model.safetensors", "model.safetensors",
                                                          "diffusion_pytorch_model.safetensors" };
    (void)state;
    char first[400], file[300];
    folder_make();
    snprintf(first, sizeof first, "%s", folder_root());
    struct checkpoint *base = folder_open();
    folder_make();
    for (int i = 0; i < COMPONENT_COUNT; i++) {
        snprintf(file, sizeof file, "%s/%s", names[i], weights[i]);
        char from[800];
        snprintf(from, sizeof from, "%s/%s", first, file);
        copy_changed(from, "", "", folder_path(file));
    }
    for (int i = 0; i < 2 * COMPONENT_COUNT; i++) {
        enum component k = (enum component)(i % COMPONENT_COUNT);
        struct model_spec spec = { .model = { first, NULL } };
        spec.part[k].path = i < COMPONENT_COUNT ? folder_path(names[k]) : folder_root();
        struct checkpoint *c = must_open(&spec);
        compare_all(base, c, k);
        checkpoint_close(c);
    }
    checkpoint_close(base);
}

/* The base is one file in sgm names. */
static void named_as_in_sgm(void **state)
{
    static const char unet[] = "model.diffusion_model.",
                      clip_l[] = "conditioner.embedders.0."
                                 "transformer.",
                      clip_g[] = "conditioner.embedders.1.model.", vae[] = "first_stage_model.";
    static const struct {
        enum component component;
        const char *cut, *put;
    } cases[] = {
        { COMPONENT_UNET, unet, unet },
        { COMPONENT_UNET, unet, "" },
        { COMPONENT_TEXT_ENCODER, clip_l, clip_l },
        { COMPONENT_TEXT_ENCODER, clip_l, "" },
        { COMPONENT_TEXT_ENCODER_2, clip_g, clip_g },
        { COMPONENT_TEXT_ENCODER_2, clip_g, "" },
        { COMPONENT_VAE, vae, vae },
        { COMPONENT_VAE, vae, "" },
        /* whole checkpoints */
        { COMPONENT_UNET, "", "" },
        { COMPONENT_TEXT_ENCODER, "", "" },
        { COMPONENT_TEXT_ENCODER_2, "", "" },
        { COMPONENT_VAE, "", "" },
    };
    (void)state;
    sgm_save(&sgm_tiny, false, at("base.safetensors"));
    struct model_spec whole = { .model = { at("base.safetensors"), NULL } };
    struct checkpoint *base = must_open(&whole);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(copy_changed(at("base.safetensors"), cases[i].cut, cases[i].put,
                                 at("part.safetensors")) > 10);
        struct model_spec spec = whole;
        spec.part[cases[i].component].path = at("part.safetensors");
        struct checkpoint *c = must_open(&spec);
        compare_all(base, c, cases[i].component);
        checkpoint_close(c);
    }
    checkpoint_close(base);
}

/* A checkpoint that lacks what a part brings. */
static void completes_a_file(void **state)
{
    (void)state;
    struct st_writer *w = st_writer_new();
    sgm_add_unet(w, &sgm_tiny);
    sgm_add_clips(w, &sgm_tiny);
    st_writer_save(w, at("no_vae.safetensors"));
    st_writer_free(w);
    w = st_writer_new();
    sgm_add_vae(w, &sgm_tiny);
    st_writer_save(w, at("vae.safetensors"));
    st_writer_free(w);
    struct model_spec spec = { .model = { at("no_vae.safetensors"), NULL } };
    must_fail(&spec, "without its VAE", "no_vae.safetensors");
    spec.part[COMPONENT_VAE].path = at("vae.safetensors");
    checkpoint_close(must_open(&spec));
}

/* Pictures need a decoder only. */
static void vae_without_encoder(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct vae *vae;
    sgm_save(&sgm_tiny, false, at("base.safetensors"));
    assert_true(copy_changed(at("base.safetensors"), "first_stage_model.decoder.", "decoder.",
                             at("decoder.safetensors")) > 10);
    struct model_spec spec = { .model = { at("base.safetensors"), NULL } };
    struct checkpoint *base = must_open(&spec), *c;
    spec.part[COMPONENT_VAE].path = at("decoder.safetensors");
    assert_int_equal(checkpoint_open_spec(&spec, NULL, &c, &err), 0);
    struct vae_arch whole = *checkpoint_vae_arch(base), part = *checkpoint_vae_arch(c);
    assert_false(part.quant_conv);
    assert_false(part.post_quant_conv);
    part.quant_conv = whole.quant_conv;
    part.post_quant_conv = whole.post_quant_conv;
    assert_memory_equal(&part, &whole, sizeof part);
    assert_int_equal(vae_new(checkpoint_vae_arch(c), false, true, &vae, &err), 0);
    assert_int_equal(checkpoint_load(c, COMPONENT_VAE, vae, vae_visit, &err), 0);
    vae_free(vae);
    assert_int_equal(vae_new(checkpoint_vae_arch(c), true, false, &vae, &err), 0);
    assert_int_equal(checkpoint_load(c, COMPONENT_VAE, vae, vae_visit, &err), DR_EFORMAT);
    assert_non_null(strstr(err.text, "encoder.conv_in.weight"));
    assert_non_null(strstr(err.text, "decoder.safetensors"));
    vae_free(vae);
    checkpoint_close(c);
    checkpoint_close(base);
}

/* ---- what does not fit ---- */

static struct model_spec over(const char *base, enum component component, const char *part)
{
    struct model_spec spec = { .model = { base, NULL } };
    spec.part[component].path = part;
    return spec;
}

static void another_network(void **state)
{
    (void)state;
    struct sgm_spec s = sgm_tiny;
    struct model_spec spec;
    sgm_save(&sgm_tiny, false, at("base.safetensors"));
    const char *base = at("base.safetensors"), *part = at("part.safetensors");
    s.context = 96;
    sgm_save(&s, false, part);
    spec = over(base, COMPONENT_UNET, part);
    must_fail(&spec, "takes text of 96 channels, the text encoders give 128", "part.safetensors");
    s = sgm_tiny;
    s.clip_l.width = s.clip_g.width = s.clip_g.projection = 128;
    sgm_save(&s, false, part);
    spec = over(base, COMPONENT_TEXT_ENCODER, part);
    must_fail(&spec, "this text encoder gives 128 channels, expected 64", "part.safetensors");
    s = sgm_tiny;
    s.added = 100;
    sgm_save(&s, false, part);
    spec = over(base, COMPONENT_UNET, part);
    must_fail(&spec, "added conditioning of 100 channels", "part.safetensors");
    folder_make(); /* two levels of 8 and 16 channels: the shapes of another VAE are no mistake */
    spec = over(base, COMPONENT_VAE, folder_path("vae"));
    checkpoint_close(must_open(&spec));
    spec = over(base, COMPONENT_UNET, folder_path("unet"));
    must_fail(&spec, "projection_class_embeddings_input_dim", "unet");
}

static void latent_channels(void **state)
{
    (void)state;
    folder_make();
    struct st_writer *w = st_writer_new();
    sgm_add_vae(w, &sgm_tiny);
    st_writer_save(w, at("vae.safetensors"));
    st_writer_free(w);
    sgm_save(&sgm_tiny, false, at("base.safetensors"));
    struct safetensors st;
    struct dr_error err = { 0 };
    assert_int_equal(st_open(at("vae.safetensors"), &st, &err), 0);
    w = st_writer_new();
    for (size_t i = 0; i < st.header.n_tensors; i++) {
        const struct st_tensor *t = &st.header.tensors[i];
        struct shape shape = t->shape;
        if (!strcmp(t->name, "first_stage_model.decoder.conv_in.weight"))
            shape.d[1] = 16;
        st_writer_add(w, t->name, dtype_name(t->dtype), shape.n, shape.d, NULL);
    }
    st_writer_save(w, at("wide.safetensors"));
    st_writer_free(w);
    st_close(&st);
    struct model_spec spec = over(at("base.safetensors"), COMPONENT_VAE, at("wide.safetensors"));
    must_fail(&spec, "this VAE takes 16 latent channels, expected 4", "wide.safetensors");
}

static void other_kinds(void **state)
{
    static const struct {
        enum component component;
        const char *names[2], *words;
    } cases[] = {
        { COMPONENT_UNET,
          { "controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight" },
          "this is a ControlNet, expected a UNet" },
        { COMPONENT_UNET,
          { "control_model.input_hint_block.0.weight", "control_model.input_blocks.0.0.weight" },
          "this is a ControlNet, expected a UNet" },
        { COMPONENT_UNET,
          { "double_blocks.0.img_attn.norm.key_norm.scale", NULL },
          "a Flux model" },
        { COMPONENT_UNET, { "lora_unet_a.lora_up.weight", NULL }, "this is a LoRA" },
        { COMPONENT_TEXT_ENCODER,
          { "encoder.block.0.layer.0.SelfAttention.q.weight", NULL },
          "a T5 text encoder, expected a text encoder" },
        { COMPONENT_TEXT_ENCODER_2,
          { "encoder.conv_in.weight", "decoder.conv_in.weight" },
          "a VAE alone, expected a text encoder" },
        { COMPONENT_VAE,
          { "text_model.encoder.layers.0.mlp.fc1.weight", NULL },
          "a CLIP text encoder alone, expected a VAE" },
        { COMPONENT_VAE, { "0.weight", "1.conv.0.weight" }, "the encoder of a tiny VAE alone" },
    };
    (void)state;
    sgm_save(&sgm_tiny, false, at("base.safetensors"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct st_writer *w = st_writer_new();
        for (int j = 0; j < 2 && cases[i].names[j]; j++)
            st_writer_add_text(w, cases[i].names[j], "F16", "2x2");
        st_writer_save(w, at("part.safetensors"));
        st_writer_free(w);
        struct model_spec spec = over(at("base.safetensors"), cases[i].component,
                                      at("part.safetensors"));
        must_fail(&spec, cases[i].words, "part.safetensors");
    }
    folder_make();
    folder_write("unet/config.json", "\"_class_name\":\"ControlNetModel\"", NULL);
    struct model_spec spec = over(at("base.safetensors"), COMPONENT_UNET, folder_path("unet"));
    must_fail(&spec, "a folder for ControlNetModel, expected one for UNet2DConditionModel", "unet");
}

/* A part in place of a model says which option it is for. */
static void in_the_wrong_place(void **state)
{
    static const struct {
        const char *name, *option;
    } cases[] = {
        { "model.diffusion_model.label_emb.0.0.weight", "--unet" },
        { "input_blocks.0.0.weight", "--unet" },
        { "decoder.conv_in.weight", "--vae" },
        { "taesd_decoder.1.weight", "--vae" },
        { "text_model.encoder.layers.0.mlp.fc1.weight", "--text-encoder or --text-encoder-2" },
        { "transformer.resblocks.0.ln_1.weight", "--text-encoder or --text-encoder-2" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct st_writer *w = st_writer_new();
        st_writer_add_text(w, cases[i].name, "F16", "2x2");
        st_writer_save(w, at("part.safetensors"));
        st_writer_free(w);
        struct model_spec spec = { .model = { at("part.safetensors"), NULL } };
        must_fail(&spec, cases[i].option, "part.safetensors");
    }
    folder_make();
    struct model_spec spec = { .model = { folder_path("unet"), NULL } };
    must_fail(&spec, "--unet", "unet");
    spec.model.path = folder_path("text_encoder_2");
    must_fail(&spec, "--text-encoder-2", "text_encoder_2");
}

/* ---- what a UNet says of itself ---- */

static const char *prediction(const struct checkpoint *c)
{
    const json_t *file = checkpoint_scheduler_config(c);
    const char *said = json_string_value(json_object_get(file, "prediction_type"));
    return said ? said : "nothing";
}

static void save_unet(const char *mark, const char *value, const char *path)
{
    struct st_writer *w = st_writer_new();
    sgm_add_unet(w, &sgm_tiny);
    if (mark && value)
        st_writer_metadata(w, mark, value);
    else if (mark)
        st_writer_add_text(w, mark, "F16", "");
    st_writer_save(w, path);
    st_writer_free(w);
}

static void formulation_of_the_unet(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct checkpoint *c;
    struct st_writer *w = st_writer_new();
    sgm_add(w, &sgm_tiny);
    st_writer_add_text(w, "v_pred", "F16", "");
    st_writer_add_text(w, "ztsnr", "F16", "");
    st_writer_save(w, at("v.safetensors"));
    st_writer_free(w);
    sgm_save(&sgm_tiny, false, at("plain.safetensors"));
    /* a UNet that says nothing: as the model says, with a warning */
    save_unet(NULL, NULL, at("unet.safetensors"));
    struct model_spec spec = over(at("v.safetensors"), COMPONENT_UNET, at("unet.safetensors"));
    assert_int_equal(checkpoint_open_spec(&spec, NULL, &c, &err), 0);
    assert_string_equal(prediction(c), "v_prediction");
    assert_non_null(strstr(checkpoint_warning(c, 0), "does not say what it predicts"));
    checkpoint_close(c);
    /* one that does: all of it */
    save_unet("modelspec.prediction_type", "epsilon", at("unet.safetensors"));
    c = must_open(&spec);
    assert_string_equal(prediction(c), "epsilon");
    assert_true(
        json_is_false(json_object_get(checkpoint_scheduler_config(c), "rescale_betas_zero_snr")));
    checkpoint_close(c);
    save_unet("v_pred", NULL, at("unet.safetensors"));
    spec.model.path = at("plain.safetensors");
    c = must_open(&spec);
    assert_string_equal(prediction(c), "v_prediction");
    checkpoint_close(c);
    /* the marks of a UNet that is replaced do not count */
    save_unet("modelspec.prediction_type", "flow", at("unet.safetensors"));
    must_fail(&spec, "says 'flow'", "unet.safetensors");
    folder_make();
    spec = over(folder_root(), COMPONENT_UNET, NULL);
    copy_changed(folder_path("unet/diffusion_pytorch_model.safetensors"), "", "", at("f.st"));
    spec.part[COMPONENT_UNET].path = at("f.st");
    c = must_open(&spec);
    assert_string_equal(prediction(c), "nothing");
    checkpoint_close(c);
}

/* ---- identity ---- */

static void identity(void **state)
{
    (void)state;
    const struct digest_options none = { .cache = "" };
    struct dr_error err = { 0 };
    char alone[SHA256_HEX], with[SHA256_HEX], other[SHA256_HEX];
    sgm_save(&sgm_tiny, false, at("base.safetensors"));
    assert_true(copy_changed(at("base.safetensors"), "first_stage_model.", "", at("a.st")) > 10);
    assert_true(copy_changed(at("a.st"), "", "", at("b.st")) > 10);
    struct model_spec whole = { .model = { at("base.safetensors"), NULL } };
    struct model_spec a = over(at("base.safetensors"), COMPONENT_VAE, at("a.st"));
    struct model_spec b = over(at("base.safetensors"), COMPONENT_VAE, at("b.st"));
    struct checkpoint *c = must_open(&whole);
    assert_int_equal(checkpoint_digest(c, &none, alone, &err), 0);
    assert_true(checkpoint_is_at(c, &whole));
    assert_false(checkpoint_is_at(c, &a));
    checkpoint_close(c);
    c = must_open(&b);
    assert_int_equal(checkpoint_digest(c, &none, other, &err), 0);
    checkpoint_close(c);
    c = must_open(&a);
    assert_int_equal(checkpoint_digest(c, &none, with, &err), 0);
    assert_true(checkpoint_is_at(c, &a));
    assert_false(checkpoint_is_at(c, &b));
    assert_false(checkpoint_is_at(c, &whole));
    assert_string_not_equal(alone, with);
    assert_string_not_equal(other, with);
    assert_true(checkpoint_current(c));
    assert_int_equal(unlink(at("a.st")), 0);
    assert_false(checkpoint_current(c));
    checkpoint_close(c);
}

static int open_parts(void *ctx, struct dr_error *err)
{
    struct checkpoint *c;
    int r = checkpoint_open_spec(ctx, NULL, &c, err);
    if (!r)
        checkpoint_close(c);
    return r;
}

static void out_of_memory(void **state)
{
    (void)state;
    sgm_save(&sgm_tiny, false, at("base.safetensors"));
    folder_make();
    struct model_spec spec = over(folder_root(), COMPONENT_VAE, at("base.safetensors"));
    spec.part[COMPONENT_TEXT_ENCODER].path = folder_path("text_encoder");
    test_oom_walk(open_parts, &spec);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(named_as_in_diffusers),
    cmocka_unit_test(folders),
    cmocka_unit_test(named_as_in_sgm),
    cmocka_unit_test(completes_a_file),
    cmocka_unit_test(vae_without_encoder),
    cmocka_unit_test(another_network),
    cmocka_unit_test(latent_channels),
    cmocka_unit_test(other_kinds),
    cmocka_unit_test(in_the_wrong_place),
    cmocka_unit_test(formulation_of_the_unet),
    cmocka_unit_test(identity),
    cmocka_unit_test(out_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
