/* test_models_folder.c - diffusers folders: layouts, shards, variants, configuration. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "models/clip_text.h"
#include "models/model_loader.h"
#include "models/unet.h"
#include "models/vae.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/test.h"

#define UNET                                                                                       \
    "\"_class_name\":\"UNet2DConditionModel\",\"_diffusers_version\":\"0.42.1\",\"act_fn\":"       \
    "\"silu\",\"addition_embed_type\":\"text_time\",\"addition_embed_type_num_heads\":64,"         \
    "\"addition_time_embed_dim\":16,\"attention_head_dim\":[2,3],\"block_out_channels\":[16,24],"  \
    "\"center_input_sample\":false,\"class_embed_type\":null,\"conv_in_kernel\":3,"                \
    "\"conv_out_kernel\":3,\"cross_attention_dim\":20,\"cross_attention_norm\":null,"              \
    "\"down_block_types\":[\"DownBlock2D\",\"CrossAttnDownBlock2D\"],\"downsample_padding\":1,"    \
    "\"dropout\":0.0,\"flip_sin_to_cos\":true,\"freq_shift\":0,\"in_channels\":4,"                 \
    "\"layers_per_block\":1,\"mid_block_scale_factor\":1,\"mid_block_type\":"                      \
    "\"UNetMidBlock2DCrossAttn\",\"norm_eps\":1e-05,\"norm_num_groups\":8,\"out_channels\":4,"     \
    "\"projection_class_embeddings_input_dim\":108,\"sample_size\":24,"                            \
    "\"transformer_layers_per_block\":[1,2],\"up_block_types\":[\"CrossAttnUpBlock2D\","           \
    "\"UpBlock2D\"],\"upcast_attention\":null,\"use_linear_projection\":true"
#define CLIP1                                                                                      \
    "\"architectures\":[\"CLIPTextModel\"],\"hidden_act\":\"quick_gelu\",\"hidden_size\":8,"       \
    "\"intermediate_size\":12,\"num_attention_heads\":2,\"num_hidden_layers\":2,\"vocab_size\":"   \
    "30,"                                                                                          \
    "\"projection_dim\":8,\"model_type\":\"clip_text_model\",\"eos_token_id\":2"
#define CLIP2                                                                                      \
    "\"architectures\":[\"CLIPTextModelWithProjection\"],\"hidden_act\":\"gelu\",\"hidden_size\":" \
    "12,\"intermediate_size\":20,\"num_attention_heads\":3,\"num_hidden_layers\":3,"               \
    "\"vocab_size\":30,\"projection_dim\":12,\"layer_norm_eps\":1e-06,\"eos_token_id\":29"
#define VAE                                                                                        \
    "\"_class_name\":\"AutoencoderKL\",\"block_out_channels\":[8,16],\"down_block_types\":["       \
    "\"DownEncoderBlock2D\",\"DownEncoderBlock2D\"],\"up_block_types\":[\"UpDecoderBlock2D\","     \
    "\"UpDecoderBlock2D\"],\"norm_num_groups\":4,\"layers_per_block\":1,\"scaling_factor\":0."     \
    "13025,"                                                                                       \
    "\"sample_size\":48,\"force_upcast\":true,\"latents_mean\":null"
#define INDEX                                                                                      \
    "\"_class_name\":\"StableDiffusionXLPipeline\",\"text_encoder\":[\"transformers\","            \
    "\"CLIPTextModel\"],\"text_encoder_2\":[\"transformers\",\"CLIPTextModelWithProjection\"],"    \
    "\"unet\":[\"diffusers\",\"UNet2DConditionModel\"],\"vae\":[\"diffusers\",\"AutoencoderKL\"]"

static char root[400];

static const char *in_root(const char *relative)
{
    static char paths[4][600];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, relative);
    return path;
}

static void write_object(const char *relative, const char *members, const char *more)
{
    static char text[8192];
    snprintf(text, sizeof text, "{%s%s%s}\n", members, more ? "," : "", more ? more : "");
    test_write_text(in_root(relative), text);
}

/* ---- weights: the networks themselves say what they want ---- */

struct writing {
    struct st_writer *w[2];
    int n, turn;
    const char *cut;            /* prefix taken off names */
    const char *old, *spelling; /* replaced in names */
};

static int write_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    (void)p;
    struct writing *c = ctx;
    char other[PARAM_NAME * 2];
    size_t cut = c->cut && !strncmp(name, c->cut, strlen(c->cut)) ? strlen(c->cut) : 0;
    name += cut;
    const char *at = c->old ? strstr(name, c->old) : NULL;
    if (at) {
        snprintf(other, sizeof other, "%.*s%s%s", (int)(at - name), name, c->spelling,
                 at + strlen(c->old));
        name = other;
    }
    st_writer_add(c->w[c->turn++ % c->n], name, "F16", shape->n, shape->d, NULL);
    return 0;
}

static const struct unet_arch unet_arch_wanted = {
    .in_channels = 4,
    .out_channels = 4,
    .levels = 2,
    .channels = { 16, 24 },
    .layers = { 1, 1 },
    .depth = { { 0 }, { 2 } },
    .up_depth = { { 0, 0 }, { 2, 2 } },
    .mid = true,
    .mid_depth = 2,
    .mid_resnets = 2,
    .heads = { 2, 3 },
    .context = 20,
    .linear_projection = true,
    .time_dim = 64,
    .addition_time_dim = 16,
    .n_time_ids = 6,
    .pooled = 12,
    .groups = 8,
    .eps = 1e-5,
    .flip_sin_to_cos = true,
    .sample_size = 24,
};
static const struct clip_arch clip_wanted[2] = {
    { .vocab = 30,
      .width = 8,
      .layers = 2,
      .heads = 2,
      .mlp = 12,
      .positions = 77,
      .eps = 1e-5,
      .act = ARCH_QUICK_GELU,
      .eos_id = 2,
      .bos_id = 49406 },
    { .vocab = 30,
      .width = 12,
      .layers = 3,
      .heads = 3,
      .mlp = 20,
      .positions = 77,
      .eps = 1e-6,
      .projection = 12,
      .act = ARCH_GELU,
      .eos_id = 29,
      .bos_id = 49406 },
};
static const struct vae_arch vae_wanted = {
    .in_channels = 3,
    .out_channels = 3,
    .latent_channels = 4,
    .levels = 2,
    .channels = { 8, 16 },
    .layers = 1,
    .groups = 4,
    .scaling_factor = 0.13025,
    .quant_conv = true,
    .post_quant_conv = true,
    .mid_attention = true,
};

static void write_weights(void *network, visit_fn visit, const char *file, const char *cut,
                          const char *old, const char *spelling)
{
    struct writing c = {
        .w = { st_writer_new() }, .n = 1, .cut = cut, .old = old, .spelling = spelling
    };
    struct visitor v = { .param = write_param, .ctx = &c };
    assert_int_equal(visit(network, &v), 0);
    st_writer_save(c.w[0], in_root(file));
    st_writer_free(c.w[0]);
}

static void write_unet(const struct unet_arch *arch, const char *file)
{
    struct dr_error err;
    struct unet *u;
    if (unet_new(arch, &u, &err))
        fail_msg("%s", err.text);
    write_weights(u, unet_visit, file, NULL, NULL, NULL);
    unet_free(u);
}

static void write_clip(int which, const char *file, const char *cut)
{
    struct dr_error err;
    struct clip_text *t;
    assert_int_equal(clip_text_new(&clip_wanted[which], &t, &err), 0);
    write_weights(t, clip_text_visit, file, cut, NULL, NULL);
    clip_text_free(t);
}

static void write_vae(const char *file, const char *old, const char *spelling)
{
    struct dr_error err;
    struct vae *v;
    assert_int_equal(vae_new(&vae_wanted, true, true, &v, &err), 0);
    write_weights(v, vae_visit, file, NULL, old, spelling);
    vae_free(v);
}

/* A fresh folder that loads; each test spoils or varies it. */
static void make_folder(void)
{
    static int number;
    snprintf(root, sizeof root, "%s/model%d", test_dir(), number++);
    write_object("model_index.json", INDEX, NULL);
    write_object("unet/config.json", UNET, NULL);
    write_object("vae/config.json", VAE, NULL);
    write_object("text_encoder/config.json", CLIP1, NULL);
    write_object("text_encoder_2/config.json", CLIP2, NULL);
    write_object("scheduler/scheduler_config.json",
                 "\"_class_name\":\"EulerDiscreteScheduler\",\"lambda_min_clipped\":-Infinity",
                 NULL);
    test_make_dirs(in_root("tokenizer"));
    test_make_dirs(in_root("tokenizer_2"));
    write_unet(&unet_arch_wanted, "unet/diffusion_pytorch_model.safetensors");
    write_clip(0, "text_encoder/model.safetensors", NULL);
    write_clip(1, "text_encoder_2/model.safetensors", NULL);
    write_vae("vae/diffusion_pytorch_model.safetensors", NULL, NULL);
}

static int load_all(struct checkpoint *c, struct dr_error *err)
{
    struct unet *unet = NULL;
    struct clip_text *clip[2] = { NULL, NULL };
    struct vae *vae = NULL;
    int r = unet_new(checkpoint_unet_arch(c), &unet, err);
    for (int i = 0; !r && i < 2; i++)
        r = clip_text_new(checkpoint_clip_arch(c, i), &clip[i], err);
    if (!r)
        r = vae_new(checkpoint_vae_arch(c), true, true, &vae, err);
    if (!r)
        r = checkpoint_load(c, COMPONENT_UNET, unet, unet_visit, err);
    for (int i = 0; !r && i < 2; i++)
        r = checkpoint_load(c, i ? COMPONENT_TEXT_ENCODER_2 : COMPONENT_TEXT_ENCODER, clip[i],
                            clip_text_visit, err);
    if (!r)
        r = checkpoint_load(c, COMPONENT_VAE, vae, vae_visit, err);
    unet_free(unet);
    clip_text_free(clip[0]);
    clip_text_free(clip[1]);
    vae_free(vae);
    return r;
}

static struct checkpoint *open_good(void)
{
    struct dr_error err = { 0 };
    struct checkpoint *c = NULL;
    if (checkpoint_open(root, &c, &err) || load_all(c, &err))
        fail_msg("%s", err.text);
    return c;
}

/* Opens, loads without a warning, closes, leaves no block. */
static void expect_good(void)
{
    uint64_t blocks = test_blocks();
    struct checkpoint *c = open_good();
    if (checkpoint_warning(c, 0))
        fail_msg("%s", checkpoint_warning(c, 0));
    checkpoint_close(c);
    assert_int_equal(test_blocks(), blocks);
}

static void expect_bad(int code, const char *words)
{
    struct dr_error err = { 0 };
    struct checkpoint *c;
    uint64_t blocks = test_blocks();
    int r = checkpoint_open(root, &c, &err);
    if (!r) {
        r = load_all(c, &err);
        checkpoint_close(c);
    }
    if (r != code || !strstr(err.text, words))
        fail_msg("returned %d \"%s\", expected %d \"%s\"", r, err.text, code, words);
    assert_int_equal(test_blocks(), blocks);
}

static void good_folder(void **state)
{
    (void)state;
    make_folder();
    expect_good();
    struct checkpoint *c = open_good();
    assert_true(checkpoint_is_folder(c));
    assert_memory_equal(checkpoint_unet_arch(c), &unet_arch_wanted, sizeof unet_arch_wanted);
    assert_memory_equal(checkpoint_clip_arch(c, 0), &clip_wanted[0], sizeof clip_wanted[0]);
    assert_memory_equal(checkpoint_clip_arch(c, 1), &clip_wanted[1], sizeof clip_wanted[1]);
    assert_memory_equal(checkpoint_vae_arch(c), &vae_wanted, sizeof vae_wanted);
    assert_string_equal(checkpoint_kind(c), "sdxl-family");
    assert_true(checkpoint_force_zeros(c));
    assert_int_equal(checkpoint_default_size(c), 48);
    assert_string_equal(checkpoint_tokenizer_dir(c, 0), in_root("tokenizer"));
    assert_string_equal(checkpoint_tokenizer_dir(c, 1), in_root("tokenizer_2"));
    assert_non_null(json_object_get(checkpoint_scheduler_config(c), "_class_name"));
    assert_true(
        json_is_null(json_object_get(checkpoint_scheduler_config(c), "lambda_min_clipped")));
    checkpoint_close(c);
    write_object("model_index.json", INDEX, "\"force_zeros_for_empty_prompt\":false");
    unlink(in_root("scheduler/scheduler_config.json"));
    rmdir(in_root("tokenizer_2"));
    c = open_good();
    assert_false(checkpoint_force_zeros(c));
    assert_null(checkpoint_scheduler_config(c));
    assert_null(checkpoint_tokenizer_dir(c, 1));
    checkpoint_close(c);
}

static void other_spellings(void **state)
{
    (void)state;
    make_folder();
    write_clip(0, "text_encoder/model.safetensors", "text_model.");
    write_clip(1, "text_encoder_2/model.safetensors", "text_model.");
    expect_good();
    static const char *const old[][2] = { { ".to_q.", ".query." },
                                          { ".to_k.", ".key." },
                                          { ".to_v.", ".value." },
                                          { ".to_out.0.", ".proj_attn." } };
    for (size_t i = 0; i < 4; i++) {
        write_vae("vae/diffusion_pytorch_model.safetensors", old[i][0], old[i][1]);
        expect_good();
    }
    rename(in_root("unet/diffusion_pytorch_model.safetensors"),
           in_root("unet/diffusion_pytorch_model.fp16.safetensors"));
    rename(in_root("text_encoder/model.safetensors"),
           in_root("text_encoder/model.fp16.safetensors"));
    expect_good();
}

static void write_shards(const char *first, const char *second, const char *index)
{
    struct dr_error err;
    struct unet *u;
    struct writing c = { .w = { st_writer_new(), st_writer_new() }, .n = 2 };
    struct visitor v = { .param = write_param, .ctx = &c };
    assert_int_equal(unet_new(&unet_arch_wanted, &u, &err), 0);
    assert_int_equal(unet_visit(u, &v), 0);
    unet_free(u);
    st_writer_save(c.w[0], in_root("unet/a.safetensors"));
    st_writer_save(c.w[1], in_root("unet/b.safetensors"));
    st_writer_free(c.w[0]);
    st_writer_free(c.w[1]);
    unlink(in_root("unet/diffusion_pytorch_model.safetensors"));
    char text[1024];
    snprintf(text, sizeof text,
             "{\"metadata\":{\"total_size\":1},\"weight_map\":{\"conv_in.weight\":\"%s\","
             "\"conv_in.bias\":\"%s\"}}",
             first, second);
    test_write_text(in_root(index), text);
}

static void shards(void **state)
{
    (void)state;
    static const char index[] = "unet/diffusion_pytorch_model.safetensors.index.json";
    make_folder();
    write_shards("a.safetensors", "b.safetensors", index);
    expect_good();
    write_shards("b.safetensors", "a.safetensors", index);
    expect_bad(DR_EFORMAT, "tensor 'conv_in.weight' is not in 'b.safetensors'");
    write_shards("a.safetensors", "c.safetensors", index);
    expect_bad(DR_ENOENT, "c.safetensors");
    write_shards("a.safetensors", "../unet/b.safetensors", index);
    expect_bad(DR_EFORMAT, "expected names of files beside it");
    write_shards("a.safetensors", "..", index);
    expect_bad(DR_EFORMAT, "expected names of files beside it");
    write_shards("a.safetensors", "a.safetensors", index);
    expect_bad(DR_EFORMAT, "tensor 'conv_in.bias' is not in 'a.safetensors'");
    test_write_text(in_root(index), "{\"weight_map\":[]}");
    expect_bad(DR_EINVAL, "weight_map");
    unlink(in_root(index));
    write_shards("a.safetensors", "b.safetensors",
                 "unet/diffusion_pytorch_model.safetensors.index.fp16.json");
    expect_good();
    /* the same tensor in two shards */
    make_folder();
    write_shards("a.safetensors", "b.safetensors", index);
    write_unet(&unet_arch_wanted, "unet/a.safetensors");
    expect_bad(DR_EFORMAT, "two tensors mean");
}

/* UNets that differ by block, as SSD-1B and its kin have them. */
static void depth_lists(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        int down, up[2], mid_depth, mid_resnets;
        bool mid;
    } cases[] = {
        { "\"transformer_layers_per_block\":3", 3, { 3, 3 }, 3, 2, true },
        { "\"transformer_layers_per_block\":[1,[2]],\"reverse_transformer_layers_per_block\":[[1,4]"
          ",1],"
          "\"mid_block_type\":\"UNetMidBlock2D\"",
          2,
          { 1, 4 },
          0,
          1,
          true },
        { "\"transformer_layers_per_block\":[1,3],\"reverse_transformer_layers_per_block\":[2,1],"
          "\"mid_block_type\":null",
          3,
          { 2, 2 },
          0,
          0,
          false },
        { "\"transformer_layers_per_block\":[7,[2]],\"reverse_transformer_layers_per_block\":[[2,3]"
          ",9]",
          2,
          { 2, 3 },
          2,
          2,
          true },
    };
    static char base[4096];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_folder();
        /* the keys that the cases give are taken out of the usual configuration */
        snprintf(base, sizeof base, "%s", UNET);
        char *at = strstr(base, "\"transformer_layers_per_block\":[1,2],");
        memmove(at, at + 37, strlen(at + 37) + 1);
        if (strstr(cases[i].members, "mid_block_type")) {
            at = strstr(base, "\"mid_block_type\":\"UNetMidBlock2DCrossAttn\",");
            memmove(at, at + 43, strlen(at + 43) + 1);
        }
        write_object("unet/config.json", base, cases[i].members);
        struct unet_arch arch = unet_arch_wanted;
        arch.depth[1][0] = cases[i].down;
        arch.up_depth[1][0] = cases[i].up[0];
        arch.up_depth[1][1] = cases[i].up[1];
        arch.mid = cases[i].mid;
        arch.mid_depth = cases[i].mid_depth;
        arch.mid_resnets = cases[i].mid_resnets;
        write_unet(&arch, "unet/diffusion_pytorch_model.safetensors");
        struct checkpoint *c = open_good();
        assert_memory_equal(checkpoint_unet_arch(c), &arch, sizeof arch);
        assert_null(checkpoint_warning(c, 0));
        checkpoint_close(c);
    }
}

/* Writes the object with one key set to a value, all as JSON text without spaces; no library, so
 * that tests of failing allocations fail in the loader alone. */
static void set_key(const char *file, const char *members, const char *key, const char *value)
{
    static char kept[8192], added[256];
    snprintf(kept, sizeof kept, "%s", members);
    snprintf(added, sizeof added, "\"%s\":", key);
    char *at = strstr(kept, added);
    if (at) {
        int depth = 0;
        char *end = at + strlen(added);
        while (*end && (*end != ',' || depth)) {
            depth += (*end == '[') - (*end == ']');
            end++;
        }
        end += *end == ',';
        memmove(at, end, strlen(end) + 1);
        size_t n = strlen(kept);
        if (n && kept[n - 1] == ',')
            kept[n - 1] = '\0';
    }
    snprintf(added, sizeof added, "\"%s\":%s", key, value);
    write_object(file, kept, added);
}

struct config_case {
    const char *key, *value, *words; /* words NULL: makes no difference */
};

static void check_configs(const char *file, const char *members, const struct config_case *cases,
                          size_t n)
{
    make_folder();
    for (size_t i = 0; i < n; i++) {
        set_key(file, members, cases[i].key, cases[i].value);
        struct dr_error err = { 0 };
        struct checkpoint *c;
        uint64_t blocks = test_blocks();
        int r = checkpoint_open(root, &c, &err);
        bool good = cases[i].words ? r && strstr(err.text, cases[i].words) &&
                                         strstr(err.text, cases[i].key) && strstr(err.text, file)
                                   : !r;
        if (!r)
            checkpoint_close(c);
        if (!good)
            fail_msg("%s %s = %s: returned %d \"%s\"", file, cases[i].key, cases[i].value, r,
                     err.text);
        assert_int_equal(test_blocks(), blocks);
    }
}

static void unet_configs(void **state)
{
    (void)state;
    static const struct config_case cases[] = {
        { "act_fn", "\"gelu\"", "got \"gelu\", expected \"silu\"" },
        { "act_fn", "\"swish\"", NULL },
        { "addition_embed_type", "null", "got null, expected \"text_time\"" },
        { "addition_embed_type", "\"text\"", "expected \"text_time\"" },
        { "resnet_time_scale_shift", "\"scale_shift\"", "expected \"default\"" },
        { "time_embedding_type", "\"fourier\"", "expected \"positional\"" },
        { "attention_type", "\"gated\"", "expected \"default\"" },
        { "downsample_padding", "0", "got 0, expected 1" },
        { "mid_block_scale_factor", "1.41421", "expected 1" },
        { "resnet_out_scale_factor", "2", "expected 1" },
        { "conv_in_kernel", "1", "expected 3" },
        { "conv_out_kernel", "5", "expected 3" },
        { "center_input_sample", "true", "got true, expected false" },
        { "only_cross_attention", "true", "expected false" },
        { "only_cross_attention", "[false,true]", "expected false" },
        { "mid_block_only_cross_attention", "true", "expected false" },
        { "dual_cross_attention", "true", "expected false" },
        { "resnet_skip_time_act", "true", "expected false" },
        { "class_embeddings_concat", "true", "expected false" },
        { "num_attention_heads", "[5,10]", "expected null" },
        { "encoder_hid_dim", "4096", "expected null" },
        { "encoder_hid_dim_type", "\"text_proj\"", "expected null" },
        { "class_embed_type", "\"timestep\"", "expected null" },
        { "num_class_embeds", "10", "expected null" },
        { "time_embedding_act_fn", "\"silu\"", "expected null" },
        { "timestep_post_act", "\"silu\"", "expected null" },
        { "time_cond_proj_dim", "256", "got 256, expected null" },
        { "cross_attention_norm", "\"layer_norm\"", "expected null" },
        { "upcast_attention", "true", NULL },
        { "dropout", "0.1", NULL },
        { "block_out_channels", "[]", "expected 1 to 6 levels" },
        { "block_out_channels", "[16,0]", "positive integers" },
        { "block_out_channels", "[16,24,32]", "one number for each of block_out_channels" },
        { "block_out_channels", "[1,1,1,1,1,1,1]", "1 to 6 levels" },
        { "down_block_types", "[\"DownBlock2D\",\"AttnDownBlock2D\"]", "CrossAttnDownBlock2D" },
        { "up_block_types", "[\"UpBlock2D\"]", "2 of \"UpBlock2D\"" },
        { "mid_block_type", "\"UNetMidBlock2DSimpleCrossAttn\"", "UNetMidBlock2DCrossAttn" },
        { "layers_per_block", "0", "positive integers" },
        { "layers_per_block", "[1,1,1]", "one number for each" },
        { "layers_per_block", "9", "positive integers" },
        { "transformer_layers_per_block", "[1]", "one for each level" },
        { "transformer_layers_per_block", "[1,0]", "positive number" },
        { "transformer_layers_per_block", "[1,[1,2]]", "one for each layer" },
        { "transformer_layers_per_block", "\"2\"", "positive number" },
        { "reverse_transformer_layers_per_block", "[[1],1]", "one for each layer" },
        { "attention_head_dim", "[2]", "one number for each" },
        { "attention_head_dim", "-8", "positive integers" },
        { "cross_attention_dim", "[20,21]", "the same width" },
        { "cross_attention_dim", "[20,20]", NULL },
        { "in_channels", "\"4\"", "got \"4\"" },
        { "norm_num_groups", "0", "from 1" },
        { "norm_eps", "0", "between 0 and 1" },
        { "addition_time_embed_dim", "null", "addition_time_embed_dim" },
        { "projection_class_embeddings_input_dim", "100", "text_encoder_2's projection_dim (12)" },
        { "projection_class_embeddings_input_dim", "12", "projection_dim (12)" },
        { "sample_size", "[24,16]", NULL },
        { "sample_size", "null", NULL },
        { "sample_size", "\"x\"", "positive integer" },
    };
    check_configs("unet/config.json", UNET, cases, sizeof cases / sizeof *cases);
}

static void clip_configs(void **state)
{
    (void)state;
    static const struct config_case cases[] = {
        { "hidden_act", "\"gelu_new\"", "expected \"quick_gelu\" or \"gelu\"" },
        { "architectures", "[\"T5EncoderModel\"]", "CLIPTextModelWithProjection" },
        { "architectures", "[\"CLIPTextModel\"]", NULL }, /* and see below */
        { "model_type", "\"t5\"", "expected \"clip_text_model\"" },
        { "num_attention_heads", "5", "a divisor of hidden_size" },
        { "num_hidden_layers", "0", "from 1" },
        { "vocab_size", "-1", "from 1" },
        { "layer_norm_eps", "2", "between 0 and 1" },
        { "hidden_size", "1.5", "an integer" },
        { "pad_token_id", "0", NULL },
        { "attention_dropout", "0.5", NULL },
        { "torch_dtype", "\"float16\"", NULL },
    };
    check_configs("text_encoder/config.json", CLIP1, cases, sizeof cases / sizeof *cases);
    make_folder();
    set_key("text_encoder_2/config.json", CLIP2, "architectures", "[\"CLIPTextModel\"]");
    expect_bad(DR_EFORMAT,
               "projection_class_embeddings_input_dim"); /* 108 is no longer 12 + 6 * 16 */
    set_key("text_encoder_2/config.json", CLIP2, "architectures", "null");
    expect_good();
}

static void vae_configs(void **state)
{
    (void)state;
    static const struct config_case cases[] = {
        { "act_fn", "\"relu\"", "expected \"silu\"" },
        { "shift_factor", "0.1159", "expected null" },
        { "latents_mean", "[0,0,0,0]", "expected null" },
        { "latents_std", "[1,1,1,1]", "expected null" },
        { "down_block_types", "[\"DownEncoderBlock2D\",\"AttnDownEncoderBlock2D\"]",
          "DownEncoder" },
        { "up_block_types", "\"UpDecoderBlock2D\"", "UpDecoderBlock2D" },
        { "scaling_factor", "0", "a positive number" },
        { "scaling_factor", "\"x\"", "a number" },
        { "layers_per_block", "100", "from 1" },
        { "use_quant_conv", "1", "true or false" },
        { "force_upcast", "false", NULL },
        { "sample_size", "1024", NULL },
    };
    check_configs("vae/config.json", VAE, cases, sizeof cases / sizeof *cases);
    make_folder();
    set_key("vae/config.json", VAE, "latent_channels", "16");
    expect_bad(DR_EFORMAT, "the UNet gives 4 latent channels, the VAE takes 16");
}

static void unknown_keys_are_warnings(void **state)
{
    (void)state;
    make_folder();
    set_key("unet/config.json", UNET, "brand_new_key", "1");
    struct checkpoint *c = open_good();
    assert_non_null(strstr(checkpoint_warning(c, 0), "unet/config.json: key 'brand_new_key'"));
    assert_null(checkpoint_warning(c, 1));
    checkpoint_close(c);
}

static void not_this_kind_of_folder(void **state)
{
    (void)state;
    make_folder();
    unlink(in_root("model_index.json"));
    expect_bad(DR_EUNSUPPORTED, "no model_index.json");
    write_object("config.json", UNET, NULL);
    expect_bad(DR_EUNSUPPORTED, "one component (UNet2DConditionModel)");
    write_object("model_index.json", "\"_class_name\":\"StableDiffusionPipeline\"", NULL);
    expect_bad(DR_EUNSUPPORTED, "a folder for StableDiffusionPipeline, expected");
    write_object("model_index.json", "\"_class_name\":7", NULL);
    expect_bad(DR_EINVAL, "_class_name");
    test_write_text(in_root("model_index.json"), "[1]");
    expect_bad(DR_EFORMAT, "expected an object");
    test_write_text(in_root("model_index.json"), "{\"a\":1,\"a\":2}");
    struct dr_error err;
    struct checkpoint *c;
    assert_true(checkpoint_open(root, &c, &err) < 0);
    write_object("model_index.json",
                 "\"_class_name\":\"StableDiffusionXLPipeline\",\"vae\":[null,null]", NULL);
    expect_bad(DR_EFORMAT, "has no text_encoder_2");
}

static void missing_files(void **state)
{
    (void)state;
    make_folder();
    unlink(in_root("vae/diffusion_pytorch_model.safetensors"));
    expect_bad(DR_ENOENT, "vae: no diffusion_pytorch_model.safetensors in it");
    test_write_text(in_root("vae/diffusion_pytorch_model.bin"), "PK\3\4");
    expect_bad(DR_EUNSUPPORTED, "a Python pickle");
    make_folder();
    unlink(in_root("text_encoder/config.json"));
    expect_bad(DR_ENOENT, "text_encoder/config.json");
    make_folder();
    test_write_text(in_root("text_encoder/model.safetensors"), "PK\3\4 and so on, a ZIP archive");
    expect_bad(DR_EFORMAT, "a ZIP archive, most likely a PyTorch checkpoint");
    make_folder();
    set_key("text_encoder/config.json", CLIP1, "num_hidden_layers", "3");
    expect_bad(DR_EFORMAT, "16 of ");
}

static int open_folder(void *path, struct dr_error *err)
{
    struct checkpoint *c;
    int r = checkpoint_open(path, &c, err);
    if (!r) {
        r = load_all(c, err);
        checkpoint_close(c);
    }
    return r;
}

static void short_of_memory(void **state)
{
    (void)state;
    make_folder();
    write_shards("a.safetensors", "b.safetensors",
                 "unet/diffusion_pytorch_model.safetensors.index.json");
    set_key("unet/config.json", UNET, "brand_new_key", "1");
    test_oom_walk(open_folder, root);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(good_folder),
    cmocka_unit_test(other_spellings),
    cmocka_unit_test(shards),
    cmocka_unit_test(depth_lists),
    cmocka_unit_test(unet_configs),
    cmocka_unit_test(clip_configs),
    cmocka_unit_test(vae_configs),
    cmocka_unit_test(unknown_keys_are_warnings),
    cmocka_unit_test(not_this_kind_of_folder),
    cmocka_unit_test(missing_files),
    cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
