/* clock.c - see clock.h. */
#include "base/clock.h"

#include <time.h>

static double read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double dr_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

double dr_epoch(void)
{
    return read_clock(CLOCK_REALTIME);
}

void dr_timestamp(char *dst, size_t n)
{
    dr_timestamp_of(time(NULL), dst, n);
}

void dr_timestamp_of(time_t when, char *dst, size_t n)
{
    if (!n)
        return;
    char whole[32] = "";
    struct tm tm;
    if (gmtime_r(&when, &tm))
        strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%SZ", &tm);
    size_t i = 0;
    for (; whole[i] && i + 1 < n; i++)
        dst[i] = whole[i];
    dst[i] = '\0';
}
