/* unet_blocks.h - the blocks of a UNet as single files number them, and strengths by block.
 *
 * Input blocks are the first convolution, the units going down and the downsamplers between them;
 * then there is one middle block; output blocks are the units going up, the last of a level with
 * its upsampler.
 */
#ifndef DR_MODELS_ADAPTERS_UNET_BLOCKS_H
#define DR_MODELS_ADAPTERS_UNET_BLOCKS_H

#include "base/error.h"
#include "models/arch.h"

enum { UNET_BLOCKS_MOST = 1 + 2 * ARCH_LEVELS * (ARCH_LAYERS + 2) };

/* Of a module by diffusers' name: 0 for what lies in no block, input block i is 1 + i, then come
 * the middle and the output blocks. */
int unet_block_of(const struct unet_arch *a, const char *module);
int unet_block_count(const struct unet_arch *a); /* with number 0 */

/* The module's name in single files; false where it has none. */
bool unet_single_name(const struct unet_arch *a, const char *module, char *dst, size_t n);

/* A strength for each block from text: numbers with ';', ',' or blanks between, one for each block
 * or one for number 0 and each block with attention (the others get 0), or the name of a preset in
 * either case. Number 0 is that of the text encoders; of the UNet, what lies in no block keeps its
 * strength. DR_EINVAL says what this UNet takes. */
int unet_block_strengths(const struct unet_arch *a, const char *field, const char *text,
                         double ret[UNET_BLOCKS_MOST], struct dr_error *err);

#endif
