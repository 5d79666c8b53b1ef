/* engine_layout.c - the verb `convert` with a layout: a model, with parts that replace its own, as
 * a single file, a diffusers folder or one part (quantize/layout.h). */
#include "coordination/engine_layout.h"

#include "base/json.h"
#include "base/path_text.h"
#include "coordination/new_output.h"
#include "quantize/layout.h"

struct layout_call {
    enum model_layout layout;
    enum dtype type;
    bool stream;
    struct engine_spec spec;
    struct new_output out;
};

static int read_call(struct engine *e, const json_t *data, struct layout_call *k,
                     struct dr_error *err)
{
    static const char *const keys[] = { "model",  "output", "layout",     "type",
                                        "stream", "int8",   ENGINE_PARTS, NULL };
    const char *layout = "", *type = NULL, *output = "";
    bool given, int8 = false;
    int r = message_only(data, keys, err);
    if (!r)
        r = jx_get_string(data, "data", "layout", &layout, err);
    if (!r)
        r = layout_find(layout, &k->layout, err);
    if (!r)
        r = jx_opt_bool(data, "data", "int8", &int8, err);
    if (!r && int8)
        r = dr_fail_field(err, DR_EINVAL, "layout", layout, "nothing beside int8", NULL);
    if (!r)
        r = jx_opt_string(data, "data", "type", &type, err);
    if (!r && type)
        r = tensor_copy_type(type, &k->type, err);
    if (!r)
        r = jx_opt_bool(data, "data", "stream", &k->stream, err);
    if (!r)
        r = jx_get_string(data, "data", "output", &output, err);
    if (!r)
        r = new_output_open(e, output, &k->out, err);
    return r ? r : engine_read_spec(e, data, keys, 1, &k->spec, &given, err);
}

int engine_layout(struct engine *e, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    struct layout_call k = { .type = DTYPE_COUNT, .out = { .folder = -1 } };
    struct checkpoint *c = NULL;
    int r = read_call(e, job->data, &k, err);
    if (!r)
        r = checkpoint_open_spec(&k.spec.spec, job->stop, &c, err);
    if (!r)
        r = quantize_check(&k.out.copy, checkpoint_path(c), err);
    worker_progress(job, 0, 1, k.stream,
                    k.stream ? json_pack("{s:s}", "message", "writing") : NULL);
    if (!r)
        r = layout_write(&k.out.copy, c, k.layout, k.type, job->stop, ret_data, err);
    if (!r && jx_set(*ret_data, "output", path_text_json(k.out.path)))
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    if (!r)
        r = quantize_commit(&k.out.copy, err);
    if (r && *ret_data) {
        json_decref(*ret_data);
        *ret_data = NULL;
    }
    checkpoint_close(c);
    new_output_close(&k.out);
    return r;
}
