/* turn.c - see turn.h. Reference: Exif 2.32 (CIPA DC-008), tag 0x0112; Pillow's exif_transpose. */
#include "base/image/turn.h"

#include <stdbool.h>
#include <string.h>

enum { UPRIGHT = 1, ORIENTATIONS = 8 };

/* Whether rows become columns, and which edges of the stored picture are turned around. */
static const struct {
    bool across, mirrors_x, mirrors_y;
} turns[ORIENTATIONS + 1] = {
    [2] = { false, true, false }, [3] = { false, true, true }, [4] = { false, false, true },
    [5] = { true, false, false }, [6] = { true, false, true }, [7] = { true, true, true },
    [8] = { true, true, false },
};

int img_turn(struct dr_image *image, int orientation, struct dr_error *err)
{
    struct dr_image turned;
    if (orientation <= UPRIGHT || orientation > ORIENTATIONS)
        return 0;
    bool across = turns[orientation].across;
    size_t c = (size_t)image->channels;
    int r = img_new(across ? image->height : image->width, across ? image->width : image->height,
                    image->channels, &turned, err);
    if (r < 0)
        return r;
    for (int64_t y = 0; y < turned.height; y++)
        for (int64_t x = 0; x < turned.width; x++) {
            int64_t from_x = across ? y : x, from_y = across ? x : y;
            if (turns[orientation].mirrors_x)
                from_x = image->width - 1 - from_x;
            if (turns[orientation].mirrors_y)
                from_y = image->height - 1 - from_y;
            memcpy(turned.pixels + (size_t)(y * turned.width + x) * c,
                   image->pixels + (size_t)(from_y * image->width + from_x) * c, c);
        }
    img_free(image);
    *image = turned;
    return 0;
}
