/* progress.h - how far a picture is, on stderr: a bar on a terminal, else a line a second.
 *
 * Before the first step is over the time left comes from the worker's estimate (the speed of
 * earlier jobs), else from the fraction of the work that is done; then from the mean of the steps
 * after the first, so that what only the first step does is not in it. On a terminal the clock
 * advances without events: progress_event with NULL.
 */
#ifndef DR_CLI_PROGRESS_H
#define DR_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

/* Where a run is. Seconds: 0 means not known. */
struct progress_state {
    int step, total; /* total 0 beside `open`: nobody knows it */
    bool open;
    double rate;    /* steps a second; 0: not known yet */
    double part;    /* of the step that runs: 0 to 1 */
    double left;    /* seconds; 0: as the rate says */
    double elapsed; /* shown while nothing better is known */
};

struct progress {
    bool quiet, terminal, colour, drawn;
    bool announced;           /* model, size and so on have been shown */
    bool unshown;             /* the last step of an open number has no line yet */
    int total;                /* pictures of all requests */
    double last;              /* dr_now of the last line or drawing */
    double first, stepped;    /* of the first step's end, of the last one's */
    double began, estimate;   /* of the stage, and how long it may take; 0: unknown */
    double fraction, counted; /* of the stage's work, and when that was reported */
    char stage[16];           /* "text" ...; "" before */
    char message[48];         /* what is shown of it */
    char label[48];           /* "picture 3 of 16" or "" */
    struct progress_state at;
};

/* quiet: nothing is ever written. */
void progress_init(struct progress *p, bool quiet);

/* Shows work without steps, on a terminal only. */
void progress_say(struct progress *p, const char *what);

/* The next request draws pictures `first` to `last` of `total`, from 1. */
void progress_pictures(struct progress *p, int first, int last, int total);

/* `data` of a progress event, or NULL: time has passed. A session_event_fn. */
void progress_event(void *p, const json_t *data);

/* Removes the bar: before anything else is written, and at the end. */
void progress_clear(struct progress *p);

/* "12/30 [=========>          ] 1.52 it/s, 0:12 left" in at most `width` columns; below 40 without
 * the bar. */
void progress_bar(const struct progress_state *at, int width, char *dst, size_t n);

/* "step 12/30, 1.52 it/s, 0:12 left"; seconds a step when those are more than one. */
void progress_line(const struct progress_state *at, char *dst, size_t n);

#endif
