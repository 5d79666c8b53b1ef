/* job_loras.h - the LoRAs of a job: files that are open, their changes with the job's strengths,
 * and which of them act when.
 *
 * A job's weights are variants (models/adapters/weight_variant.h). The text encoders have one set
 * of changes for the whole job; the UNet has one for each span of evaluations in which the same
 * LoRAs act, and such a span is a phase of the pictures (denoise.h).
 */
#ifndef DR_INFERENCE_JOB_LORAS_H
#define DR_INFERENCE_JOB_LORAS_H

#include "core/communication/request.h"
#include "inference/job.h"
#include "inference/pipeline.h"
#include "models/adapters/lora_file.h"
#include "models/adapters/weight_variant.h"

enum { LORAS_MOST = 32, LORA_PHASES = 2 * LORAS_MOST + 1 };

struct job_lora {
    struct lora_file *file;
    const char *name; /* the file's, without .safetensors: for receipts */
    double strength, text_strength, start, end;
    const char *blocks; /* as it was given, "" */
    struct {
        struct weight_delta *list; /* with strengths; owned */
        size_t n;
    } part[COMPONENT_COUNT];
};

struct job_loras {
    int n;
    struct job_lora lora[LORAS_MOST];
};

/* Where a LoRA of the request is. */
struct lora_place {
    char path[DR_PATH_MAX];
    struct model_root root; /* fd < 0: none */
};

/* Opens the request's LoRAs for the job, places[i] being the i-th, and checks all of them against
 * the model. Errors are those of lora_file_open and weight_variant_check; they name the field. */
int job_loras_open(const struct request *q, const struct lora_place *places, struct pipeline *p,
                   const atomic_int *stop, struct job *job, struct dr_error *err);
void job_loras_close(struct job_loras *loras); /* NULL does nothing */
/* What to say of the i-th; "" when there is nothing. */
const char *job_loras_warning(const struct job *job, int i);
/* Whether no evaluation is in the span of the i-th, so that it leaves the UNet as it is. */
bool job_loras_idle(const struct job *job, int i);
int job_loras_count(const struct job *job);

/* The evaluations at which the set of acting LoRAs changes, 0 first; returns how many. */
int job_loras_phases(const struct job *job, int ret_first[LORA_PHASES]);

/* The variant of a network that the job wants at that evaluation, on be. ret->deltas is an array,
 * to be freed with dr_free. */
int job_loras_spec(const struct job *job, const struct pipeline_network *network, int evaluation,
                   struct backend *be, const atomic_int *stop, struct variant_spec *ret,
                   struct dr_error *err);

/* DR_EIO when a file was changed since it was opened. */
int job_loras_check(const struct job *job, struct dr_error *err);

#endif
