/* receipt_match.c - see receipt_match.h. */
#include "inference/receipt_match.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"

void receipt_match(const struct request *q, const struct job *job,
                   const struct receipt_facts *facts, void (*warning)(void *ctx, const char *text),
                   void *ctx)
{
    char text[240];
    const char *version = request_text(q, FIELD_version);
    char assumed[256];
    receipt_assumed(&job->sched, assumed, sizeof assumed);
    if (request_has(q, FIELD_scheduler_defaults) &&
        strcmp(request_text(q, FIELD_scheduler_defaults), assumed)) {
        snprintf(text, sizeof text,
                 "defaults were assumed for '%.60s' when the picture was drawn, now for '%.60s': "
                 "it may differ",
                 request_text(q, FIELD_scheduler_defaults), assumed);
        warning(ctx, text);
    }
    double scale = request_real(q, FIELD_receipt_guidance_scale);
    if (request_has(q, FIELD_receipt_guidance_scale) && !request_has(q, FIELD_guidance_scale) &&
        scale != job->guidance_scale) {
        snprintf(text, sizeof text,
                 "guidance_scale is %g, the default of sampler %s: the receipt's %g was that of "
                 "its sampler, %.60s",
                 job->guidance_scale, job->sched.sampler->name, scale,
                 request_text(q, FIELD_receipt_sampler));
        warning(ctx, text);
    }
    if (*version && strcmp(version, facts->version)) {
        snprintf(text, sizeof text, "the receipt is of darkroom %.40s, this is %s: bits may differ",
                 version, facts->version);
        warning(ctx, text);
    }
    if (request_has(q, FIELD_layout) && request_int(q, FIELD_layout) != facts->layout) {
        snprintf(text, sizeof text,
                 "the receipt is of layout %" PRId64 ", this is %d: bits may differ",
                 request_int(q, FIELD_layout), facts->layout);
        warning(ctx, text);
    }
}

int receipt_match_model(const struct request *q, const char *digest, struct dr_error *err)
{
    const char *wanted = request_text(q, FIELD_model_sha256);
    return !*wanted || !strcasecmp(wanted, digest)
               ? 0
               : dr_fail_field(err, DR_EINVAL, "model_sha256", wanted, digest,
                               "the digest of this model");
}
