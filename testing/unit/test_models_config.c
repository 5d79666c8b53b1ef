/* test_models_config.c - the config.json files of a diffusers folder: what every key may be. */
#include "testing/helpers/model_folder.h"
#include "testing/helpers/model_access.h"

#include <string.h>

struct config_case {
    const char *key, *value, *words; /* words NULL: makes no difference */
};

static void check_configs(const char *file, const char *members, const struct config_case *cases,
                          size_t n)
{
    folder_make();
    for (size_t i = 0; i < n; i++) {
        folder_set_key(file, members, cases[i].key, cases[i].value);
        struct dr_error err = { 0 };
        struct checkpoint *c;
        uint64_t blocks = test_blocks();
        int r = checkpoint_open(folder_root(), &c, &err);
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
    check_configs("unet/config.json", FOLDER_UNET, cases, sizeof cases / sizeof *cases);
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
    check_configs("text_encoder/config.json", FOLDER_CLIP1, cases, sizeof cases / sizeof *cases);
    folder_make();
    folder_set_key("text_encoder_2/config.json", FOLDER_CLIP2, "architectures",
                   "[\"CLIPTextModel\"]");
    folder_must_fail(DR_EFORMAT,
                     "projection_class_embeddings_input_dim"); /* 108 is no longer 12 + 6 * 16 */
    folder_set_key("text_encoder_2/config.json", FOLDER_CLIP2, "architectures", "null");
    folder_must_load();
}

static void vae_configs(void **state)
{
    (void)state;
    static const struct config_case cases[] = {
        { "act_fn", "\"relu\"", "expected \"silu\"" },
        { "shift_factor", "0.1159", "expected null" },
        { "latents_mean", "[0,0,0,0]", "latents_std: got nothing, expected a number above 0" },
        { "latents_mean", "[0,\"1\",0,0]", "expected a number for each latent channel" },
        { "latents_mean", "[0,0,0]", "latents_mean: got [0,0,0], expected a number for each" },
        { "latents_std", "[1,1,1,1]", "latents_mean: got null" },
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
    check_configs("vae/config.json", FOLDER_VAE, cases, sizeof cases / sizeof *cases);
    folder_make();
    folder_set_key("vae/config.json", FOLDER_VAE, "latent_channels", "16");
    folder_must_fail(DR_EFORMAT, "the UNet gives 4 latent channels, the VAE takes 16");
}

static void unknown_keys_are_warnings(void **state)
{
    (void)state;
    folder_make();
    folder_set_key("unet/config.json", FOLDER_UNET, "brand_new_key", "1");
    struct checkpoint *c = folder_open();
    assert_non_null(strstr(checkpoint_warning(c, 0), "unet/config.json: key 'brand_new_key'"));
    assert_null(checkpoint_warning(c, 1));
    checkpoint_close(c);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(unet_configs),
    cmocka_unit_test(clip_configs),
    cmocka_unit_test(vae_configs),
    cmocka_unit_test(unknown_keys_are_warnings),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
