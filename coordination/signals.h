/* signals.h - SIGTERM, SIGINT and SIGHUP in the worker program.
 *
 * The handler only records the signal and the time; the worker's loop and its writer poll at least
 * five times a second. SIGTERM: let the running job finish within the grace period. SIGINT, SIGHUP,
 * a second signal or the end of the period: cancel it.
 */
#ifndef DR_COORDINATION_SIGNALS_H
#define DR_COORDINATION_SIGNALS_H

#include <stdbool.h>

enum signals_wish {
    SIGNALS_NONE,
    SIGNALS_FINISH, /* the running job */
    SIGNALS_CANCEL,
};

/* From now on. SIGHUP stays ignored where it was (nohup). */
void signals_catch(void);
void signals_grace(double seconds);

enum signals_wish signals_wish(void);
/* The first signal's name. */
const char *signals_name(void);
/* The job was cancelled seconds ago and the worker is still blocked, by a host that does not read.
 */
bool signals_overdue(void);

#endif
