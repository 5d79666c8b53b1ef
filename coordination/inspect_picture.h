/* inspect_picture.h - the parameters stored in a picture. */
#ifndef DR_COORDINATION_INSPECT_PICTURE_H
#define DR_COORDINATION_INSPECT_PICTURE_H

#include <stdbool.h>

#include <jansson.h>

#include "base/error.h"

/* By its first bytes: PNG, JPEG or WebP. */
bool is_picture(int fd);

/* {"path", "kind": "picture", "format", "width", "height", "file_bytes", "parameters" (infotext),
 * "receipt" or "receipt_error", "other_texts" (bytes by key)}; what the file lacks is absent. */
int inspect_picture(int fd, const char *path, json_t **ret_data, struct dr_error *err);

#endif
