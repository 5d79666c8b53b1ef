/* gguf_write.h - a GGUF file written piece by piece, as safetensors_write.h writes its own. */
#ifndef DR_MODELS_FORMATS_GGUF_WRITE_H
#define DR_MODELS_FORMATS_GGUF_WRITE_H

#include "models/formats/safetensors_write.h"

/* The number that GGUF has for a type; -1: none. */
int gguf_type_of(enum dtype dtype);

/* Version 3, alignment 32, metadata as texts, and general.quantization_version 2. Takes fd over,
 * also after a failure; then st_out_put, st_out_close. DR_EUNSUPPORTED for a type, or more than
 * four dimensions, that GGUF does not have. */
int gguf_out_open(int fd, const char *path, const struct st_item *items, size_t n,
                  const struct st_metadata *metadata, size_t n_metadata, struct st_out *ret,
                  struct dr_error *err);

#endif
