/* component.h - the parts of a checkpoint that carry weights, named as in a diffusers folder. */
#ifndef DR_MODELS_COMPONENT_H
#define DR_MODELS_COMPONENT_H

enum component {
    COMPONENT_UNET,
    COMPONENT_TEXT_ENCODER,   /* CLIP-L in SDXL; absent in the refiner */
    COMPONENT_TEXT_ENCODER_2, /* OpenCLIP bigG */
    COMPONENT_VAE,
    COMPONENT_COUNT
};

const char *component_name(enum component component); /* "unet", "text_encoder" ... */

#endif
