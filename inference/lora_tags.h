/* lora_tags.h - <lora:NAME:1> in prompts: the tags become the request's loras.
 *
 * A tag is an instruction, not words: it is taken out of the text before anything reads it, and
 * from there on it is as if the LoRA had been named in the request. So a receipt has it by path and
 * digest.
 */
#ifndef DR_INFERENCE_LORA_TAGS_H
#define DR_INFERENCE_LORA_TAGS_H

#include "base/error.h"
#include "core/communication/request.h"

/* Where the prompts' language has such tags (AUTOMATIC1111's). DR_EINVAL, DR_EUNSUPPORTED about the
 * field for a tag that cannot be read, one in a negative prompt, and tags of hypernetworks. */
int lora_tags_apply(struct request *io_q, struct dr_error *err);

#endif
