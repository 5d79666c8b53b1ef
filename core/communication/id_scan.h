/* id_scan.h - the ids of a request line that is no JSON, for its answer.
 *
 * A client that waits for the answer with its id must get it whatever is wrong with the line: a
 * byte that is no UTF-8, a key that comes twice, nesting without end, a line that breaks off. So
 * this reads the line's structure only as far as it needs to: which strings are keys, how deep.
 */
#ifndef DR_CORE_COMMUNICATION_ID_SCAN_H
#define DR_CORE_COMMUNICATION_ID_SCAN_H

#include <stddef.h>

#include "core/communication/message.h"

/* Fills in request_id and correlationId of the line's object, and where it has neither, request_id
 * of its `data`; "" for what is not there, breaks off or is not acceptable as an id. Of one that
 * comes twice the first acceptable one counts. Any bytes; linear, no allocation. */
void id_scan(const char *line, size_t n, struct message_ids *ret);

#endif
