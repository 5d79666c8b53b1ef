/* receipt_match.h - a receipt that comes back as a request.
 *
 * Besides fields that decide something a receipt has facts about who made the picture. Sent back as
 * it is, they are claims: one that makes another picture is refused, one that may change bits is a
 * warning.
 */
#ifndef DR_INFERENCE_RECEIPT_MATCH_H
#define DR_INFERENCE_RECEIPT_MATCH_H

#include "core/communication/request.h"
#include "inference/job.h"
#include "inference/receipt.h"

/* All but the digest. facts: ours. */
void receipt_match(const struct request *q, const struct job *job,
                   const struct receipt_facts *facts, void (*warning)(void *ctx, const char *text),
                   void *ctx);

/* digest: the model's, in hex. */
int receipt_match_model(const struct request *q, const char *digest, struct dr_error *err);

#endif
