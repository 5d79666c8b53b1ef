/* id_scan.h - the ids of a request line that is no JSON, for its answer.
 *
 * A client that waits for the answer with its id must get it whatever is wrong with the line:
 * invalid UTF-8, a duplicate key, endless nesting, a truncated line. So this reads only as much
 * structure as it needs: which strings are keys, and at what depth.
 */
#ifndef DR_CORE_COMMUNICATION_ID_SCAN_H
#define DR_CORE_COMMUNICATION_ID_SCAN_H

#include <stddef.h>

#include "core/communication/message.h"

/* Fills in request_id and correlationId of the line's object, and where it has neither, request_id
 * of its `data`; "" for an id that is absent, truncated or not acceptable. Of duplicates the first
 * acceptable one counts. Any bytes; linear, no allocation. */
void id_scan(const char *line, size_t n, struct message_ids *ret);

#endif
