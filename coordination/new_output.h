/* new_output.h - a file or folder that a verb makes: beside its place under a temporary name, and
 * nothing that exists is replaced. Internal to coordination/. */
#ifndef DR_COORDINATION_NEW_OUTPUT_H
#define DR_COORDINATION_NEW_OUTPUT_H

#include "coordination/engine.h"
#include "quantize/copy.h"

struct new_output {
    char path[DR_PATH_MAX]; /* as the request has it */
    int folder;             /* descriptor of the one that it will lie in */
    struct quantize_copy copy;
};

/* `text` is the request's member `output`. DR_EINVAL where something of the name exists, and what
 * roots_open_folder says of its folder. new_output_close also after a failure. */
int new_output_open(const struct engine *e, const char *text, struct new_output *ret,
                    struct dr_error *err);
void new_output_close(struct new_output *o); /* removes what was not committed */

#endif
