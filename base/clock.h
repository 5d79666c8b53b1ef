/* clock.h - the two clocks: one for measuring, one for the time of day. */
#ifndef DR_BASE_CLOCK_H
#define DR_BASE_CLOCK_H

#include <stddef.h>
#include <time.h>

/* Seconds since an arbitrary moment; never goes back. */
double dr_now(void);

/* Seconds since 1970-01-01 UTC. */
double dr_epoch(void);

/* The present as "2024-05-01T12:34:56Z"; cut when n < 21, always terminated when n > 0. */
void dr_timestamp(char *dst, size_t n);
/* The same of another time. */
void dr_timestamp_of(time_t when, char *dst, size_t n);

#endif
