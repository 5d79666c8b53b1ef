/* job_embeddings.c - see job_embeddings.h. */
#include "inference/job_embeddings.h"

#include <string.h>
#include <strings.h>

#include "inference/job.h"
#include "models/adapters/textual_inversions.h"
#include "models/clip_text.h"

static int add(struct job *job, const struct pipeline *p, int fd, const char *path,
               const char *token, const char *sha256, struct dr_error *err)
{
    if (!job->embeddings && !(job->embeddings = dr_calloc(DR_TAG_JOB, 1, sizeof *job->embeddings)))
        return dr_fail(err, DR_ENOMEM, "out of memory for embeddings");
    struct textual_inversions *s = job->embeddings;
    int r = textual_inversions_add(s, fd, path, token, p->encoders.chunk - 2, err);
    const char *hex = r ? "" : s->item[s->n - 1].file.hex;
    if (!r && *sha256 && strcasecmp(sha256, hex))
        r = dr_fail_field(err, DR_EINVAL, "embeddings.sha256", hex, sha256, path);
    return r;
}

int job_add_embedding(struct job *job, const struct pipeline *p, int fd, const char *path,
                      const char *token, const char *sha256, struct dr_error *err)
{
    struct dr_tally *before = dr_tally_use(&job->tally);
    int r = add(job, p, fd, path, token, sha256, err);
    dr_tally_use(before);
    return r;
}

int job_fit_embeddings(struct job *job, const struct pipeline *p,
                       void (*warning)(void *ctx, const char *text), void *ctx,
                       struct dr_error *err)
{
    struct inversion_encoder encoders[INVERSION_ENCODERS];
    if (!job->embeddings)
        return 0;
    memset(encoders, 0, sizeof encoders);
    for (int i = 0; i < PROMPT_ENCODERS; i++) {
        const struct prompt_encoder *e = &p->encoders.encoder[i];
        if (e->text)
            encoders[i] = (struct inversion_encoder){ e->tokens, clip_text_arch(e->text)->vocab,
                                                      clip_text_arch(e->text)->width };
    }
    struct dr_tally *before = dr_tally_use(&job->tally);
    int r = textual_inversions_fit(job->embeddings, encoders, warning, ctx, err);
    dr_tally_use(before);
    if (!r)
        job->prompt.embeddings = job->embeddings;
    return r;
}
