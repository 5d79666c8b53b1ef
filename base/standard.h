/* standard.h - descriptors 0, 1 and 2 as inherited.
 *
 * The number of a closed one would be reused by the next file that is opened: pictures in a log, a
 * log in the protocol.
 */
#ifndef DR_BASE_STANDARD_H
#define DR_BASE_STANDARD_H

#include <stdbool.h>

/* First thing in main: puts /dev/null in the place of those that are closed. Reading then gives the
 * end at once and stderr goes nowhere, but writing to a stdout that was closed stays an error. Also
 * makes a write past `ulimit -f` or to a closed pipe an error instead of a signal. */
void dr_standard_open(void);

/* Whether stdout can be written to at all. */
bool dr_standard_output(void);

#endif
