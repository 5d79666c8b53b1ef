/* mapguard.c - see mapguard.h.
 *
 * The handler may run on any thread at any load instruction, so it takes no lock: slots are a fixed
 * array, published by an atomic state. mmap is not on POSIX's list of async-signal-safe functions,
 * but on Linux it is a bare system call.
 */
#include "base/mapguard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOT_FREE, SLOT_TAKEN, SLOT_READY };

struct slot {
    atomic_int state;
    atomic_bool damaged;
    uintptr_t begin, end; /* constant while SLOT_READY; end rounded up to a page */
};

static struct slot slots[MAPGUARD_MAX];
static struct sigaction before;
static uintptr_t page_size;
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;
static bool installed;

static struct slot *slot_of(uintptr_t address)
{
    for (int i = 0; i < MAPGUARD_MAX; i++) {
        struct slot *s = &slots[i];
        if (atomic_load(&s->state) == SLOT_READY && address >= s->begin && address < s->end)
            return s;
    }
    return NULL;
}

static void pass_on(int signal, siginfo_t *info, void *context)
{
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
    } else {
        /* The instruction runs again and faults again, now fatally; a signal that was sent
         * (si_code <= 0) is sent once more. */
        struct sigaction fatal = { .sa_handler = SIG_DFL };
        sigaction(SIGBUS, &fatal, NULL);
        if (info->si_code <= 0)
            (void)raise(SIGBUS);
    }
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    struct slot *s = info->si_code > 0 ? slot_of(address) : NULL;
    if (s) {
        uintptr_t page = address & ~(page_size - 1);
        atomic_store(&s->damaged, true);
        void *at = mmap((void *)page, s->end - page, PROT_READ,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            s = NULL;
    }
    if (!s)
        pass_on(signal, info, context);
    errno = saved;
}

int mapguard_install(struct dr_error *err)
{
    pthread_mutex_lock(&install_lock);
    int r = 0;
    if (!installed) {
        page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
        struct sigaction action = { .sa_sigaction = on_sigbus,
                                    .sa_flags = SA_SIGINFO | SA_ONSTACK };
        sigemptyset(&action.sa_mask);
        if (sigaction(SIGBUS, &action, &before))
            r = dr_fail(err, DR_EIO, "cannot handle SIGBUS: %s", strerror(errno));
        installed = !r;
    }
    pthread_mutex_unlock(&install_lock);
    return r;
}

int mapguard_add(const void *data, size_t size, int *ret_slot, struct dr_error *err)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < MAPGUARD_MAX; i++) {
        struct slot *s = &slots[i];
        int expected = SLOT_FREE;
        if (!atomic_compare_exchange_strong(&s->state, &expected, SLOT_TAKEN))
            continue;
        s->begin = (uintptr_t)data;
        s->end = ((uintptr_t)data + size + page - 1) & ~(page - 1);
        atomic_store(&s->damaged, false);
        atomic_store(&s->state, SLOT_READY);
        *ret_slot = i;
        return 0;
    }
    return dr_fail(err, DR_ELIMIT, "more than %d files are mapped", MAPGUARD_MAX);
}

void mapguard_remove(int slot)
{
    if (slot >= 0 && slot < MAPGUARD_MAX)
        atomic_store(&slots[slot].state, SLOT_FREE);
}

bool mapguard_damaged(int slot)
{
    return slot >= 0 && slot < MAPGUARD_MAX && atomic_load(&slots[slot].damaged);
}
