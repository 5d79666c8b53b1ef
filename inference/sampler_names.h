/* sampler_names.h - what `sampler`, `schedule` and `scheduler` of a request mean together. */
#ifndef DR_INFERENCE_SAMPLER_NAMES_H
#define DR_INFERENCE_SAMPLER_NAMES_H

#include "core/communication/request.h"

struct sched_info;

/* The sampler, with its options, and the schedule, NULL where the request leaves it to the model;
 * they live as long as the request.
 *
 * Programs do not agree on the word scheduler: diffusers calls a sampler so, AUTOMATIC1111 and
 * ComfyUI the noise schedule beside a sampler. With a sampler given, `scheduler` is therefore the
 * schedule ("Automatic" leaves it open), or the sampler once more by another name; alone it is
 * whichever of the two the name belongs to. What a receipt gave counts where these name nothing.
 * DR_EINVAL, of field "scheduler": a name of neither, or
 * one that contradicts the other fields. */
int sampler_names(const struct request *q, const char **ret_sampler, const char **ret_schedule,
                  struct dr_error *err);

/* The guidance scale: the request's, else the receipt's unless that was the default of a sampler
 * that is replaced, else the sampler's default. */
double sampler_guidance_scale(const struct request *q, const struct sched_info *sampler,
                              double usual);

#endif
