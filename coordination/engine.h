/* engine.h - the state that a worker's verbs share, and the verbs. Internal to coordination/. */
#ifndef DR_COORDINATION_ENGINE_H
#define DR_COORDINATION_ENGINE_H

#include <pthread.h>

#include "core/base_worker.h"
#include "core/device_manager.h"
#include "core/roots.h"
#include "include/darkroom.h"
#include "inference/job_run.h"
#include "inference/pipeline_manager.h"

struct lora_place;
struct request;

/* Receives pictures requested neither as files nor as base64; fn NULL: none. */
struct image_sink {
    darkroom_image_fn fn;
    void *user;
};

struct engine {
    struct device_manager *devices;
    struct pipeline_manager *pipelines;
    struct roots roots;      /* where files of requests may lie; none: nowhere */
    struct roots models;     /* where models may lie; none: anywhere */
    struct pack_store store; /* where packed weights are kept */
    size_t memory_limit;     /* bytes, 0: three quarters of what is free */
    size_t baseline;         /* resident bytes at the start, and what any first job adds */
    int queue;
    pthread_mutex_t sink_lock;
    struct image_sink sink; /* under the lock */
};

/* The verbs: worker_handler with ctx = struct engine. */
int engine_generate(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_validate(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_plan(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_load_model(void *engine, struct worker_job *job, json_t **ret_data,
                      struct dr_error *err);
int engine_unload_model(void *engine, struct worker_job *job, json_t **ret_data,
                        struct dr_error *err);
int engine_inspect(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_tokens(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_devices(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_capabilities(void *engine, struct worker_job *job, json_t **ret_data,
                        struct dr_error *err);
int engine_check(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_bench(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_models(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_cache(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_lora(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);
int engine_convert(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err);

/* A model on a kernel set and precision, to plan with: a reference, for pipeline_unref. */
int engine_pipeline(struct engine *e, const struct model_spec *spec, const char *kernels,
                    enum precision precision, const atomic_int *stop, struct pipeline **ret,
                    struct dr_error *err);
/* What a job on p is planned against: models that no job uses can be unloaded. */
struct memory_budget engine_budget(const struct engine *e, const struct pipeline *p);
/* Loads p for a job that is planned and admitted, after unloading models that no job uses as far as
 * their memory is needed; plan NULL: for no job yet. Packed weights are kept in the engine's store.
 * After an error it is forgotten. */
int engine_load(struct engine *e, struct pipeline *p, const struct memory_plan *plan,
                const struct pipeline_options *how, struct dr_error *err);
/* Where a request's model is: its path without links, and the folder of models that none of its
 * files leaves. */
struct engine_model {
    char path[DR_PATH_MAX];
    struct model_root root; /* fd < 0: none */
};
/* "" means the shipped one. */
int engine_find_model(const struct engine *e, const char *model, struct engine_model *ret,
                      struct dr_error *err);
/* The same with the parts that replace its own; the spec borrows the rest, so it must not move. */
struct engine_spec {
    struct engine_model model, part[COMPONENT_COUNT];
    struct model_spec spec;
};
/* Texts of a request: paths or names. */
struct engine_names {
    const char *model, *part[COMPONENT_COUNT]; /* "": the shipped one; NULL, "": the model's own */
    const char *prediction;                    /* NULL, "": as the files say */
    enum model_said zero_snr;
};
int engine_find_spec(const struct engine *e, const struct engine_names *names,
                     struct engine_spec *ret, struct dr_error *err);
/* Of the members of a verb's data: the first n of `keys` are spellings of the model's, a part has
 * that of its component; prediction and zsnr. *ret_given: whether a path was there. */
int engine_read_spec(const struct engine *e, const json_t *data, const char *const *keys, int n,
                     struct engine_spec *ret, bool *ret_given, struct dr_error *err);
/* Those members, for lists of known ones. */
#define ENGINE_PARTS "unet", "text_encoder", "text_encoder_2", "vae", "prediction", "zsnr"
/* For pipeline_options and their like; NULL: the model may lie anywhere. */
const struct model_root *engine_model_root(const struct engine_model *m);
/* The backend that computes the model. With PRECISION_AUTO, an 8-bit one if the model's
 * weights are 8-bit and the machine can compute with them. */
int engine_backend(struct engine *e, const struct model_spec *spec, const char *kernels,
                   enum precision precision, const atomic_int *stop, struct backend **ret,
                   struct dr_error *err);
/* A model, or the part that the field is about, by its name (file_names.c). DR_ENOENT without a
 * message: there is none; DR_EINVAL names two of that name. */
int engine_find_name(const struct engine *e, const char *field, const char *name,
                     struct engine_model *ret, struct dr_error *err);
/* The answer of `models`: new reference. */
int engine_names_json(const struct engine *e, json_t **ret, struct dr_error *err);
/* A file that a request's field gives by path or name. */
struct engine_wanted {
    const char *field, *name;
    const char *sha256;     /* of a receipt: of several files of that name this one; "": none */
    const atomic_int *stop; /* nonzero: no more files are read for their digests */
};
/* The place of a LoRA: file_names.c. */
int engine_find_lora(const struct engine *e, const struct engine_wanted *wanted,
                     struct lora_place *ret, struct dr_error *err);
/* The same of an embedding: *ret_fd reads it and is the caller's. */
int engine_open_embedding(const struct engine *e, const struct engine_wanted *wanted, int *ret_fd,
                          struct dr_error *err);
/* Whether it can only be a name or a URL: no file outside of the models folders is meant. */
bool model_names_are(const char *model);
/* DR_ENOENT: no such file, folder or model name. `field` is that of the request. */
int model_names_fail(const char *field, const char *model, struct dr_error *err);
/* A path inside a folder of --models, as it is now: where links change meanwhile the kernel refuses
 * what leads out. */
int engine_find_in_roots(const struct engine *e, const char *field, const char *path,
                         struct engine_model *ret, struct dr_error *err);

/* Reports the loading of a job's model to the host: pipeline_options.progress. */
struct load_progress {
    struct worker_job *job;
    bool stream;
    double last; /* event sent; dr_now at first, so that a quick load sends none */
};
void engine_loading(void *progress, const char *what, double fraction);

/* The packed weights that are kept: folder, files, bytes, limit_bytes; new reference. */
json_t *engine_cache_json(const struct engine *e);
/* Verifies each of them; what is damaged is removed. */
int engine_check_cache(struct engine *e, struct worker_job *job, json_t **ret_data,
                       struct dr_error *err);

/* What a worker can do: part of `ready` and the whole of `capabilities`. New reference, NULL when
 * memory is short. */
json_t *engine_capabilities_json(const struct engine *e);
json_t *engine_bench_cases_json(void); /* names of what bench measures */

#endif
