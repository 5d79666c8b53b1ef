/* extra_model_paths.h - ComfyUI's extra_model_paths.yaml: where its models lie, so that they are
 * found by name here too.
 *
 *     comfyui:
 *         base_path: ~/ComfyUI
 *         checkpoints: models/checkpoints
 *         loras: |
 *             models/loras
 *             models/lycoris
 *
 * The names of sections say nothing; keys are kinds of files
 * (core/communication/model_folders.def), others belong to ComfyUI alone. A path begins at
 * base_path, or at the file's folder where that is missing or relative.
 */
#ifndef DR_CLI_EXTRA_MODEL_PATHS_H
#define DR_CLI_EXTRA_MODEL_PATHS_H

#include "base/error.h"

/* Adds the file's folders to the variables that the worker inherits. DR_EFORMAT names file and
 * line. */
int extra_model_paths_read(const char *path, struct dr_error *err);

/* Adds a folder to such a variable, unless it is there. */
int extra_model_paths_add(const char *variable, const char *folder, struct dr_error *err);

#endif
