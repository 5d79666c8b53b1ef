/* config_write.h - the config.json of a component from its architecture: config_arch.h the other
 * way, in the keys of the same classes. */
#ifndef DR_MODELS_FORMATS_CONFIG_WRITE_H
#define DR_MODELS_FORMATS_CONFIG_WRITE_H

#include <jansson.h>

#include "models/arch.h"

/* New references; NULL: out of memory. What no config.json can say (a level of which only some
 * layers attend) is left out: read it back to see. */
json_t *config_write_unet(const struct unet_arch *a);
json_t *config_write_clip(const struct clip_arch *a);
json_t *config_write_vae(const struct vae_arch *a);

#endif
