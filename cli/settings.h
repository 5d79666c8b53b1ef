/* settings.h - the configuration file: options that a person does not want to type.
 *
 *     # ~/.config/darkroom/config.yaml
 *     model: ~/models/sdxl.safetensors
 *     models: ~/models:/data/models
 *     threads: 4
 *     output: ~/pictures/
 *     steps: 25
 *     cache: /var/cache/darkroom
 *     cache-limit: 64G
 *
 * Keys are the long names of the options of generate, other programs' names included; the command
 * line wins, also the name of its --output over a format here, and its --format over a name here.
 * With both here the format counts. models are folders in which models are looked for by name (they
 * become DARKROOM_MODELS of the worker); it may also be a section with folders by kind
 * (core/communication/model_folders.def) and extra_model_paths, a file of ComfyUI. cache is the
 * folder for packed weights, cache-limit the most they may take. "~/" is the home folder; other
 * relative paths begin at the folder of the file. A model without '/' that does not exist there is
 * a name, as -m takes them.
 *
 * For a verb that does not draw, a mistake in what it does not use is a warning.
 */
#ifndef DR_CLI_SETTINGS_H
#define DR_CLI_SETTINGS_H

#include "cli/config.h"
#include "cli/cli.h"

/* Whether a verb reads it. */
bool settings_used(const struct cli_verb *verb);

/* Fills what the call leaves open, from --config (/dev/null: none) or the usual place; no file
 * there: nothing. DR_EINVAL names file, line and the nearest key. */
int settings_apply(struct cli_call *call, struct dr_error *err);

/* The same from a configuration in memory. */
int settings_take(struct cli_call *call, const struct config *config, struct dr_error *err);

/* All keys, as options of those names; returns how many. */
enum { SETTINGS_KEYS = FIELD_COUNT + 16 };
int settings_keys(struct option_info ret[SETTINGS_KEYS]);

#endif
