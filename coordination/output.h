/* output.h - finished pictures become files or base64. */
#ifndef DR_COORDINATION_OUTPUT_H
#define DR_COORDINATION_OUTPUT_H

#include <stdatomic.h>
#include <stdbool.h>

#include <jansson.h>

#include "core/communication/request.h"
#include "inference/receipt.h"

struct output {
    const struct job *job;
    const struct request *request;
    const struct receipt_facts *facts;
    const char *name; /* files are NAME_000.png ...; another name for each that cannot be one */
    const atomic_int *stop; /* nonzero ends the encoding */
};

/* Whether the request's pictures become files. */
bool output_is_file(const struct request *q);

/* Encodes picture `index` and writes it into save_path, or appends base64 to the result.
 * *ret_entry: its path, or its base64 text, as a JSON string. A file is whole or not there.
 * DR_ECANCELED after a stop. */
int output_image(const struct output *o, const struct dr_image *image, int index,
                 json_t **ret_entry, struct dr_error *err);

#endif
