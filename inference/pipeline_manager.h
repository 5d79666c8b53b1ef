/* pipeline_manager.h - models that are loaded and ready: checkpoint, networks, tokenizers, on a
 * backend.
 *
 * A pipeline is read-only after opening, but for what it remembers of texts that were encoded. The
 * manager keeps the last one used, so that a worker which draws one picture after another with one
 * model loads it once; a file that changed on disk, another path or another kernel set opens anew.
 */
#ifndef DR_INFERENCE_PIPELINE_MANAGER_H
#define DR_INFERENCE_PIPELINE_MANAGER_H

#include <stdatomic.h>

#include "backend/cache/pack_store.h"
#include "base/sha256.h"
#include "conditioning/prompt_cache.h"
#include "models/model_loader.h"

struct pack;
struct unet;
struct vae;

enum { PIPELINE_TOKENS = 77 }; /* of a row of text, begin and end included */
enum { PIPELINE_NETWORKS = PROMPT_ENCODERS + 2 };

/* A network of a pipeline, for what is done with each of them. */
struct pipeline_network {
    enum component component;
    void *network;
    visit_fn visit;
};

struct pipeline {
    struct checkpoint *checkpoint;
    struct backend *backend; /* borrowed */
    struct unet *unet;
    struct vae *vae; /* decoder */
    struct prompt_encoders encoders;
    struct tok *tokenizers[PROMPT_ENCODERS];
    int64_t latent_factor; /* pixels per latent along an edge: 8 */
    struct pipeline_network networks[PIPELINE_NETWORKS];
    int n_networks;
    struct pack *pack;       /* of the kernel set's weights; NULL: none, or they are private */
    char digest[SHA256_HEX]; /* of the model, when it had to be known; else "" */
    char warning[400];       /* why packed weights are private; "" */
    char news[400];          /* why packed weights were rebuilt, reported once; "" */
    struct prompt_cache prompts;
    bool text_read; /* the encoders' weights were read and not given back since */
};

/* Options of loading. Zero: not cancellable, no cache, no progress. */
struct pipeline_options {
    const struct model_root *root;  /* no file of the model leaves it; NULL: anywhere */
    const atomic_int *stop;         /* ends it with DR_ECANCELED */
    const struct pack_store *store; /* where packed weights are kept; NULL: nowhere */
    /* To plan with, not to run: nothing is hashed or packed. pipeline_ready does that. */
    bool plan_only;
    /* "hashing", "verifying" or "packing", and the fraction done; only for large models. */
    void (*progress)(void *ctx, const char *what, double fraction);
    void *ctx;
};

/* Opens the files, binds the weights, prepares them on the backend. options may be NULL. */
int pipeline_open(const char *path, struct backend *be, const struct pipeline_options *options,
                  struct pipeline **ret, struct dr_error *err);
void pipeline_close(struct pipeline *p);

/* Whether it can run: it was not opened only to plan with, and its packed weights are as they were
 * verified, not removed, replaced or written to since. */
bool pipeline_is_ready(const struct pipeline *p);

/* Makes p->digest known, of the files that are open: DR_EIO when they were changed since. */
int pipeline_digest(struct pipeline *p, const struct pipeline_options *options,
                    struct dr_error *err);

/* DR_EIO when a file that it reads was changed or cut since it was opened, or could not be read:
 * what was computed since is not to be trusted. Cheap. */
int pipeline_check(const struct pipeline *p, struct dr_error *err);

/* The same when a job is over, also of what is in the packed weights: if their file was touched
 * meanwhile every byte is compared with its checksum. */
int pipeline_check_after(struct pipeline *p, const atomic_int *stop, struct dr_error *err);

struct pipeline_manager;

int pipeline_manager_new(struct pipeline_manager **ret, struct dr_error *err);
void pipeline_manager_free(struct pipeline_manager *m);

/* The pipeline of that model on that backend, borrowed until the next call or
 * pipeline_manager_drop. */
int pipeline_manager_get(struct pipeline_manager *m, const char *path, struct backend *be,
                         const struct pipeline_options *options, struct pipeline **ret,
                         struct dr_error *err);
/* The loaded pipeline of that model, whatever its backend, borrowed likewise; NULL: none, or its
 * files have changed. Opens and drops nothing. */
struct pipeline *pipeline_manager_peek(const struct pipeline_manager *m, const char *path);
/* Makes the one that was returned last ready to run, whatever options->plan_only says: what takes
 * minutes at the first start of a large model, so plan and admit before. After an error it is
 * dropped. What was planned must be planned again: where no pack can be kept the weights lie
 * elsewhere. */
int pipeline_manager_ready(struct pipeline_manager *m, const struct pipeline_options *options,
                           struct dr_error *err);
/* Whether that model has 8-bit weights; opens only its headers. */
int pipeline_manager_int8(const struct pipeline_manager *m, const struct model_root *root,
                          const char *path, const atomic_int *stop, bool *ret,
                          struct dr_error *err);
void pipeline_manager_drop(struct pipeline_manager *m);

#endif
