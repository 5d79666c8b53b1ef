/* layout_marks.c - what a single file says of its model beside the networks, see layout.h. The
 * marks are those that models/formulation.h and models/edm_marks.h read, and other programs. */
#include "quantize/layout_impl.h"

#include <string.h>

#include "base/alloc.h"
#include "models/formats/gguf.h"

enum { BASE_STEPS = 875000 }; /* of Stable Diffusion 2.0 base, by which diffusers knows it */

bool layout_is_edm(const struct checkpoint *c)
{
    const char *class = json_string_value(json_object_get(c->scheduler, "_class_name"));
    return class && !strncmp(class, "EDM", 3);
}

/* data: the job's own. */
static void add_mark(struct layout_job *j, const char *name, enum dtype dtype, struct shape shape,
                     const void *data)
{
    j->origins[j->n++] =
        (struct tensor_origin){ .name = name, .dtype = dtype, .shape = shape, .data = data };
}

/* Ends of the levels (CosXL), or statistics of the latents (Playground). */
static void add_edm(struct layout_job *j)
{
    static const char *const ends[][2] = { { "sigma_max", "edm_vpred.sigma_max" },
                                           { "sigma_min", "edm_vpred.sigma_min" } };
    const struct vae_arch *vae = &j->c->vae;
    const struct shape shape = SHAPE1(vae->latent_channels);
    for (int64_t i = 0; vae->normalised && i < vae->latent_channels; i++) {
        j->marks[0][i] = (float)vae->mean[i];
        j->marks[1][i] = (float)vae->deviation[i];
    }
    if (vae->normalised) {
        add_mark(j, "edm_mean", DTYPE_F32, shape, j->marks[0]);
        add_mark(j, "edm_std", DTYPE_F32, shape, j->marks[1]);
        return;
    }
    for (int i = 0; i < 2; i++) {
        const json_t *v = json_object_get(j->c->scheduler, ends[i][0]);
        j->marks[i][0] = json_is_number(v) ? (float)json_number_value(v) : i ? 0.002f : 80;
        add_mark(j, ends[i][1], DTYPE_F32, (struct shape){ 0 }, j->marks[i]);
    }
}

void layout_add_marks(struct layout_job *j)
{
    const struct checkpoint *c = j->c;
    bool v = !strcmp(c->formulation.prediction, "v_prediction");
    if (layout_is_edm(c)) {
        add_edm(j);
        return;
    }
    j->marks[0][0] = 1;
    j->steps = BASE_STEPS;
    if (v)
        add_mark(j, "v_pred", DTYPE_F32, SHAPE1(1), j->marks[0]);
    if (!strcmp(c->formulation.zero_snr, "true"))
        add_mark(j, "ztsnr", DTYPE_F32, SHAPE1(1), j->marks[0]);
    if (!strcmp(c->formulation.prediction, "epsilon") && c->family->epsilon_mark)
        add_mark(j, "global_step", DTYPE_I64, SHAPE1(1), &j->steps);
}

/* ---- metadata ---- */

/* Those of the source that would speak of another formulation or type. */
static bool outdated(const char *key)
{
    static const char *const keys[] = { "format",
                                        "modelspec.prediction_type",
                                        "prediction_type",
                                        "ss_prediction_type",
                                        "ss_v_parameterization",
                                        "v_parameterization",
                                        "ss_zero_terminal_snr",
                                        "zero_terminal_snr",
                                        "rescale_betas_zero_snr",
                                        "modelspec.architecture",
                                        "darkroom.int8" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i], key))
            return true;
    return false;
}

int layout_metadata(struct layout_job *j, struct st_metadata **ret, size_t *ret_n)
{
    const struct checkpoint *c = j->c;
    const struct st_header *h = c->folder ? NULL : &c->files[0]->header;
    bool safetensors = h && !gguf_begins(c->files[0]->map.data, c->files[0]->map.size);
    size_t n = 0, most = (safetensors ? h->n_metadata : 0) + LAYOUT_METADATA;
    struct st_metadata *m = dr_malloc(DR_TAG_FILE, most * sizeof *m);
    if (!m)
        return layout_no_memory(j);
    m[n++] = (struct st_metadata){ "format", "pt" };
    for (size_t i = 0; safetensors && i < h->n_metadata; i++)
        if (!outdated(h->metadata[i].key))
            m[n++] = h->metadata[i];
    if (!layout_is_edm(c) && (j->layout == LAYOUT_SINGLE || j->layout == LAYOUT_UNET)) {
        m[n++] = (struct st_metadata){ "modelspec.prediction_type", c->formulation.prediction };
        if (!strcmp(c->formulation.zero_snr, "true"))
            m[n++] = (struct st_metadata){ "zero_terminal_snr", "true" };
    }
    *ret = m;
    *ret_n = n;
    return 0;
}
