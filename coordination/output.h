/* output.h - finished pictures become files or base64. */
#ifndef DR_COORDINATION_OUTPUT_H
#define DR_COORDINATION_OUTPUT_H

#include <stdatomic.h>
#include <stdbool.h>

#include <jansson.h>

#include "core/communication/request.h"
#include "core/roots.h"
#include "inference/receipt.h"

struct output {
    const struct job *job;
    const struct request *request;
    const struct receipt_facts *facts;
    const struct roots *roots; /* where files may lie */
    const char *name;          /* files are NAME_000.png ... */
    const atomic_int *stop;    /* nonzero ends the encoding */
};

/* Whether the request's pictures become files. */
bool output_is_file(const struct request *q);

/* Encodes picture `index`, writes it into save_path or makes base64 of it. *ret_entry: its path, or
 * its base64 text, as a JSON string. A file is whole or not there, and nothing that exists is
 * replaced: where the name is taken the file is NAME_000_2.png, NAME_000_3.png ... DR_ECANCELED
 * after a stop. */
int output_image(const struct output *o, const struct dr_image *image, int index,
                 json_t **ret_entry, struct dr_error *err);

#endif
