/* layout.h - a model in another layout: a single file, a diffusers folder, or one of its parts.
 *
 * What the networks read of a checkpoint, parts that replace its own included, is written under the
 * names of the other layout; matrices are stacked, cut and turned as that has them. Numbers stay
 * what they are unless a type is asked for, so that there and back gives the same tensors. The copy
 * is then opened and compared with its source: what the other layout cannot say is an error that
 * names it, or a warning where no picture changes but by what a request leaves open.
 *
 * References: the tensors of the public single files against those of the diffusers folders of the
 * same models; diffusers' from_single_file.
 */
#ifndef DR_QUANTIZE_LAYOUT_H
#define DR_QUANTIZE_LAYOUT_H

#include "quantize/copy.h"
#include "quantize/tensor_copy.h"

enum model_layout {
    LAYOUT_SINGLE,    /* one file with the names of the public releases */
    LAYOUT_DIFFUSERS, /* a folder */
    LAYOUT_UNET,      /* files of one component */
    LAYOUT_TEXT_ENCODER,
    LAYOUT_TEXT_ENCODER_2,
    LAYOUT_VAE,
    LAYOUT_COUNT
};

/* "single", "diffusers", "unet" ...; DR_EINVAL names them. */
int layout_find(const char *name, enum model_layout *ret, struct dr_error *err);

/* Writes c, which has its networks' tensors unread, into the copy, which the caller commits or
 * ends. type DTYPE_COUNT: as they are, DR_EINVAL for quantised weights. The answer is {"tensors",
 * "dtypes", "format", "family", "warnings"}. */
int layout_write(struct quantize_copy *k, struct checkpoint *c, enum model_layout layout,
                 enum dtype type, const atomic_int *stop, json_t **ret, struct dr_error *err);

#endif
