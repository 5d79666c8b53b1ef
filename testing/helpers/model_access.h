/* model_access.h - models by path and what is inside of them, for tests of models/: the product
 * opens them below a root and binds their tensors to networks. */
#ifndef DR_TESTING_HELPERS_MODEL_ACCESS_H
#define DR_TESTING_HELPERS_MODEL_ACCESS_H

#include <jansson.h>

#include "models/formats/safetensors.h"
#include "models/model_loader.h"
#include "models/tokenizers/clip_tokenizer.h"

/* A model at a path anywhere. */
#define MODEL_AT(path_) (&(struct model_spec){ .model = { (path_), NULL } })

/* st_open_fd, checkpoint_open_in and inspect_model_spec of a path anywhere. */
int st_open(const char *path, struct safetensors *ret, struct dr_error *err);
int checkpoint_open(const char *path, struct checkpoint **ret, struct dr_error *err);
int inspect_model(const char *path, const struct digest_options *digest, json_t **ret,
                  struct dr_error *err);

/* A tensor by component and canonical name ("conv_in.weight"); false when there is none. One that
 * has to be transposed has its data only after checkpoint_load. */
bool checkpoint_find(const struct checkpoint *c, enum component component, const char *name,
                     struct weight_source *ret);
/* Whether it brings a tokenizer for an encoder, 0 or 1. */
bool checkpoint_has_tokenizer(const struct checkpoint *c, int which);

/* Elements of all parameters, from their shapes; negative: the visit's error. */
int64_t params_count(void *network, visit_fn visit);

/* A folder with a tokenizer's files; tok_free the result. */
int tok_open_folder(const char *folder, struct tok **ret_tok, struct dr_error *err);
/* Token of an id as the vocabulary spells it, NULL if there is none. Owned by the tokenizer. */
const char *tok_spelling(const struct tok *tok, int32_t id);

#endif
