/* request_image.h - a picture that a request names by path or carries as text. Internal to
 * coordination/. */
#ifndef DR_COORDINATION_REQUEST_IMAGE_H
#define DR_COORDINATION_REQUEST_IMAGE_H

#include <stdbool.h>

#include "base/image/image.h"
#include "base/sha256.h"
#include "core/roots.h"

struct request_image {
    struct dr_image picture; /* as stored: 1, 3 or 4 channels */
    char sha256[SHA256_HEX]; /* of the file */
    bool is_inline;          /* it was in the request itself */
};

/* text: a path in the roots, a data URL, or base64. `wanted`: the file must have this digest, ""
 * any. Errors name `field`. */
int request_image_read(const struct roots *roots, const char *field, const char *text,
                       const char *wanted, struct request_image *ret, struct dr_error *err);

/* Whether a pixel is not opaque. */
bool request_image_transparent(const struct dr_image *image);

#endif
