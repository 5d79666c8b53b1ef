/* wrapped_conv.h - convolutions of pictures that go on at their opposite edges (exec.wrap), for
 * textures that tile: circular padding, along each axis that wraps. The picture is copied with
 * a border of its opposite edge, convolved, and cut. Internal to models/: blk_conv and blk_upsample
 * come here by themselves. */
#ifndef DR_MODELS_WRAPPED_CONV_H
#define DR_MODELS_WRAPPED_CONV_H

#include "models/blocks.h"

int wrapped_conv(struct exec *x, const struct layer *l, struct act src, struct blk_conv how,
                 struct act dst, struct dr_error *err);
/* Along an axis that wraps, dst is twice src: DR_EINVAL. */
int wrapped_upsample(struct exec *x, const struct layer *l, struct act src, struct act dst,
                     struct dr_error *err);

#endif
