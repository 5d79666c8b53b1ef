/* progress.h - how far a picture is, on stderr: a bar on a terminal, else a line a second.
 *
 * The rate is the mean since the first step was done, so that what only the first step does
 * (packing weights) is not in it.
 */
#ifndef DR_CLI_PROGRESS_H
#define DR_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

/* Where a run is. */
struct progress_state {
    int step, total;
    double rate; /* steps a second; 0: not known yet */
};

struct progress {
    bool quiet, terminal, colour, drawn;
    double began, first, last; /* dr_now of the first event, of the first step, of the last line */
    struct progress_state at;
};

/* quiet: nothing is ever written. */
void progress_init(struct progress *p, bool quiet);

/* Something without steps is going on: shown on a terminal only. */
void progress_say(struct progress *p, const char *what);

/* `data` of a progress event; a session_event_fn. */
void progress_event(void *p, const json_t *data);

/* Takes the bar away, before anything else is written and at the end. */
void progress_clear(struct progress *p);

/* "12/30 [=========>          ] 1.52 it/s, 0:12 left" in at most `width` columns; below 40 without
 * the bar. */
void progress_bar(const struct progress_state *at, int width, char *dst, size_t n);

/* "step 12/30, 1.52 it/s, 0:12 left"; seconds a step when those are more than one. */
void progress_line(const struct progress_state *at, char *dst, size_t n);

#endif
