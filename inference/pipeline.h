/* pipeline.h - a model that jobs run on: checkpoint, networks, tokenizers, bound to a backend.
 *
 *     r = pipeline_open("model.safetensors", be, &options, &p, err);   reads headers, binds weights
 *     r = job_plan(p, ...);                                            from here on
 *     r = pipeline_load(p, &options, err);                             hashes, packs, verifies
 *     r = job_run(p, ...);                                             from here on
 *     pipeline_unref(p);
 *
 * What was opened is cheap and enough to plan with, since sizes of weights follow from their
 * descriptors. Loading may take minutes at the first start of a large model, so plan and admit
 * before. After loading only what it remembers of jobs changes (embeddings of prompts, what is
 * resident). It and its references belong to one thread.
 */
#ifndef DR_INFERENCE_PIPELINE_H
#define DR_INFERENCE_PIPELINE_H

#include <stdatomic.h>

#include "backend/cache/pack_store.h"
#include "base/alloc.h"
#include "base/sha256.h"
#include "conditioning/prompt_cache.h"
#include "models/model_loader.h"

struct pack;
struct variant_cache;
struct unet;
struct vae;

enum { PIPELINE_NETWORKS = PROMPT_ENCODERS + 3 };

/* A network of a pipeline, for what is done with each of them. */
struct pipeline_network {
    enum component component;
    void *network;
    visit_fn visit;
};

struct pipeline {
    int refs;
    struct checkpoint *checkpoint;
    struct backend *backend; /* borrowed */
    struct unet *unet;
    struct vae *vae;      /* decoder */
    struct vae *encoder;  /* of the same VAE; NULL: */
    char no_encoder[300]; /* why it has none */
    struct prompt_encoders encoders;
    struct tok *tokenizers[PROMPT_ENCODERS];
    int64_t latent_factor; /* pixels per latent along an edge: 8 */
    struct pipeline_network networks[PIPELINE_NETWORKS];
    int n_networks;
    struct backend *plan; /* plans jobs; has the weights, as handles without data, until loaded */
    bool loaded;
    bool in_pack;      /* the kernel set's weights lie in a pack, or will; else in private memory */
    size_t made_bytes; /* of what the backend makes of the weights */
    struct pack *pack; /* NULL: none */
    char digest[SHA256_HEX]; /* of the model, when it had to be known; else "" */
    char warning[400];       /* why packed weights are private; "" */
    char news[400];          /* why packed weights were rebuilt, reported once; "" */
    struct prompt_cache prompts;
    struct variant_cache *variants; /* of its networks' weights */
    bool text_read;                 /* the encoders' weights were read and not given back since */
    struct dr_tally tally;          /* private memory that it holds, by tag */
    size_t mapped;                  /* bytes of mapped weights that its last job left resident */
};

/* Zero: not cancellable, no cache, no progress. */
struct pipeline_options {
    const struct model_root *root;  /* of pipeline_open: no file of the model leaves it */
    const atomic_int *stop;         /* ends it with DR_ECANCELED */
    const struct pack_store *store; /* where packed weights are kept; NULL: nowhere */
    /* "hashing", "verifying" or "packing", and the fraction done; only for large models. */
    void (*progress)(void *ctx, const char *what, double fraction);
    void *ctx;
};

/* Opens the files and binds the weights: one reference. options may be NULL. */
int pipeline_open(const char *path, struct backend *be, const struct pipeline_options *options,
                  struct pipeline **ret, struct dr_error *err);
/* The same of a model with parts of its own, where the spec has the roots. */
int pipeline_open_spec(const struct model_spec *spec, struct backend *be,
                       const struct pipeline_options *options, struct pipeline **ret,
                       struct dr_error *err);
struct pipeline *pipeline_ref(struct pipeline *p);
void pipeline_unref(struct pipeline *p); /* the last one closes it; NULL does nothing */

/* Brings the weights where jobs can use them: from the pack of an earlier start, into a new one or,
 * without one, into private memory. Nothing to do where that is done and the pack is as it was
 * verified. After an error it can be neither planned with nor loaded. in_pack may have changed:
 * plan again then. options may be NULL. */
int pipeline_load(struct pipeline *p, const struct pipeline_options *options, struct dr_error *err);

/* Whether it was loaded, and its pack was not removed, replaced or written to since. */
bool pipeline_is_loaded(const struct pipeline *p);

/* Closes the variants of its weights that no job uses; whether there were any. */
bool pipeline_drop_variants(struct pipeline *p);

/* Private bytes that loading will take for weights. */
size_t pipeline_unmade_bytes(const struct pipeline *p);

/* Bytes that unloading it would free, mapped ones included. */
size_t pipeline_bytes(const struct pipeline *p);
size_t pipeline_private_bytes(const struct pipeline *p); /* without these */

/* Makes p->digest known, of the files that are open: DR_EIO when they were changed since. */
int pipeline_digest(struct pipeline *p, const struct pipeline_options *options,
                    struct dr_error *err);

/* DR_EIO when a file that it reads was changed or cut since it was opened, or could not be read:
 * what was computed since is not to be trusted. Cheap. */
int pipeline_check(const struct pipeline *p, struct dr_error *err);

/* The same when a job is over, also of what is in the packed weights: if their file was touched
 * meanwhile every byte is compared with its checksum. */
int pipeline_check_after(struct pipeline *p, const atomic_int *stop, struct dr_error *err);

#endif
