/* from.h - `--from picture.png`: the receipt in a picture becomes the request.
 *
 * The worker reads the picture, as it reads all files. Options typed beside --from win; so the
 * configuration does not apply to what the receipt sets. Values that only follow from a typed one
 * (the conditioning sizes from the size, eta from the sampler ...) are not taken over.
 */
#ifndef DR_CLI_FROM_H
#define DR_CLI_FROM_H

#include "cli/cli.h"

/* What is known of the picture's model, for from_explain and from_compare. */
struct from {
    char model[256], digest[65];
};

/* Fills the request's gaps from the receipt; without --from nothing happens. */
int from_apply(struct cli_call *call, struct from *ret, struct dr_error *err);

/* A model that is not found is explained: its name, its digest, and what to do. */
void from_explain(const struct cli_call *call, const struct from *from, int code,
                  struct dr_error *err);

/* Warns if the picture was drawn with another model than the one that was typed. */
void from_compare(const struct cli_call *call, const struct from *from, const json_t *receipt);

/* Whether the receipt decides that field and not the configuration. (Of the configuration's model
 * only the place counts, if it has the right name.) */
bool from_settles(enum field_id id);

#endif
