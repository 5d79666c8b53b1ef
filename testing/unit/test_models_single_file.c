/* test_models_single_file.c - checkpoints in one file: every member of the family, and what is no
 * checkpoint. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "models/clip_text.h"
#include "models/formats/safetensors.h"
#include "models/model_loader.h"
#include "models/unet.h"
#include "models/vae.h"
#include "testing/helpers/sgm_maker.h"
#include "testing/helpers/test.h"
#include "testing/helpers/model_access.h"

static const char *temporary(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    return path;
}

/* Makes each network of the checkpoint and loads it. */
static int load_all(struct checkpoint *c, int64_t counts[COMPONENT_COUNT], struct dr_error *err)
{
    struct unet *unet = NULL;
    struct clip_text *clip[2] = { NULL, NULL };
    struct vae *vae = NULL;
    int r = unet_new(checkpoint_unet_arch(c), &unet, err);
    for (int i = 0; !r && i < 2; i++)
        if (checkpoint_clip_arch(c, i))
            r = clip_text_new(checkpoint_clip_arch(c, i), &clip[i], err);
    if (!r)
        r = vae_new(checkpoint_vae_arch(c), true, true, &vae, err);
    if (!r)
        r = checkpoint_load(c, COMPONENT_UNET, unet, unet_visit, err);
    if (!r && clip[0])
        r = checkpoint_load(c, COMPONENT_TEXT_ENCODER, clip[0], clip_text_visit, err);
    if (!r && clip[1])
        r = checkpoint_load(c, COMPONENT_TEXT_ENCODER_2, clip[1], clip_text_visit, err);
    if (!r)
        r = checkpoint_load(c, COMPONENT_VAE, vae, vae_visit, err);
    if (!r && counts) {
        counts[COMPONENT_UNET] = params_count(unet, unet_visit);
        counts[COMPONENT_TEXT_ENCODER] = clip[0] ? params_count(clip[0], clip_text_visit) : 0;
        counts[COMPONENT_TEXT_ENCODER_2] = clip[1] ? params_count(clip[1], clip_text_visit) : 0;
        counts[COMPONENT_VAE] = params_count(vae, vae_visit);
    }
    unet_free(unet);
    clip_text_free(clip[0]);
    clip_text_free(clip[1]);
    vae_free(vae);
    return r;
}

static void expect_member(const struct sgm_spec *spec, const char *kind, int64_t unet_count)
{
    struct dr_error err = { 0 };
    struct checkpoint *c = NULL;
    const char *path = temporary("member.safetensors");
    uint64_t blocks = test_blocks();
    sgm_save(spec, true, path);
    if (checkpoint_open(path, &c, &err))
        fail_msg("%s: %s", kind, err.text);
    assert_string_equal(checkpoint_kind(c), kind);
    assert_int_equal(checkpoint_unet_arch(c)->in_channels, spec->in_channels);
    assert_int_equal(checkpoint_default_size(c), 1024);
    assert_false(checkpoint_has_tokenizer(c, 0));
    assert_null(checkpoint_scheduler_config(c));
    int64_t counts[COMPONENT_COUNT];
    if (load_all(c, counts, &err))
        fail_msg("%s: %s", kind, err.text);
    if (checkpoint_warning(c, 0))
        fail_msg("%s: %s", kind, checkpoint_warning(c, 0));
    assert_int_equal(counts[COMPONENT_UNET], unet_count);
    assert_int_equal(counts[COMPONENT_TEXT_ENCODER], spec->clip_l.width ? 123060480 : 0);
    assert_int_equal(counts[COMPONENT_TEXT_ENCODER_2], 694659840);
    assert_int_equal(counts[COMPONENT_VAE], 83653863);
    checkpoint_close(c);
    assert_int_equal(test_blocks(), blocks);
    unlink(path);
}

/* Parameter counts: diffusers' UNet2DConditionModel built from the same configurations. */
static void family(void **state)
{
    (void)state;
    expect_member(&sgm_base, "sdxl-base", 2567463684);
    expect_member(&sgm_inpaint, "sdxl-inpaint", 2567463684 + 5 * 320 * 9);
    expect_member(&sgm_refiner, "sdxl-refiner", 2259526660);
    expect_member(&sgm_ssd_1b, "ssd-1b", 1331334404);
    expect_member(&sgm_vega, "segmind-vega", 745225604);
    expect_member(&sgm_koala_700m, "koala-700m", 782822724);
    expect_member(&sgm_koala_1b, "koala-1b", 1161184324);
    struct sgm_spec edits = sgm_base;
    edits.in_channels = 8;
    expect_member(&edits, "sdxl-instruct-pix2pix", 2567463684 + 4 * 320 * 9);
}

static void expect_open_fails(struct st_writer *w, int code, const char *words);

/* One of Stable Diffusion: what it warns of, and the parameters of UNet and encoder that are read
 * (counts: diffusers, transformers). */
static void expect_sd(const struct sgm_spec *spec, const char *stray, const char *kind,
                      int64_t edge, int64_t unet_count, int64_t text_count, const char *warning)
{
    struct dr_error err = { 0 };
    struct checkpoint *c = NULL;
    const char *path = temporary("sd.safetensors");
    uint64_t blocks = test_blocks();
    struct st_writer *w = st_writer_new();
    st_writer_sparse(w);
    sgm_add(w, spec);
    if (stray)
        st_writer_metadata(w, "modelspec.architecture", stray);
    st_writer_save(w, path);
    st_writer_free(w);
    if (checkpoint_open(path, &c, &err))
        fail_msg("%s: %s", kind, err.text);
    assert_string_equal(checkpoint_kind(c), kind);
    assert_int_equal(checkpoint_default_size(c), edge);
    assert_false(checkpoint_force_zeros(c));
    int64_t counts[COMPONENT_COUNT];
    if (load_all(c, counts, &err))
        fail_msg("%s: %s", kind, err.text);
    assert_int_equal(counts[COMPONENT_UNET], unet_count);
    assert_int_equal(counts[COMPONENT_TEXT_ENCODER], text_count);
    assert_int_equal(counts[COMPONENT_VAE], 83653863);
    assert_true(checkpoint_vae_arch(c)->scaling_factor == 0.18215);
    const char *got = checkpoint_warning(c, 0);
    assert_true(warning ? got && strstr(got, warning) && !checkpoint_warning(c, 1) : !got);
    checkpoint_close(c);
    assert_int_equal(test_blocks(), blocks);
    unlink(path);
}

static void stable_diffusion(void **state)
{
    (void)state;
    struct sgm_spec other = sgm_sd1;
    expect_sd(&sgm_sd1, NULL, "sd1", 512, 859520964, 123060480, NULL);
    expect_sd(&sgm_sd2, NULL, "sd2", 768, 865910724, 340387840, "v_prediction is assumed");
    expect_sd(&sgm_sd2, "stable-diffusion-v2-768-v", "sd2", 768, 865910724, 340387840, NULL);
    expect_sd(&sgm_sd2, "stable-diffusion-v2-512", "sd2", 512, 865910724, 340387840, NULL);
    other.in_channels = 9;
    expect_sd(&other, NULL, "sd1-inpaint", 512, 859520964 + 5 * 320 * 9, 123060480, NULL);
    other.in_channels = 8;
    expect_sd(&other, NULL, "sd1-instruct-pix2pix", 512, 859520964 + 4 * 320 * 9, 123060480, NULL);
    other = sgm_sd2;
    other.added = 2048; /* unCLIP */
    struct st_writer *w = st_writer_new();
    st_writer_sparse(w);
    sgm_add(w, &other);
    expect_open_fails(w, DR_EUNSUPPORTED, "more than text (label_emb)");
}

/* Stable Diffusion 2.0 base is recognised by how long it was trained. */
static void trained_steps(void **state)
{
    (void)state;
    static const int64_t steps[] = { 875000, 875001 };
    for (int i = 0; i < 2; i++) {
        struct dr_error err = { 0 };
        struct checkpoint *c = NULL;
        const char *path = temporary("steps.safetensors");
        struct sgm_spec small = sgm_tiny;
        struct st_writer *w = st_writer_new();
        small.version = 2;
        small.added = 0;
        small.clip_l.width = 0;
        small.clip_g.layers = 24;
        small.context = 64;
        sgm_add(w, &small);
        st_writer_add(w, "global_step", "I64", 0, NULL, &steps[i]);
        st_writer_save(w, path);
        st_writer_free(w);
        if (checkpoint_open(path, &c, &err))
            fail_msg("%s", err.text);
        assert_int_equal(checkpoint_unet_arch(c)->sample_size, i ? 96 : 64);
        assert_int_equal(checkpoint_clip_arch(c, 0)->layers, 23); /* the last is not read */
        const json_t *o = checkpoint_scheduler_config(c);
        const char *said = json_string_value(json_object_get(o, "prediction_type"));
        assert_true(i ? !o : !strcmp(said, "epsilon"));
        assert_true(!checkpoint_warning(c, 0) == !i);
        checkpoint_close(c);
    }
}

static void base_architecture(void **state)
{
    (void)state;
    struct dr_error err;
    struct checkpoint *c;
    const char *path = temporary("base.safetensors");
    sgm_save(&sgm_base, true, path);
    assert_int_equal(checkpoint_open(path, &c, &err), 0);
    const struct unet_arch *u = checkpoint_unet_arch(c);
    assert_int_equal(u->levels, 3);
    assert_int_equal(u->channels[2], 1280);
    assert_int_equal(u->heads[0], 5);
    assert_int_equal(u->heads[2], 20);
    assert_int_equal(u->depth[0][1], 0);
    assert_int_equal(u->depth[1][1], 2);
    assert_int_equal(u->up_depth[2][2], 10);
    assert_int_equal(u->up_depth[0][2], 0);
    assert_true(u->mid);
    assert_int_equal(u->mid_depth, 10);
    assert_int_equal(u->context, 2048);
    assert_int_equal(u->pooled, 1280);
    assert_int_equal(u->n_time_ids, 6);
    assert_int_equal(u->addition_time_dim, 256);
    assert_int_equal(u->time_dim, 1280);
    assert_true(u->linear_projection);
    const struct clip_arch *l = checkpoint_clip_arch(c, 0), *g = checkpoint_clip_arch(c, 1);
    assert_int_equal(l->layers, 12);
    assert_int_equal(l->heads, 12);
    assert_int_equal(l->projection, 0);
    assert_int_equal(l->act, ARCH_QUICK_GELU);
    assert_int_equal(g->layers, 32);
    assert_int_equal(g->heads, 20);
    assert_int_equal(g->projection, 1280);
    assert_int_equal(g->act, ARCH_GELU);
    assert_int_equal(g->vocab, 49408);
    const struct vae_arch *v = checkpoint_vae_arch(c);
    assert_int_equal(v->levels, 4);
    assert_int_equal(v->layers, 2);
    assert_int_equal(v->channels[1], 256);
    assert_true(v->scaling_factor == 0.13025);
    assert_true(checkpoint_force_zeros(c));
    checkpoint_close(c);
    unlink(path);
}

static void refiner_architecture(void **state)
{
    (void)state;
    struct dr_error err;
    struct checkpoint *c;
    const char *path = temporary("refiner.safetensors");
    sgm_save(&sgm_refiner, true, path);
    assert_int_equal(checkpoint_open(path, &c, &err), 0);
    const struct unet_arch *u = checkpoint_unet_arch(c);
    assert_int_equal(u->levels, 4);
    assert_int_equal(u->n_time_ids, 5);
    assert_int_equal(u->depth[0][0], 0);
    assert_int_equal(u->depth[3][0], 0);
    assert_int_equal(u->up_depth[2][2], 4);
    assert_int_equal(u->up_depth[3][0], 0);
    assert_false(checkpoint_has(c, COMPONENT_TEXT_ENCODER));
    assert_null(checkpoint_clip_arch(c, 0));
    assert_false(checkpoint_force_zeros(c));
    checkpoint_close(c);
    unlink(path);
}

/* The three thirds of a stacked matrix, and the projection that lies transposed. */
static void cut_and_transposed(void **state)
{
    (void)state;
    enum { W = 64 };
    struct dr_error err;
    struct checkpoint *c;
    struct safetensors st;
    const char *path = temporary("small.safetensors");
    uint64_t blocks = test_blocks();
    struct sgm_spec spec = sgm_tiny;
    spec.clip_g.layers = 3;
    sgm_save(&spec, false, path);
    assert_int_equal(checkpoint_open(path, &c, &err), 0);
    if (load_all(c, NULL, &err))
        fail_msg("%s", err.text);
    assert_null(checkpoint_warning(c, 0));
    assert_int_equal(st_open(path, &st, &err), 0);
    const uint16_t *stacked = st_data(
        &st, st_find(&st.header,
                     "conditioner.embedders.1.model.transformer.resblocks.2.attn.in_proj_weight"));
    const char *const names[] = { "text_model.encoder.layers.2.self_attn.q_proj.weight",
                                  "text_model.encoder.layers.2.self_attn.k_proj.weight",
                                  "text_model.encoder.layers.2.self_attn.v_proj.weight" };
    struct weight_source src;
    for (int i = 0; i < 3; i++) {
        assert_true(checkpoint_find(c, COMPONENT_TEXT_ENCODER_2, names[i], &src));
        assert_int_equal(src.shape.d[0], W);
        assert_int_equal(src.shape.d[1], W);
        assert_true(src.mapped);
        assert_memory_equal(src.data, stacked + i * W * W, W * W * 2);
    }
    const uint16_t *projection = st_data(
        &st, st_find(&st.header, "conditioner.embedders.1.model.text_projection"));
    assert_true(checkpoint_find(c, COMPONENT_TEXT_ENCODER_2, "text_projection.weight", &src));
    assert_false(src.mapped);
    const uint16_t *got = src.data;
    for (int o = 0; o < W; o++)
        for (int i = 0; i < W; i++)
            assert_int_equal(got[o * W + i], projection[i * W + o]);
    assert_string_equal(src.name, "text_encoder_2.text_projection.weight");
    /* going up, the VAE's levels are counted from the other end */
    const struct st_tensor *up = st_find(&st.header,
                                         "first_stage_model.decoder.up.1.block.0.conv1.weight");
    assert_true(
        checkpoint_find(c, COMPONENT_VAE, "decoder.up_blocks.0.resnets.0.conv1.weight", &src));
    assert_int_equal(src.shape.d[0], up->shape.d[0]);
    assert_memory_equal(src.data, st_data(&st, up), up->end - up->begin);
    st_close(&st);
    checkpoint_close(c);
    assert_int_equal(test_blocks(), blocks);
}

static void expect_open_fails(struct st_writer *w, int code, const char *words)
{
    struct dr_error err = { 0 };
    struct checkpoint *c;
    const char *path = temporary("other.safetensors");
    st_writer_save(w, path);
    st_writer_free(w);
    uint64_t blocks = test_blocks();
    int r = checkpoint_open(path, &c, &err);
    if (r != code || !strstr(err.text, words) || !strstr(err.text, path))
        fail_msg("returned %d \"%s\", expected %d \"%s\"", r, err.text, code, words);
    assert_int_equal(test_blocks(), blocks);
}

static void what_it_is_instead(void **state)
{
    (void)state;
    static const struct {
        const char *names[2], *words;
    } cases[] = {
        { { "model.diffusion_model.input_blocks.0.0.weight", NULL },
          "this is a UNet without text encoders, no whole checkpoint, expected a checkpoint of "
          "Stable Diffusion or SDXL" },
        { { "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
            "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight" },
          "this is a LoRA" },
        { { "unet.down_blocks.1.attentions.0.proj_in.lora_A.weight", NULL }, "this is a LoRA" },
        { { "lora_unet_mid.hada_w1_a", NULL }, "a LoHa" },
        { { "encoder.conv_in.weight", "decoder.conv_in.weight" }, "this is a VAE alone" },
        { { "first_stage_model.encoder.conv_in.weight",
            "first_stage_model.decoder.conv_in.weight" },
          "this is a VAE alone" },
        { { "controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight" },
          "this is a ControlNet" },
        { { "control_model.input_hint_block.0.weight", NULL }, "this is a ControlNet" },
        { { "clip_g", "clip_l" }, "textual inversion (embedding) for SDXL" },
        { { "emb_params", NULL }, "textual inversion" },
        { { "double_blocks.0.img_attn.norm.key_norm.scale", NULL }, "a Flux model" },
        { { "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", NULL },
          "a Stable Diffusion 3 model" },
        { { "text_model.encoder.layers.0.mlp.fc1.weight", NULL }, "a CLIP text encoder alone" },
        { { "transformer.resblocks.0.ln_1.weight", NULL }, "an OpenCLIP text encoder alone" },
        { { "encoder.block.0.layer.0.SelfAttention.q.weight", NULL }, "a T5 text encoder" },
        { { "down_blocks.0.resnets.0.conv1.weight", "add_embedding.linear_1.weight" },
          "an SDXL UNet alone, taken out of a diffusers folder" },
        { { "model.diffusion_model.label_emb.0.0.weight",
            "model.diffusion_model.input_blocks.0.0.weight" },
          "an SDXL UNet without text encoders" },
        { { "image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight" }, "an IP-Adapter" },
        { { "conv_first.weight", NULL }, "an upscaler" },
        { { "something", NULL }, "unknown tensors" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct st_writer *w = st_writer_new();
        for (int j = 0; j < 2 && cases[i].names[j]; j++)
            st_writer_add_text(w, cases[i].names[j], "F16", "2x2");
        expect_open_fails(w, DR_EUNSUPPORTED, cases[i].words);
    }
    expect_open_fails(st_writer_new(), DR_EUNSUPPORTED, "unknown tensors");
}

/* An adapter's signs count where they are a good part of the file. */
static void what_it_mostly_is(void **state)
{
    (void)state;
    for (int adapter = 0; adapter < 2; adapter++) {
        struct st_writer *w = st_writer_new();
        char name[80];
        for (int i = 0; i < 40; i++) {
            snprintf(name, sizeof name,
                     adapter ? "lora_unet_mid_%d.lora_down.weight" : "encoder.%d.w", i);
            st_writer_add_text(w, name, "F16", "2");
        }
        st_writer_add_text(w, "encoder.conv_in.weight", "F16", "2");
        st_writer_add_text(w, "decoder.conv_in.weight", "F16", "2");
        st_writer_add_text(w, "stray.lora_down.weight", "F16", "2");
        expect_open_fails(w, DR_EUNSUPPORTED, adapter ? "this is a LoRA" : "this is a VAE alone");
    }
}

static void parts_missing(void **state)
{
    (void)state;
    struct st_writer *w = st_writer_new();
    sgm_add_unet(w, &sgm_tiny);
    sgm_add_clips(w, &sgm_tiny);
    expect_open_fails(w, DR_EFORMAT, "without its VAE");
    w = st_writer_new();
    struct sgm_spec s = sgm_tiny;
    s.context = 96;
    sgm_add(w, &s);
    expect_open_fails(w, DR_EFORMAT, "text of 96 channels, the text encoders give 128");
    w = st_writer_new();
    s = sgm_tiny;
    s.added = 64 + 100;
    sgm_add(w, &s);
    expect_open_fails(w, DR_EFORMAT, "added conditioning of 164 channels");
    w = st_writer_new();
    s = sgm_tiny;
    sgm_add(w, &s);
    st_writer_add_text(w, "first_stage_model.encoder.mid.attn_1.to_q.weight", "F16", "1");
    st_writer_add_text(w, "edm_mean", "F32", "4");
    expect_open_fails(w, DR_EFORMAT, "tensor edm_std: expected 4 finite");
}

/* Opens w's file; its networks must refuse to load with these words. */
static void expect_load_fails(struct st_writer *w, const char *words)
{
    struct dr_error err = { 0 };
    struct checkpoint *c;
    const char *path = temporary("bad.safetensors");
    st_writer_save(w, path);
    st_writer_free(w);
    uint64_t blocks = test_blocks();
    if (checkpoint_open(path, &c, &err))
        fail_msg("%s", err.text);
    int r = load_all(c, NULL, &err);
    if (r != DR_EFORMAT || !strstr(err.text, words) || !strstr(err.text, path))
        fail_msg("returned %d \"%s\", expected \"%s\"", r, err.text, words);
    checkpoint_close(c);
    assert_int_equal(test_blocks(), blocks);
}

/* A writer of all tensors of a small checkpoint that have no `without` in their names. */
static struct st_writer *all_but(const char *without, const char *dtype)
{
    struct safetensors st;
    struct dr_error err;
    const char *path = temporary("whole.safetensors");
    sgm_save(&sgm_tiny, false, path);
    assert_int_equal(st_open(path, &st, &err), 0);
    struct st_writer *w = st_writer_new();
    for (size_t i = 0; i < st.header.n_tensors; i++) {
        const struct st_tensor *t = &st.header.tensors[i];
        if (!strstr(t->name, without))
            st_writer_add(w, t->name, dtype ? dtype : dtype_name(t->dtype), t->shape.n, t->shape.d,
                          NULL);
    }
    st_close(&st);
    return w;
}

static void tensors_missing_or_misshapen(void **state)
{
    (void)state;
    expect_load_fails(all_but("transformer_blocks.1.ff.net.2.bias", NULL),
                      "tensors of the unet do not fit: "
                      "'down_blocks.1.attentions.0.transformer_blocks.1.ff.net.2.bias' is missing");
    struct st_writer *w = all_but("out.2.weight", NULL);
    st_writer_add_text(w, "model.diffusion_model.out.2.weight", "F16", "4x64x3x1");
    expect_load_fails(w, "1 of ");
    w = all_but("out.2.weight", NULL);
    st_writer_add_text(w, "model.diffusion_model.out.2.weight", "F16", "4x64x3x1");
    expect_load_fails(w, "'conv_out.weight' is [4, 64, 3, 1], expected [4, 64, 3, 3]");
    w = all_but("time_embed.2.bias", NULL);
    st_writer_add_text(w, "model.diffusion_model.time_embed.2.bias", "I64", "256");
    expect_load_fails(w, "'time_embedding.linear_2.bias' is of dtype I64");
    expect_load_fails(all_but("first_stage_model.decoder.mid.block_2", NULL), "8 of ");
}

static void every_dtype(void **state)
{
    (void)state;
    static const char *const dtypes[] = { "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F64" };
    struct dr_error err;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        struct st_writer *w = all_but("nothing", dtypes[i]);
        const char *path = temporary("dtype.safetensors");
        struct checkpoint *c;
        st_writer_save(w, path);
        st_writer_free(w);
        assert_int_equal(checkpoint_open(path, &c, &err), 0);
        assert_int_equal(load_all(c, NULL, &err), 0);
        checkpoint_close(c);
    }
}

static void unused_are_named(void **state)
{
    (void)state;
    struct dr_error err;
    struct checkpoint *c;
    struct st_writer *w = st_writer_new();
    sgm_add(w, &sgm_tiny);
    st_writer_add_text(w, "first_stage_model.loss.logvar", "F32", "");
    for (int i = 0; i < 700; i++) {
        char name[60];
        snprintf(name, sizeof name, "model_ema.diffusion_modelinput_blocks%dweight", i);
        st_writer_add_text(w, name, "F32", "1");
    }
    st_writer_add_text(w, "model.diffusion_model.input_blocks.1.0.in_layers.7.weight", "F32", "4");
    st_writer_add_text(w, "model.diffusion_model.input_blocks.3.1.transformer_blocks.0.x", "F32",
                       "4");
    st_writer_add_text(w, "alphas_cumprod", "F32", "1000"); /* silently left alone */
    st_writer_add_text(w, "denoiser.sigmas", "F32", "1000");
    const char *path = temporary("extra.safetensors");
    st_writer_save(w, path);
    st_writer_free(w);
    assert_int_equal(checkpoint_open(path, &c, &err), 0);
    assert_int_equal(load_all(c, NULL, &err), 0);
    assert_int_equal(load_all(c, NULL, &err), 0); /* twice: no warning twice */
    assert_string_equal(checkpoint_warning(c, 0),
                        "700 tensors model_ema.* are not used: averages of the weights from "
                        "training");
    assert_string_equal(checkpoint_warning(c, 1), "1 tensors first_stage_model.loss.* are not "
                                                  "used: the VAE's loss in training");
    assert_string_equal(checkpoint_warning(c, 2),
                        "tensor 'model.diffusion_model.input_blocks.1.0.in_layers.7.weight' is not "
                        "used");
    assert_non_null(strstr(checkpoint_warning(c, 3),
                           "'unet.down_blocks.1.attentions.0.transformer_blocks.0.x' is not used"));
    assert_null(checkpoint_warning(c, 4));
    checkpoint_close(c);
}

/* A warning a group, not one a tensor. */
static void many_unused_are_counted(void **state)
{
    (void)state;
    enum { MANY = 60000 };
    struct dr_error err;
    struct checkpoint *c;
    struct st_writer *w = st_writer_new();
    st_writer_sparse(w);
    sgm_add(w, &sgm_tiny);
    for (int i = 0; i < MANY; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s.%05d",
                 i % 2 ? "optimizer.state" : "model.diffusion_model.out.2.x", i);
        st_writer_add_text(w, name, "F32", "");
    }
    const char *path = temporary("many.safetensors");
    st_writer_save(w, path);
    st_writer_free(w);
    assert_int_equal(checkpoint_open(path, &c, &err), 0);
    assert_int_equal(load_all(c, NULL, &err), 0);
    assert_string_equal(checkpoint_warning(c, 0),
                        "30000 tensors are not used: 'optimizer.state.00001', "
                        "'optimizer.state.00003', 'optimizer.state.00005', ...");
    assert_non_null(strstr(checkpoint_warning(c, 1), "30000 tensors are not used: 'unet.conv_out"));
    assert_null(checkpoint_warning(c, 2));
    checkpoint_close(c);
    unlink(path);
}

/* Tensors of training and of adapters beside a whole checkpoint: it stays one, and they are named.
 */
static void strays_are_no_obstacle(void **state)
{
    (void)state;
    static const struct {
        const char *name, *dtype, *shape;
    } strays[] = {
        { "lora_unet_mid_block.lora_down.weight", "F16", "4x4" },
        { "unet.down_blocks.1.attentions.0.proj_in.lora_A.weight", "F32", "4x4" },
        { "something.hada_w1_a", "F16", "4" },
        { "ip_adapter.1.to_k_ip.weight", "F16", "4" },
        { "control_model.input_hint_block.0.weight", "F16", "4" },
        { "x.motion_modules.0.weight", "F16", "4" },
        { "step", "I64", "" },
        { "global_step", "U64", "1" },
        { "model_ema.diffusion_modelinput_blocks00weight", "F32", "4" },
        { "conditioner.embedders.0.transformer.logit_scale", "F32", "" },
        { "empty", "F32", "0" },
        { "optimizer.absmax", "F32", "4" },
        { "vae.decoder.conv_in.weight", "F16", "4" },
        { "x.qweight", "I32", "4" },
    };
    struct dr_error err = { 0 };
    struct checkpoint *c;
    const char *path = temporary("stray.safetensors");
    for (size_t i = 0; i < sizeof strays / sizeof *strays; i++) {
        struct st_writer *w = st_writer_new();
        sgm_add(w, &sgm_tiny);
        st_writer_add_text(w, strays[i].name, strays[i].dtype, strays[i].shape);
        st_writer_save(w, path);
        st_writer_free(w);
        if (checkpoint_open(path, &c, &err))
            fail_msg("%s: %s", strays[i].name, err.text);
        assert_int_equal(load_all(c, NULL, &err), 0);
        assert_null(checkpoint_warning(c, 1));
        checkpoint_close(c);
    }
}

/* ---- how it was trained ---- */

struct mark {
    const char *tensor, *key, *value; /* tensor, or entry of the header */
};

static struct st_writer *marked(const struct mark *marks, int n)
{
    struct st_writer *w = st_writer_new();
    sgm_add(w, &sgm_tiny);
    for (int i = 0; i < n; i++) {
        if (marks[i].tensor)
            st_writer_add_text(w, marks[i].tensor, "F32", "0");
        if (marks[i].key)
            st_writer_metadata(w, marks[i].key, marks[i].value);
    }
    return w;
}

static void marks_are_read(void **state)
{
    (void)state;
    static const struct {
        struct mark marks[3];
        const char *prediction; /* NULL: no scheduler */
        int zero_snr;           /* -1: not said */
    } cases[] = {
        { { { "v_pred", NULL, NULL } }, "v_prediction", -1 },
        { { { "v_pred", NULL, NULL }, { "ztsnr", NULL, NULL } }, "v_prediction", 1 },
        { { { NULL, "modelspec.prediction_type", "v" } }, "v_prediction", -1 },
        { { { NULL, "modelspec.prediction_type", "V_Prediction" } }, "v_prediction", -1 },
        { { { NULL, "modelspec.prediction_type", "epsilon" } }, "epsilon", -1 },
        { { { NULL, "ss_v_parameterization", "True" } }, "v_prediction", -1 },
        { { { NULL, "ss_v_parameterization", "False" } }, "epsilon", -1 },
        { { { NULL, "ss_v_parameterization", "None" } }, NULL, -1 },
        { { { NULL, "ss_v_parameterization", "True" }, { NULL, "ss_zero_terminal_snr", "True" } },
          "v_prediction",
          1 },
        { { { "v_pred", NULL, NULL },
            { NULL, "modelspec.prediction_type", "v" },
            { "ztsnr", NULL, NULL } },
          "v_prediction",
          1 },
        { { { NULL, "prediction_type", "sample" } }, "sample", -1 },
        { { { NULL, "modelspec.architecture", "stable-diffusion-xl-v1-base" } }, NULL, -1 },
        { { { NULL, "modelspec.prediction_type", "" } }, NULL, -1 },
    };
    struct dr_error err;
    struct checkpoint *c;
    const char *path = temporary("marked.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct st_writer *w = marked(cases[i].marks, 3);
        st_writer_save(w, path);
        st_writer_free(w);
        if (checkpoint_open(path, &c, &err))
            fail_msg("case %zu: %s", i, err.text);
        const json_t *o = checkpoint_scheduler_config(c);
        const char *prediction = json_string_value(json_object_get(o, "prediction_type"));
        if (cases[i].prediction)
            assert_string_equal(prediction, cases[i].prediction);
        else
            assert_null(o);
        const json_t *zero = json_object_get(o, "rescale_betas_zero_snr");
        assert_int_equal(zero ? json_is_true(zero) : -1, cases[i].zero_snr);
        assert_null(checkpoint_warning(c, 0));
        checkpoint_close(c);
    }
    struct mark alone = { "ztsnr", NULL, NULL };
    struct st_writer *w = marked(&alone, 1);
    st_writer_save(w, path);
    st_writer_free(w);
    assert_int_equal(checkpoint_open(path, &c, &err), 0);
    assert_non_null(strstr(checkpoint_warning(c, 0), "assuming epsilon"));
    checkpoint_close(c);
}

static void marks_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct mark marks[2];
        int code;
        const char *words;
    } cases[] = {
        { { { "v_pred", NULL, NULL }, { NULL, "modelspec.prediction_type", "epsilon" } },
          DR_EFORMAT,
          "tensor v_pred says v_prediction, __metadata__ modelspec.prediction_type says epsilon" },
        { { { "v_pred", NULL, NULL }, { NULL, "ss_v_parameterization", "False" } },
          DR_EFORMAT,
          "contradict" },
        { { { NULL, "modelspec.prediction_type", "v" }, { NULL, "ss_v_parameterization", "0" } },
          DR_EFORMAT,
          "contradict" },
        { { { "ztsnr", NULL, NULL }, { NULL, "ss_zero_terminal_snr", "False" } },
          DR_EFORMAT,
          "tensor ztsnr says true" },
        { { { NULL, "modelspec.prediction_type", "rectified flow" } },
          DR_EUNSUPPORTED,
          "'rectified flow'" },
        { { { NULL, "prediction_type", "flow_prediction" } }, DR_EUNSUPPORTED, "flow_prediction" },
        { { { NULL, "ss_zero_terminal_snr", "maybe" } }, DR_EFORMAT, "expected true or false" },
        { { { NULL, "modelspec.architecture", "CosXL" } }, DR_EUNSUPPORTED, "CosXL" },
        { { { "edm_std", NULL, NULL } }, DR_EUNSUPPORTED, "EDM" },
        { { { "edm_other", NULL, NULL } }, DR_EUNSUPPORTED, "EDM" },
        { { { "edm_mean", NULL, NULL } }, DR_EFORMAT, "tensor edm_mean: expected 4 finite" },
        { { { "edm_vpred.sigma_max", NULL, NULL }, { "ztsnr", NULL, NULL } },
          DR_EFORMAT,
          "tensor ztsnr says zero terminal SNR, tensor edm_vpred.sigma_max says EDM" },
        { { { "edm_vpred.sigma_max", NULL, NULL }, { NULL, "prediction_type", "epsilon" } },
          DR_EFORMAT,
          "edm_vpred.sigma_max says v_prediction" },
        { { { "edm_vpred.sigma_min", NULL, NULL } }, DR_EUNSUPPORTED, "EDM" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_open_fails(marked(cases[i].marks, 2), cases[i].code, cases[i].words);
}

/* Quantisations of other programs are named, plain casts are read (every_dtype); those with scales
 * that are read: test_models_quantised.c. */
static void quantised_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *dtype, *words;
    } cases[] = {
        { "model.diffusion_model.out.3.scale_weight", "F32", "whose weight is not beside it" },
        { "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight_scale", "F32",
          "whose weight is not beside it" },
        { "model.diffusion_model.out.2.weight_scale_inv", "F32",
          "fp8 weights with scales by block" },
        { "model.diffusion_model.out.2.pre_quant_scale", "F32", "SmoothQuant" },
        { "model.diffusion_model.out.2.weight.absmax", "F32", "bitsandbytes" },
        { "model.diffusion_model.out.2.weight.quant_state.bitsandbytes__nf4", "U8",
          "bitsandbytes" },
        { "conditioner.embedders.0.transformer.text_model.x.SCB", "F32", "LLM.int8" },
        { "model.diffusion_model.middle_block.1.proj_in.qweight", "I32", "GPTQ" },
        { "model.diffusion_model.middle_block.1.proj_in.wscales", "F16", "SVDQuant" },
        { "model.diffusion_model.out.2.weight._data", "I8", "quanto" },
        { "model.diffusion_model.out.2.weight_scale_2", "F32", "NVFP4" },
        { "model.diffusion_model.out.2.zero_point", "F16", "zero points" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct st_writer *w = st_writer_new();
        sgm_add(w, &sgm_tiny);
        st_writer_add_text(w, cases[i].name, cases[i].dtype, "4");
        expect_open_fails(w, DR_EUNSUPPORTED, cases[i].words);
    }
}

/* A VAE made without its encoder does not complain about the encoder's tensors. */
static void half_a_vae(void **state)
{
    (void)state;
    struct dr_error err;
    struct checkpoint *c;
    struct vae *vae;
    const char *path = temporary("half.safetensors");
    sgm_save(&sgm_tiny, false, path);
    assert_int_equal(checkpoint_open(path, &c, &err), 0);
    assert_int_equal(vae_new(checkpoint_vae_arch(c), false, true, &vae, &err), 0);
    assert_int_equal(checkpoint_load(c, COMPONENT_VAE, vae, vae_visit, &err), 0);
    assert_null(checkpoint_warning(c, 0));
    vae_free(vae);
    checkpoint_close(c);
}

static void prediction_marks(void **state)
{
    (void)state;
    struct dr_error err;
    struct checkpoint *c;
    struct st_writer *w = st_writer_new();
    sgm_add(w, &sgm_tiny);
    st_writer_add_text(w, "v_pred", "F32", "0");
    st_writer_add_text(w, "ztsnr", "F32", "0");
    const char *path = temporary("v.safetensors");
    st_writer_save(w, path);
    st_writer_free(w);
    assert_int_equal(checkpoint_open(path, &c, &err), 0);
    const json_t *s = checkpoint_scheduler_config(c);
    assert_string_equal(json_string_value(json_object_get(s, "prediction_type")), "v_prediction");
    assert_true(json_is_true(json_object_get(s, "rescale_betas_zero_snr")));
    checkpoint_close(c);
}

static void changed_while_open(void **state)
{
    (void)state;
    struct dr_error err;
    struct checkpoint *c;
    const char *path = temporary("changing.safetensors");
    sgm_save(&sgm_tiny, false, path);
    assert_int_equal(checkpoint_open(path, &c, &err), 0);
    assert_int_equal(checkpoint_check(c, &err), 0);
    assert_int_equal(truncate(path, 100000), 0);
    assert_int_equal(checkpoint_check(c, &err), DR_EIO);
    checkpoint_close(c);
}

static int open_and_load(void *path, struct dr_error *err)
{
    struct checkpoint *c;
    int r = checkpoint_open(path, &c, err);
    if (r)
        return r;
    r = load_all(c, NULL, err);
    checkpoint_close(c);
    return r;
}

static void short_of_memory(void **state)
{
    (void)state;
    struct st_writer *w = st_writer_new();
    sgm_add(w, &sgm_tiny);
    st_writer_add_text(w, "stray", "F32", "1");
    st_writer_add_text(w, "v_pred", "F32", "0");
    const char *path = temporary("oom.safetensors");
    st_writer_save(w, path);
    st_writer_free(w);
    test_oom_walk(open_and_load, (void *)path);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(family),
    cmocka_unit_test(base_architecture),
    cmocka_unit_test(refiner_architecture),
    cmocka_unit_test(stable_diffusion),
    cmocka_unit_test(trained_steps),
    cmocka_unit_test(cut_and_transposed),
    cmocka_unit_test(what_it_is_instead),
    cmocka_unit_test(what_it_mostly_is),
    cmocka_unit_test(parts_missing),
    cmocka_unit_test(tensors_missing_or_misshapen),
    cmocka_unit_test(every_dtype),
    cmocka_unit_test(unused_are_named),
    cmocka_unit_test(many_unused_are_counted),
    cmocka_unit_test(strays_are_no_obstacle),
    cmocka_unit_test(marks_are_read),
    cmocka_unit_test(marks_that_are_refused),
    cmocka_unit_test(quantised_are_refused),
    cmocka_unit_test(half_a_vae),
    cmocka_unit_test(prediction_marks),
    cmocka_unit_test(changed_while_open),
    cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
