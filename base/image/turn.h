/* turn.h - pictures that a camera stored lying on their side. */
#ifndef DR_BASE_IMAGE_TURN_H
#define DR_BASE_IMAGE_TURN_H

#include "base/image/image.h"

/* In place, by EXIF's number of an orientation: 1 is upright, 2 to 8 are turned or mirrored as the
 * standard says, anything else counts as upright. DR_ENOMEM. */
int img_turn(struct dr_image *image, int orientation, struct dr_error *err);

#endif
