/* test_models_formulation.c - what a folder's files say of how its model was trained. (Single
 * files: test_models_single_file.c.) */
#include "testing/helpers/model_folder.h"

#include <string.h>
#include <unistd.h>

#include "models/formats/safetensors.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/model_access.h"

static const char UNET[] = "unet/diffusion_pytorch_model.safetensors";
static const char SCHEDULER[] = "scheduler/scheduler_config.json";

/* The UNet's file with one tensor (NULL: none) and one entry of the header (NULL: none) more. */
static void mark(const char *tensor, const char *key, const char *value)
{
    struct safetensors st;
    struct dr_error err;
    struct st_writer *w = st_writer_new();
    folder_make();
    assert_int_equal(st_open(folder_path(UNET), &st, &err), 0);
    for (size_t i = 0; i < st.header.n_tensors; i++) {
        const struct st_tensor *t = &st.header.tensors[i];
        st_writer_add(w, t->name, dtype_name(t->dtype), t->shape.n, t->shape.d, NULL);
    }
    st_close(&st);
    if (tensor)
        st_writer_add_text(w, tensor, "F32", "1");
    if (key)
        st_writer_metadata(w, key, value);
    st_writer_save(w, folder_path(UNET));
    st_writer_free(w);
}

static void headers_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *tensor, *key, *value, *settings;
    } cases[] = {
        { NULL, "modelspec.prediction_type", "v", NULL },
        { NULL, "ss_v_parameterization", "True", "\"beta_end\":0.012" },
        { "v_pred", NULL, NULL, "\"_class_name\":\"EulerDiscreteScheduler\"" },
        { NULL, "modelspec.prediction_type", "v", "\"prediction_type\":\"v_prediction\"" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mark(cases[i].tensor, cases[i].key, cases[i].value);
        if (cases[i].settings)
            folder_write(SCHEDULER, cases[i].settings, NULL);
        struct checkpoint *c = folder_open();
        const json_t *o = checkpoint_scheduler_config(c);
        assert_string_equal(json_string_value(json_object_get(o, "prediction_type")),
                            "v_prediction");
        checkpoint_close(c);
    }
}

static void what_is_not_drawn_is_refused(void **state)
{
    (void)state;
    mark(NULL, "modelspec.prediction_type", "v");
    folder_write(SCHEDULER, "\"prediction_type\":\"epsilon\"", NULL);
    folder_must_fail(DR_EFORMAT, "scheduler_config.json prediction_type says epsilon, "
                                 "__metadata__ modelspec.prediction_type says v_prediction");
    mark("v_pred", NULL, NULL);
    folder_write(SCHEDULER, "\"prediction_type\":\"sample\"", NULL);
    folder_must_fail(DR_EFORMAT, "tensor v_pred says v_prediction");
    mark("ztsnr", NULL, NULL);
    folder_write(SCHEDULER, "\"rescale_betas_zero_snr\":false", NULL);
    folder_must_fail(DR_EFORMAT, "tensor ztsnr says true");
    mark(NULL, "prediction_type", "flow");
    folder_must_fail(DR_EUNSUPPORTED, "'flow'");
    mark("edm_mean", NULL, NULL);
    folder_must_fail(DR_EUNSUPPORTED, "EDM");
    mark("conv_in.scale_weight", NULL, NULL);
    folder_must_fail(DR_EUNSUPPORTED, "fp8 weights with scales");
    mark("conv_in.weight_scale", NULL, NULL);
    folder_must_fail(DR_EUNSUPPORTED, "fp8 weights with scales");
    mark("conv_in.weight.absmax", NULL, NULL);
    folder_must_fail(DR_EUNSUPPORTED, "bitsandbytes");
    folder_make();
    folder_write("unet/config.json", FOLDER_UNET,
                 "\"quantization_config\":{\"quant_method\":\"gptq\"}");
    folder_must_fail(DR_EUNSUPPORTED, "quantization_config");
    folder_make();
    folder_write("vae/config.json", FOLDER_VAE, "\"quantization_config\":{}");
    folder_must_fail(DR_EUNSUPPORTED, "vae/config.json: quantization_config");
}

/* model_index.json names the class that the reference makes. */
static void the_index_names_the_class(void **state)
{
    (void)state;
    static const char named[] = "\"scheduler\":[\"diffusers\",\"DDIMScheduler\"]";
    folder_make();
    folder_write("model_index.json", FOLDER_INDEX, named);
    folder_write(SCHEDULER, "\"_class_name\":\"EulerDiscreteScheduler\"", NULL);
    struct checkpoint *c = folder_open();
    const json_t *o = checkpoint_scheduler_config(c);
    assert_string_equal(json_string_value(json_object_get(o, "_class_name")), "DDIMScheduler");
    assert_non_null(strstr(checkpoint_warning(c, 0), "DDIMScheduler"));
    assert_non_null(strstr(checkpoint_warning(c, 0), "EulerDiscreteScheduler"));
    checkpoint_close(c);
    folder_write(SCHEDULER, "\"beta_end\":0.02", NULL);
    c = folder_open();
    o = checkpoint_scheduler_config(c);
    assert_string_equal(json_string_value(json_object_get(o, "_class_name")), "DDIMScheduler");
    assert_int_equal(json_object_size(o), 2);
    assert_null(checkpoint_warning(c, 0));
    checkpoint_close(c);
    folder_make(); /* the file is lost */
    unlink(folder_path(SCHEDULER));
    folder_write("model_index.json", FOLDER_INDEX, named);
    c = folder_open();
    o = checkpoint_scheduler_config(c);
    assert_string_equal(json_string_value(json_object_get(o, "_class_name")), "DDIMScheduler");
    assert_true(json_real_value(json_object_get(o, "beta_start")) == 0.00085);
    assert_non_null(strstr(checkpoint_warning(c, 0), "there is no scheduler"));
    checkpoint_close(c);
    folder_make(); /* neither is there: SDXL base's sampler and values */
    unlink(folder_path(SCHEDULER));
    c = folder_open();
    assert_null(checkpoint_scheduler_config(c));
    assert_null(checkpoint_warning(c, 0));
    checkpoint_close(c);
}

static void unknown_keys_are_one_warning(void **state)
{
    (void)state;
    folder_make();
    folder_write("unet/config.json", FOLDER_UNET,
                 "\"a1\":1,\"a2\":2,\"a3\":3,\"a4\":4,\"a5\":null");
    struct checkpoint *c = folder_open();
    assert_string_equal(checkpoint_warning(c, 0),
                        "unet/config.json: 5 keys are unknown and have no "
                        "effect: 'a1', 'a2', 'a3', ...");
    assert_null(checkpoint_warning(c, 1));
    checkpoint_close(c);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(headers_are_read),
    cmocka_unit_test(what_is_not_drawn_is_refused),
    cmocka_unit_test(the_index_names_the_class),
    cmocka_unit_test(unknown_keys_are_one_warning),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
