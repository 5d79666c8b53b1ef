/* tensor_places.h - what the headers of all containers must keep: tensors cover the data, no name
 * comes twice. */
#ifndef DR_MODELS_FORMATS_TENSOR_PLACES_H
#define DR_MODELS_FORMATS_TENSOR_PLACES_H

#include "models/formats/safetensors.h"

/* A name as errors show it: cut between characters, control characters replaced. */
enum { SHOWN_NAME = 100 };
struct shown_name {
    char text[SHOWN_NAME + 4];
};
struct shown_name show_name(const char *name);

/* Sorts the tensors by place and refuses overlaps, and bytes that belong to none. A tensor begins
 * at the next multiple of `alignment`; up to as many bytes follow the last. */
int tensor_places_check(struct st_header *h, uint64_t data_size, uint64_t alignment,
                        const char *what, struct dr_error *err);
/* Sorts by name and refuses one that comes twice. */
int tensor_names_sort(struct st_header *h, const char *what, struct dr_error *err);

#endif
