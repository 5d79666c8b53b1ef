/* settings.h - the configuration file: options that a person does not want to type.
 *
 *     # ~/.config/darkroom/config.yaml
 *     model: ~/models/sdxl.safetensors
 *     threads: 4
 *     output: ~/pictures/
 *     steps: 25
 *     cache: /var/cache/darkroom
 *     cache-limit: 64G
 *
 * Keys are the long names of the options of generate; the command line wins, also the name of its
 * --output over a format here, and its --format over a name here. With both here the format counts.
 * cache is the folder that packed weights are kept in, cache-limit how much they may take there
 * (bytes, or with M or G; 0: none are kept). "~/" is the home folder; other relative paths of
 * model, output and cache begin at the folder of the file. A model without '/' that is not there is
 * a name, as -m takes them.
 */
#ifndef DR_CLI_SETTINGS_H
#define DR_CLI_SETTINGS_H

#include "cli/config.h"
#include "cli/cli.h"

/* Fills what the call leaves open, for verbs that take a request or threads; no file: nothing.
 * DR_EINVAL names file, line and the nearest key. */
int settings_apply(struct cli_call *call, struct dr_error *err);

/* The same from a configuration in memory. */
int settings_take(struct cli_call *call, const struct config *config, struct dr_error *err);

#endif
