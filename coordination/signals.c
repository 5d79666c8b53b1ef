/* signals.c - see signals.h. */
#include "coordination/signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"

enum { OVERDUE_SECONDS = 5 };

static double grace_seconds;
/* Lock-free, so that a handler may use them. */
static atomic_int count, first;
static _Atomic double first_at, cancelled_at; /* dr_now; 0: not yet */

/* dr_now is clock_gettime, which a handler may call. */
static void on_signal(int number)
{
    double now = dr_now();
    int before = atomic_fetch_add(&count, 1);
    if (!before) {
        atomic_store(&first_at, now);
        atomic_store(&first, number);
    }
    if ((number != SIGTERM || before) && atomic_load(&cancelled_at) == 0)
        atomic_store(&cancelled_at, now);
}

void signals_grace(double seconds)
{
    grace_seconds = seconds;
}

void signals_catch(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, before;
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    if (!sigaction(SIGHUP, NULL, &before) && before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGHUP);
    pthread_sigmask(SIG_UNBLOCK, &action.sa_mask, NULL); /* a parent may have left them blocked */
}

/* When the job was, or is to be, cancelled; 0: no signal came. */
static double cancel_time(void)
{
    double began = atomic_load(&first_at), asked = atomic_load(&cancelled_at);
    if (began == 0)
        return 0;
    double end = began + grace_seconds;
    return asked != 0 && asked < end ? asked : end;
}

enum signals_wish signals_wish(void)
{
    double at = cancel_time();
    return at == 0 ? SIGNALS_NONE : dr_now() < at ? SIGNALS_FINISH : SIGNALS_CANCEL;
}

const char *signals_name(void)
{
    int number = atomic_load(&first);
    return number == SIGINT ? "SIGINT" : number == SIGHUP ? "SIGHUP" : "SIGTERM";
}

bool signals_overdue(void)
{
    double at = cancel_time();
    return at != 0 && dr_now() > at + OVERDUE_SECONDS;
}
