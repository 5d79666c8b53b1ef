/* pipeline_manager.h - models that are loaded and ready: checkpoint, networks, tokenizers, on a
 * backend.
 *
 * A pipeline is read-only after opening. The manager keeps the last one used, so that a worker
 * which draws one picture after another with one model loads it once; a file that changed on disk,
 * another path or another kernel set opens anew.
 */
#ifndef DR_INFERENCE_PIPELINE_MANAGER_H
#define DR_INFERENCE_PIPELINE_MANAGER_H

#include <stdatomic.h>

#include "conditioning/prompt_processor.h"
#include "models/model_loader.h"

struct unet;
struct vae;

enum { PIPELINE_TOKENS = 77 }; /* of a row of text, begin and end included */

struct pipeline {
    struct checkpoint *checkpoint;
    struct backend *backend; /* borrowed */
    struct unet *unet;
    struct vae *vae; /* decoder */
    struct prompt_encoders encoders;
    struct tok *tokenizers[PROMPT_ENCODERS];
    int64_t latent_factor; /* pixels per latent along an edge: 8 */
};

/* Opens the files, binds the weights, prepares them on the backend. `stop` ends it with
 * DR_ECANCELED. */
int pipeline_open(const char *path, struct backend *be, const atomic_int *stop,
                  struct pipeline **ret, struct dr_error *err);
void pipeline_close(struct pipeline *p);

struct pipeline_manager;

int pipeline_manager_new(struct pipeline_manager **ret, struct dr_error *err);
void pipeline_manager_free(struct pipeline_manager *m);

/* The pipeline of that model on that backend, lent until the next call or pipeline_manager_drop. */
int pipeline_manager_get(struct pipeline_manager *m, const char *path, struct backend *be,
                         const atomic_int *stop, struct pipeline **ret, struct dr_error *err);
void pipeline_manager_drop(struct pipeline_manager *m);

#endif
