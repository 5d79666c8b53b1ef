/* old_loras.h - LoRAs as the protocol's older workers were asked for one: `lora_name` and
 * `lora_scale` beside the list. */
#ifndef DR_CORE_COMMUNICATION_OLD_LORAS_H
#define DR_CORE_COMMUNICATION_OLD_LORAS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

bool old_loras_knows(const char *name);

/* *ret: the data with these members put before those of `loras` or its other spelling; a new
 * reference, of `data` itself where it has neither. `path` begins the paths in errors. */
int old_loras_translate(const json_t *data, const char *path, json_t **ret, struct dr_error *err);

#endif
