/* layout_folder.c - a diffusers folder without its weights: model_index.json, configurations,
 * scheduler, tokenizers and licences, see layout.h. What the source has as a folder is taken over;
 * the rest is written as the public folders of the same models have it. */
#include "quantize/layout_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "models/formats/config_write.h"

static const struct jx_limits limits = { .bytes = 1 << 20, .python = true };

static int put_bytes(struct layout_job *j, const char *name, const char *bytes, size_t n)
{
    int fd = -1, r = quantize_new(j->k, name, &fd, j->err);
    for (size_t at = 0; !r && at < n;) {
        ssize_t done = write(fd, bytes + at, n - at);
        if (done < 0 && errno != EINTR)
            r = dr_fail_errno(j->err, name, "write");
        else if (done > 0)
            at += (size_t)done;
    }
    if (!r && fsync(fd))
        r = dr_fail_errno(j->err, name, "write");
    if (fd >= 0 && close(fd) && !r)
        r = dr_fail_errno(j->err, name, "write");
    return r;
}

/* Takes the value over. */
static int put_json(struct layout_job *j, const char *name, json_t *value)
{
    struct buf text;
    buf_init(&text, DR_TAG_FILE, 0);
    int r = value && !jx_dump(value, &text) && !buf_putc(&text, '\n')
                ? put_bytes(j, name, text.data, text.len)
                : layout_no_memory(j);
    buf_free(&text);
    json_decref(value);
    return r;
}

/* ---- configurations ---- */

/* Of a component that lies in a folder; *ret is NULL of another. */
static int own_config(struct layout_job *j, enum component component, json_t **ret)
{
    char name[64];
    const struct checkpoint *c = j->c;
    struct model_files *files = checkpoint_files(c, component);
    bool inside = !c->own[component] || c->pipeline[component];
    *ret = NULL;
    snprintf(name, sizeof name, "%s%sconfig.json", inside ? component_name(component) : "",
             inside ? "/" : "");
    int r = model_files_is_folder(files) ? model_files_json(files, name, true, &limits, ret, j->err)
                                         : 0;
    json_object_del(*ret, "torch_dtype"); /* the copy's weights say it themselves */
    json_object_del(*ret, "dtype");
    return r;
}

static json_t *made_config(const struct layout_job *j, enum component component)
{
    if (component == COMPONENT_UNET)
        return config_write_unet(&j->c->unet);
    if (component == COMPONENT_VAE)
        return config_write_vae(&j->c->vae);
    return config_write_clip(checkpoint_clip(j->c, component));
}

static int put_config(struct layout_job *j, enum component component)
{
    char name[64];
    json_t *config;
    int r = own_config(j, component, &config);
    snprintf(name, sizeof name, "%s/config.json", component_name(component));
    if (r)
        return r;
    return put_json(j, name, config ? config : made_config(j, component));
}

/* ---- scheduler ---- */

static json_t *scheduler_config(const struct layout_job *j)
{
    const struct checkpoint *c = j->c;
    if (c->scheduler && json_object_get(c->scheduler, "_class_name"))
        return json_deep_copy(c->scheduler);
    json_t *o = json_deep_copy(c->trained);
    int r = o ? 0 : DR_ENOMEM;
    if (!r && c->scheduler && json_object_update(o, c->scheduler))
        r = DR_ENOMEM;
    if (!r)
        r = jx_set(o, "_class_name", json_string("EulerDiscreteScheduler"));
    if (!r)
        return o;
    json_decref(o);
    return NULL;
}

/* ---- tokenizers ---- */

static json_t *tokenizer_config(bool pads_zero)
{
    static const char end[] = "<|endoftext|>";
    return json_pack("{s:s,s:i,s:s,s:s,s:s,s:s,s:b,s:b,s:s}", "tokenizer_class", "CLIPTokenizer",
                     "model_max_length", 77, "bos_token", "<|startoftext|>", "eos_token", end,
                     "unk_token", end, "pad_token", pads_zero ? "!" : end, "add_prefix_space", 0,
                     "do_lower_case", 1, "errors", "replace");
}

static int put_builtin(struct layout_job *j, const char *folder, bool pads_zero)
{
    static const char end[] = "<|endoftext|>";
    char name[64];
    struct buf vocab, merges;
    int r = tok_builtin_texts(&vocab, &merges, j->err);
    snprintf(name, sizeof name, "%s/vocab.json", folder);
    if (!r)
        r = put_bytes(j, name, vocab.data, vocab.len);
    snprintf(name, sizeof name, "%s/merges.txt", folder);
    if (!r)
        r = put_bytes(j, name, merges.data, merges.len);
    buf_free(&vocab);
    buf_free(&merges);
    snprintf(name, sizeof name, "%s/tokenizer_config.json", folder);
    if (!r)
        r = put_json(j, name, tokenizer_config(pads_zero));
    snprintf(name, sizeof name, "%s/special_tokens_map.json", folder);
    return r ? r
             : put_json(j, name,
                        json_pack("{s:s,s:s,s:s,s:s}", "bos_token", "<|startoftext|>", "eos_token",
                                  end, "unk_token", end, "pad_token", pads_zero ? "!" : end));
}

/* The model's own files of that folder, which were read when it was opened. */
static int copy_tokenizer(struct layout_job *j, const char *folder)
{
    const struct model_file *f;
    size_t n = strlen(folder);
    int r = 0;
    for (size_t i = 0; !r && (f = model_files_at(j->c->model, i)); i++)
        if (f->kind == MODEL_FILE_PRESENT && !strncmp(f->name, folder, n) && f->name[n] == '/') {
            if (!f->text)
                r = model_files_need(j->c->model, f->name, 16 << 20, &f, j->err);
            if (!r)
                r = put_bytes(j, f->name, f->text, f->bytes);
        }
    return r;
}

static int put_tokenizer(struct layout_job *j, const struct family_encoder *e)
{
    bool second = e->component == COMPONENT_TEXT_ENCODER_2;
    const char *folder = second ? "tokenizer_2" : "tokenizer";
    return j->c->tokenizer[second] ? copy_tokenizer(j, folder)
                                   : put_builtin(j, folder, e->pads_zero);
}

/* ---- model_index.json ---- */

/* Pipelines by what tells them apart: channels that the UNet takes beside the latents'. */
static const struct {
    bool added, first;
    int64_t more;
    const char *class;
} pipelines[] = {
    { false, true, 0, "StableDiffusionPipeline" },
    { false, true, 5, "StableDiffusionInpaintPipeline" },
    { false, true, 4, "StableDiffusionInstructPix2PixPipeline" },
    { true, true, 0, "StableDiffusionXLPipeline" },
    { true, true, 5, "StableDiffusionXLInpaintPipeline" },
    { true, true, 4, "StableDiffusionXLInstructPix2PixPipeline" },
    { true, false, 0, "StableDiffusionXLImg2ImgPipeline" }, /* the refiner */
};

static const char *pipeline_class(const struct checkpoint *c)
{
    for (size_t i = 0; i < sizeof pipelines / sizeof *pipelines; i++)
        if (pipelines[i].added == c->family->added &&
            pipelines[i].first == c->has[COMPONENT_TEXT_ENCODER] &&
            pipelines[i].more == c->unet.in_channels - c->unet.out_channels)
            return pipelines[i].class;
    return NULL;
}

static int put_entry(json_t *index, const char *name, bool there, const char *library,
                     const char *class)
{
    return jx_set(index, name, there ? json_pack("[s,s]", library, class) : json_pack("[n,n]"));
}

static int put_components(const struct layout_job *j, json_t *index)
{
    const struct checkpoint *c = j->c;
    static const enum component encoders[] = { COMPONENT_TEXT_ENCODER, COMPONENT_TEXT_ENCODER_2 };
    int r = put_entry(index, "unet", true, "diffusers", "UNet2DConditionModel");
    if (!r)
        r = put_entry(index, "vae", true, "diffusers", "AutoencoderKL");
    for (int i = 0; !r && i < 2; i++) {
        bool there = c->has[encoders[i]];
        if (i && !c->family->added)
            break;
        r = put_entry(index, component_name(encoders[i]), there, "transformers",
                      checkpoint_clip(j->c, encoders[i])->projection ? "CLIPTextModelWithProjection"
                                                                     : "CLIPTextModel");
        if (!r)
            r = put_entry(index, i ? "tokenizer_2" : "tokenizer", there, "transformers",
                          "CLIPTokenizer");
    }
    return r;
}

static json_t *made_index(const struct layout_job *j)
{
    const struct checkpoint *c = j->c;
    json_t *scheduler = scheduler_config(j), *index = json_object();
    const char *class = json_string_value(json_object_get(scheduler, "_class_name"));
    int r = scheduler ? jx_set(index, "_class_name", json_string(pipeline_class(c))) : DR_ENOMEM;
    if (!r)
        r = jx_set(index, "_diffusers_version", json_string("0.30.0"));
    if (!r)
        r = put_entry(index, "scheduler", true, "diffusers", class);
    if (!r)
        r = put_entry(index, "feature_extractor", false, NULL, NULL);
    if (!r)
        r = put_entry(index, "image_encoder", false, NULL, NULL);
    if (!r && !c->family->added)
        r = put_entry(index, "safety_checker", false, NULL, NULL);
    if (!r && c->family->added)
        r = jx_set(index, "force_zeros_for_empty_prompt", json_boolean(c->force_zeros));
    if (!r && c->family->added && !c->has[COMPONENT_TEXT_ENCODER])
        r = jx_set(index, "requires_aesthetics_score", json_true());
    json_decref(scheduler);
    if (!r)
        return index;
    json_decref(index);
    return NULL;
}

/* The source's own, without what the copy does not have (a safety checker). */
static int own_index(struct layout_job *j, json_t **ret)
{
    static const char *const kept[] = { "unet",           "vae",       "text_encoder",
                                        "text_encoder_2", "tokenizer", "tokenizer_2",
                                        "scheduler",      NULL };
    const char *key;
    json_t *value;
    void *next;
    *ret = NULL;
    int r = j->c->folder
                ? model_files_json(j->c->model, "model_index.json", true, &limits, ret, j->err)
                : 0;
    json_object_foreach_safe(*ret, next, key, value)
    {
        bool known = false;
        for (const char *const *k = kept; *k; k++)
            known |= !strcmp(*k, key);
        if (!r && !known && json_array_size(value) == 2 && jx_set(*ret, key, json_pack("[n,n]")))
            r = layout_no_memory(j);
    }
    return r;
}

static int put_index(struct layout_job *j)
{
    json_t *index;
    int r = own_index(j, &index);
    if (!r && !index && !pipeline_class(j->c))
        return dr_fail_field(j->err, DR_EINVAL, "layout", "diffusers", "single",
                             "diffusers has no pipeline for this model");
    if (!r && !index && !(index = made_index(j)))
        r = layout_no_memory(j);
    if (!r && put_components(j, index))
        r = layout_no_memory(j);
    if (!r)
        return put_json(j, "model_index.json", index);
    json_decref(index);
    return r;
}

int layout_put_texts(struct layout_job *j)
{
    const struct family *f = j->c->family;
    int r = put_index(j);
    for (int i = 0; !r && i < COMPONENT_COUNT; i++)
        if (j->c->has[i])
            r = put_config(j, (enum component)i);
    for (int i = 0; !r && i < f->n_encoders; i++)
        r = put_tokenizer(j, &f->encoders[i]);
    if (!r)
        r = put_json(j, "scheduler/scheduler_config.json", scheduler_config(j));
    return r ? r : quantize_licences(j->k, j->c, j->stop, j->err);
}
