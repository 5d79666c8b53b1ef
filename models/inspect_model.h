/* inspect_model.h - what a model file is, as JSON for people and programs.
 *
 * Of a checkpoint (file or folder):
 *     {"path", "kind", "description", "layout": "single"|"diffusers", "size", "default_size",
 *      "parameters", "parts": {"unet": {"tensors", "parameters", "dtypes": {"F16": 1680}}, ...},
 *      "architecture": {"unet": {...}, "text_encoder": {...}, ...}, "scheduler",
 *      "prediction", "prediction_from", "zero_snr", "zero_snr_from", "metadata": {...},
 *      "files": [{"path", "size"}], "warnings": [...], "sha256"}
 *     "parts" says "from", a path, of a part that replaces the model's own.
 * Of any other safetensors file (a LoRA, a VAE ...): path, kind, description, size, tensors,
 * parameters, dtypes, "training" (inspect_training.h), metadata, sha256; of a LoRA or a relative
 * "adapter" (inspect_adapter.h); of a UNet, text encoder or VAE also what tells its family,
 * "fits" and the "option" that takes it; and of a textual inversion
 *     "embedding": {"fits", "parts": [{"tensor", "vectors", "width", "encoder"}]}
 */
#ifndef DR_MODELS_INSPECT_MODEL_H
#define DR_MODELS_INSPECT_MODEL_H

#include <jansson.h>

#include "models/digest.h"
#include "models/model_spec.h"

/* digest NULL: no "sha256", nothing but headers is read. *ret is a new reference. Fails where the
 * path is no safetensors file at all, where it is a checkpoint that is broken or that its parts do
 * not fit, and where a file of it lies outside of its root. */
int inspect_model_spec(const struct model_spec *spec, const struct digest_options *digest,
                       json_t **ret, struct dr_error *err);

#endif
