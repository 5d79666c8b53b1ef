/* settings.h - the configuration file: options that a person does not want to type.
 *
 *     # ~/.config/darkroom/config.yaml
 *     model: ~/models/sdxl.safetensors
 *     threads: 4
 *     output: ~/pictures/
 *     steps: 25
 *
 * Keys are the long names of the options of generate; the command line wins. "~/" is the home
 * folder; other relative paths of model and output begin at the folder of the file.
 */
#ifndef DR_CLI_SETTINGS_H
#define DR_CLI_SETTINGS_H

#include "base/config.h"
#include "cli/cli.h"

/* Fills what the call leaves open, for verbs that take a request or threads; no file: nothing.
 * DR_EINVAL names file, line and the nearest key. */
int settings_apply(struct cli_call *call, struct dr_error *err);

/* The same from a configuration in memory. */
int settings_take(struct cli_call *call, const struct config *config, struct dr_error *err);

#endif
