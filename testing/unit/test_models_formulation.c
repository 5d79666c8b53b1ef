/* test_models_formulation.c - what a folder's files say of how its model was trained. (Single
 * files: test_models_single_file.c.) */
#include "testing/helpers/model_folder.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "models/formats/safetensors.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/model_access.h"
#include "testing/helpers/sgm_maker.h"

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
    folder_must_fail(DR_EFORMAT, "'conv_in.weight' has a scale of");
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

/* ---- what a request says ---- */

static struct checkpoint *open_asked(const char *path, const char *prediction,
                                     enum model_said zero_snr, const char *warning)
{
    struct dr_error err = { 0 };
    struct checkpoint *c;
    struct model_spec spec = { .model = { path, NULL }, .zero_snr = zero_snr };
    spec.prediction = prediction;
    if (checkpoint_open_spec(&spec, NULL, &c, &err))
        fail_msg("%s", err.text);
    const char *said = checkpoint_warning(c, 0);
    if (warning ? !said || !strstr(said, warning) : said != NULL)
        fail_msg("warned: %s, expected: %s", said, warning);
    return c;
}

static void must_predict(struct checkpoint *c, const char *prediction, bool zero_snr,
                         const char *by)
{
    const json_t *o = checkpoint_scheduler_config(c);
    const struct checkpoint_formulation *f = checkpoint_formulation(c);
    assert_string_equal(json_string_value(json_object_get(o, "prediction_type")), prediction);
    assert_int_equal(json_is_true(json_object_get(o, "rescale_betas_zero_snr")), zero_snr);
    assert_string_equal(f->prediction, prediction);
    assert_string_equal(f->prediction_by, by);
    checkpoint_close(c);
}

static void what_is_asked_for_holds(void **state)
{
    (void)state;
    folder_make();
    const char *root = folder_root();
    must_predict(open_asked(root, "v_prediction", MODEL_HAS, NULL), "v_prediction", true,
                 "the request");
    folder_write(SCHEDULER, "\"prediction_type\":\"epsilon\"", NULL);
    must_predict(open_asked(root, NULL, MODEL_SAYS, NULL), "epsilon", false,
                 "scheduler_config.json prediction_type");
    must_predict(open_asked(root, "epsilon", MODEL_HAS_NOT, NULL), "epsilon", false,
                 "scheduler_config.json prediction_type");
    must_predict(open_asked(root, "sample", MODEL_SAYS,
                            "scheduler_config.json prediction_type says epsilon: sample, as asked "
                            "for, is used"),
                 "sample", false, "the request");
    /* marks that contradict each other */
    mark(NULL, "modelspec.prediction_type", "v");
    root = folder_root();
    folder_write(SCHEDULER, "\"prediction_type\":\"epsilon\"", NULL);
    folder_must_fail(DR_EFORMAT, "(--prediction or --zsnr decides)");
    must_predict(open_asked(root, "v_prediction", MODEL_SAYS, "says epsilon"), "v_prediction",
                 false, "the request");
    /* another formulation stays one */
    mark(NULL, "modelspec.prediction_type", "flow");
    struct dr_error err = { 0 };
    struct checkpoint *c;
    struct model_spec spec = { .model = { folder_root(), NULL }, .prediction = "epsilon" };
    assert_int_equal(checkpoint_open_spec(&spec, NULL, &c, &err), DR_EUNSUPPORTED);
}

/* A small single file of Stable Diffusion 2.x, or of SDXL with CosXL's mark. */
static const char *small_file(bool edm)
{
    static char path[600];
    struct sgm_spec s = sgm_tiny;
    struct st_writer *w = st_writer_new();
    const float ends[] = { 90, 0.01F };
    snprintf(path, sizeof path, "%s/%s.safetensors", test_dir(), edm ? "edm" : "sd2");
    if (!edm) {
        s.version = 2;
        s.added = s.clip_l.width = 0;
        s.context = s.clip_g.width;
    }
    sgm_add(w, &s);
    if (edm) {
        st_writer_add(w, "edm_vpred.sigma_max", "F32", 0, NULL, &ends[0]);
        st_writer_add(w, "edm_vpred.sigma_min", "F32", 0, NULL, &ends[1]);
    }
    st_writer_save(w, path);
    st_writer_free(w);
    return path;
}

/* What is asked for chooses the family's member; an EDM model leaves nothing to ask for. */
static void families_of_single_files(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    const char *path = small_file(false);
    struct checkpoint *c = open_asked(path, NULL, MODEL_SAYS, "give --prediction epsilon");
    assert_string_equal(checkpoint_formulation(c)->prediction, "v_prediction");
    assert_int_equal(checkpoint_unet_arch(c)->sample_size, 96);
    checkpoint_close(c);
    c = open_asked(path, "epsilon", MODEL_SAYS, NULL);
    assert_int_equal(checkpoint_unet_arch(c)->sample_size, 64);
    assert_string_equal(checkpoint_formulation(c)->prediction, "epsilon");
    checkpoint_close(c);
    path = small_file(true);
    c = open_asked(path, NULL, MODEL_SAYS, NULL);
    const json_t *o = checkpoint_scheduler_config(c);
    assert_true(json_real_value(json_object_get(o, "sigma_max")) == 90);
    must_predict(c, "v_prediction", false, "edm_vpred.sigma_max");
    struct model_spec spec = { .model = { path, NULL }, .prediction = "epsilon" };
    assert_int_equal(checkpoint_open_spec(&spec, NULL, &c, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "--prediction: expected nothing"));
    spec = (struct model_spec){ .model = { path, NULL }, .zero_snr = MODEL_HAS };
    assert_int_equal(checkpoint_open_spec(&spec, NULL, &c, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "--zsnr: expected nothing"));
}

static void spellings(void **state)
{
    (void)state;
    assert_string_equal(model_prediction("v"), "v_prediction");
    assert_string_equal(model_prediction("EPS"), "epsilon");
    assert_string_equal(model_prediction("x0"), "sample");
    assert_null(model_prediction("flow"));
    assert_null(model_prediction(""));
}

/* What follows from the files anyway is no other model; what does not is one. */
static void what_makes_another_model(void **state)
{
    (void)state;
    folder_make();
    struct model_spec plain = { .model = { folder_root(), NULL } }, eps = plain, v = plain;
    eps.prediction = "epsilon";
    v.prediction = "v_prediction";
    struct checkpoint *c = open_asked(folder_root(), NULL, MODEL_SAYS, NULL);
    assert_true(checkpoint_is_at(c, &plain) && checkpoint_is_at(c, &eps));
    assert_false(checkpoint_is_at(c, &v));
    v.zero_snr = MODEL_HAS;
    assert_false(checkpoint_is_at(c, &v));
    checkpoint_close(c);
    c = open_asked(folder_root(), "v_prediction", MODEL_HAS, NULL);
    assert_true(checkpoint_is_at(c, &v));
    assert_false(checkpoint_is_at(c, &plain) || checkpoint_is_at(c, &eps));
    v.zero_snr = MODEL_SAYS;
    assert_false(checkpoint_is_at(c, &v));
    checkpoint_close(c);
}

/* EDM is asked for by names of its own, and only of models that say so. */
static void edm_is_named(void **state)
{
    (void)state;
    const int64_t one = 1;
    const float levels[2] = { 80, 0.002f };
    char file[300], plain[300];
    struct dr_error err = { 0 };
    struct checkpoint *c;
    struct st_writer *w = st_writer_new();
    snprintf(file, sizeof file, "%s/cosxl.safetensors", test_dir());
    snprintf(plain, sizeof plain, "%s/plain.safetensors", test_dir());
    sgm_add(w, &sgm_tiny);
    st_writer_add(w, "edm_vpred.sigma_max", "F32", 1, &one, &levels[0]);
    st_writer_add(w, "edm_vpred.sigma_min", "F32", 1, &one, &levels[1]);
    st_writer_save(w, file);
    st_writer_free(w);
    sgm_save(&sgm_tiny, false, plain);
    for (int i = 0; i < 2; i++) {
        c = open_asked(file, i ? "edm_v" : NULL, MODEL_SAYS, NULL);
        assert_string_equal(checkpoint_formulation(c)->prediction, "v_prediction");
        checkpoint_close(c);
    }
    struct model_spec spec = { .model = { file, NULL }, .prediction = "epsilon" };
    assert_int_equal(checkpoint_open_spec(&spec, NULL, &c, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "or --prediction edm_v, for a model of the EDM"));
    spec = (struct model_spec){ .model = { plain, NULL }, .prediction = "edm" };
    assert_int_equal(checkpoint_open_spec(&spec, NULL, &c, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "files do not say EDM"));
    /* a UNet of it alone has not all that says how it is drawn */
    spec = (struct model_spec){ .model = { plain, NULL } };
    spec.part[COMPONENT_UNET].path = file;
    assert_int_equal(checkpoint_open_spec(&spec, NULL, &c, &err), DR_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "of the EDM formulation: give the whole checkpoint with -m"));
}

/* The configuration that AUTOMATIC1111 reads beside a file. */
static void a_yaml_beside_the_file(void **state)
{
    static const struct {
        const char *text, *prediction; /* NULL: refused */
    } cases[] = {
        { "model:\n  target: a.B\n  params:\n    parameterization: \"v\"\n    x: 1\n",
          "v_prediction" },
        { "model:\r\n  params:\r\n    parameterization: v # as trained\r\n", "v_prediction" },
        { "model:\n  params:\n    parameterization: 'eps'", "epsilon" },
        { "model:\n  # parameterization: v\n  xparameterization: v\n", "epsilon" },
        { "model:\n  params:\n    parameterization: rectified_flow\n", NULL },
    };
    (void)state;
    char file[300], yaml[300];
    snprintf(file, sizeof file, "%s/m.x.safetensors", test_dir());
    snprintf(yaml, sizeof yaml, "%s/m.x.yaml", test_dir());
    sgm_save(&sgm_tiny, false, file);
    struct checkpoint *before = open_asked(file, NULL, MODEL_SAYS, NULL);
    assert_null(checkpoint_scheduler_config(before));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dr_error err = { 0 };
        struct checkpoint *c;
        test_write_text(yaml, cases[i].text);
        assert_false(checkpoint_current(before));
        int r = checkpoint_open(file, &c, &err);
        if (!cases[i].prediction) {
            assert_int_equal(r, DR_EUNSUPPORTED);
            assert_non_null(strstr(err.text, "m.x.yaml parameterization says 'rectified_flow'"));
            continue;
        }
        assert_int_equal(r, 0);
        assert_string_equal(checkpoint_formulation(c)->prediction, cases[i].prediction);
        assert_string_equal(checkpoint_formulation(c)->prediction_by,
                            i < 3 ? "m.x.yaml parameterization" : "");
        checkpoint_close(c);
    }
    assert_int_equal(unlink(yaml), 0);
    assert_true(checkpoint_current(before));
    checkpoint_close(before);
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
    cmocka_unit_test(edm_is_named),
    cmocka_unit_test(headers_are_read),
    cmocka_unit_test(what_is_not_drawn_is_refused),
    cmocka_unit_test(the_index_names_the_class),
    cmocka_unit_test(unknown_keys_are_one_warning),
    cmocka_unit_test(what_is_asked_for_holds),
    cmocka_unit_test(spellings),
    cmocka_unit_test(what_makes_another_model),
    cmocka_unit_test(families_of_single_files),
    cmocka_unit_test(a_yaml_beside_the_file),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
