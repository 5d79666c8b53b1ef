/* model_loader.h - checkpoints: from a path to networks full of weights.
 *
 * A checkpoint is one safetensors file in the layout of the public releases of Stable Diffusion and
 * SDXL ("sgm" keys) or a diffusers folder. What it is gets decided by its content, never by its
 * name. Opening reads headers and configuration only; the weights stay in the mapped files and are
 * bound to the networks by name, so a checkpoint must outlive every network that was loaded from
 * it.
 *
 *     r = checkpoint_open_in(NULL, "model.safetensors", NULL, &ckpt, err);
 *     r = unet_new(checkpoint_unet_arch(ckpt), &unet, err);
 *     r = checkpoint_load(ckpt, COMPONENT_UNET, unet, unet_visit, err);
 *
 * Reference for names and configuration: diffusers UNet2DConditionModel and AutoencoderKL,
 * transformers CLIPTextModel(WithProjection), and the key layout of the released
 * sd_xl_base_1.0.safetensors.
 */
#ifndef DR_MODELS_MODEL_LOADER_H
#define DR_MODELS_MODEL_LOADER_H

#include <jansson.h>

#include "models/arch.h"
#include "models/component.h"
#include "models/digest.h"
#include "models/family.h"
#include "models/model_spec.h"
#include "models/params.h"
#include "models/tokenizers/clip_tokenizer.h"

struct checkpoint;

/* DR_ENOENT, DR_EFORMAT (broken file), DR_EUNSUPPORTED (a sound file that is no checkpoint, or one
 * whose configuration asks for what Darkroom does not do: err says what the file is), DR_EIO
 * when files change while they are opened. No file of it may lie outside of the root (NULL:
 * anywhere). *stop (may be NULL) nonzero ends it with DR_ECANCELED. */
int checkpoint_open_in(const struct model_root *root, const char *path, const atomic_int *stop,
                       struct checkpoint **ret, struct dr_error *err);
/* The same with parts that replace the model's own: each a file or folder of any layout that is
 * known for such a part. One that does not fit the rest is an error that names its file. */
int checkpoint_open_spec(const struct model_spec *spec, const atomic_int *stop,
                         struct checkpoint **ret, struct dr_error *err);
void checkpoint_close(struct checkpoint *c);

/* All pointers below are the checkpoint's own. */
const char *checkpoint_path(const struct checkpoint *c);
/* Of the part that replaces the model's own; NULL: none does. */
const char *checkpoint_part_path(const struct checkpoint *c, enum component component);
bool checkpoint_part_is_folder(const struct checkpoint *c, enum component component);
/* The path that a component came from: the part's, else the model's. */
const char *checkpoint_source_path(const struct checkpoint *c, enum component component);
/* What its UNet predicts, and what said so: a mark of a file, "the request", or "" where nothing
 * does and it is epsilon. */
struct checkpoint_formulation {
    char prediction[24], prediction_by[96];
    char zero_snr[8], zero_snr_by[96]; /* "true" or "false", or "" where nothing does */
};
const struct checkpoint_formulation *checkpoint_formulation(const struct checkpoint *c);
/* Whether it was opened at these paths. */
bool checkpoint_is_at(const struct checkpoint *c, const struct model_spec *spec);
bool checkpoint_is_folder(const struct checkpoint *c);
/* "sdxl-base", "ssd-1b", "sd1" ...: for people; nothing may depend on it. */
const char *checkpoint_kind(const struct checkpoint *c);
const struct family *checkpoint_family(const struct checkpoint *c);
bool checkpoint_has(const struct checkpoint *c, enum component component);

/* Whether its VAE's files have an encoder. */
bool checkpoint_has_encoder(const struct checkpoint *c);

/* NULL when the component is absent. */
const struct unet_arch *checkpoint_unet_arch(const struct checkpoint *c);
const struct clip_arch *checkpoint_clip_arch(const struct checkpoint *c, int which); /* 0 or 1 */
const struct vae_arch *checkpoint_vae_arch(const struct checkpoint *c);

/* scheduler/scheduler_config.json, or what a single file's marks say in its keys; NULL: nothing. */
const json_t *checkpoint_scheduler_config(const struct checkpoint *c);
/* How models of the family were trained, in the same keys: what holds where nothing is said. */
const json_t *checkpoint_trained(const struct checkpoint *c);
/* Opens its tokenizer for an encoder (0 or 1), or the built-in CLIP table where it brings none. */
int checkpoint_tokenizer(const struct checkpoint *c, int which, const atomic_int *stop,
                         struct tok **ret, struct dr_error *err);
/* Gives memory back when no tokenizer will be opened any more. */
void checkpoint_forget_texts(struct checkpoint *c);
/* How its UNet's weights are stored. INT8: 8-bit integers with scales by row, which kernel sets for
 * 8 bits multiply as they are (quantize/copy.h); QUANTISED: fp8 with scales or a type of GGUF,
 * which every set computes with as floating-point numbers. */
enum checkpoint_weights { CHECKPOINT_FLOAT, CHECKPOINT_QUANTISED, CHECKPOINT_INT8 };
enum checkpoint_weights checkpoint_weights(const struct checkpoint *c);
/* force_zeros_for_empty_prompt of model_index.json. */
bool checkpoint_force_zeros(const struct checkpoint *c);
/* Pixels along the edge of the pictures that the model was trained for. */
int64_t checkpoint_default_size(const struct checkpoint *c);

/* Binds every parameter of the network to its tensor. Linears and 1x1 convolutions match each
 * other's shapes. DR_EFORMAT counts all missing and misshapen tensors and names the first few. On
 * failure the network's parameters are unspecified. Does not read the weights. */
int checkpoint_load(struct checkpoint *c, enum component component, void *network, visit_fn visit,
                    struct dr_error *err);

/* Warnings gathered by checkpoint_open and checkpoint_load: tensors that nothing used,
 * configuration keys that nothing knows. NULL past the end. */
const char *checkpoint_warning(const struct checkpoint *c, size_t i);

/* DR_EIO when a file of the checkpoint was changed or cut since it was opened, or when reading it
 * failed (see base/mapguard.h): what was computed since is not to be trusted. Cheap. */
int checkpoint_check(const struct checkpoint *c, struct dr_error *err);

/* Whether its path still leads to the same files: false when one of them, weights, configuration or
 * tokenizer, was changed, replaced or removed, or when one appeared that would have been used. */
bool checkpoint_current(const struct checkpoint *c);

/* The digest of the files as they were opened: digest_parts. */
int checkpoint_digest(const struct checkpoint *c, const struct digest_options *opt,
                      char ret_hex[SHA256_HEX], struct dr_error *err);

#endif
