/* output.h - finished pictures become files or base64, or go to the host as pixels. */
#ifndef DR_COORDINATION_OUTPUT_H
#define DR_COORDINATION_OUTPUT_H

#include <stdatomic.h>
#include <stdbool.h>

#include <jansson.h>

#include "coordination/engine.h"
#include "core/communication/request.h"
#include "core/roots.h"
#include "inference/receipt.h"

enum output_kind { OUTPUT_PATH, OUTPUT_BASE64, OUTPUT_CALLBACK };

/* Which of them a request means, and what its answer calls it: "path" and so on. */
enum output_kind output_kind(const struct request *request, const struct image_sink *sink);
const char *output_encoding(enum output_kind kind);

struct output {
    const struct job *job;
    const struct request *request;
    const struct receipt_facts *facts;
    const struct roots *roots; /* where files may lie */
    const struct image_sink *sink;
    const char *name;       /* files are NAME_000.png ... */
    const atomic_int *stop; /* nonzero ends the encoding */
};

/* Encodes picture `index` and writes it into save_path, makes base64 of it, or both; or hands its
 * pixels to the sink. *ret_entry: its path or its base64 text as a JSON string, or its index;
 * *ret_path: its path too, or NULL when no file was wanted. A file is whole or not there, and
 * nothing that exists is replaced: where the name is taken the file is NAME_000_2.png,
 * NAME_000_3.png ... DR_ECANCELED after a stop, or when the sink does not take it. */
int output_image(const struct output *o, const struct dr_image *image, int index,
                 json_t **ret_entry, json_t **ret_path, struct dr_error *err);

#endif
