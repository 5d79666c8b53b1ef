/* alloc.c - tagged allocation; a 64-byte header keeps size and tag. Small blocks are the C
 * library's. Large ones are mapped, so that they go back to the system when they are freed: the C
 * library keeps ever larger ones for itself, and a job would exceed its plan. */
#include "base/alloc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"

enum { HEADER = 64, HUGE_FROM = 8 << 20 };
#ifdef DR_SANITIZED /* the address sanitizer watches what lies around a block of the C library */
static const size_t LARGE_FROM = SIZE_MAX;
#else
static const size_t LARGE_FROM = 1 << 20;
#endif

static const size_t largest = (size_t)1
                              << 39; /* larger sizes are mistakes: no machine has that much */

struct alloc_header {
    size_t size;
    size_t mapped; /* of a block that may be kept, else 0 */
    enum dr_tag tag;
    uint64_t tally; /* id of the tally that counts it; 0: none */
};

struct counter {
    atomic_size_t bytes, peak;
    atomic_ullong blocks, total;
};

static struct counter counters[DR_TAG_COUNT + 1]; /* the last one sums all */
static atomic_llong fail_from, fail_run; /* allocations left until failing; how many fail */
static atomic_bool fail_armed, fail_hit;

/* By thread and not by argument: allocations are made deep inside parsers and networks, which know
 * nothing of jobs. Blocks refer to a tally by id, so they may outlive it. */
static _Thread_local struct dr_tally *used_tally;

/* The block that is kept for dr_malloc_again. */
static struct {
    pthread_mutex_t lock;
    size_t most;
    void *at; /* NULL: none */
    size_t mapped;
} spare = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool must_fail(void)
{
    if (!atomic_load_explicit(&fail_armed, memory_order_relaxed))
        return false;
    long long left = atomic_fetch_sub(&fail_from, 1) - 1;
    if (left > 0 || left <= -atomic_load(&fail_run))
        return false;
    atomic_store(&fail_hit, true);
    return true;
}

static void count_in(struct counter *c, size_t size)
{
    size_t now = atomic_fetch_add(&c->bytes, size) + size;
    size_t peak = atomic_load(&c->peak);
    while (now > peak && !atomic_compare_exchange_weak(&c->peak, &peak, now)) {}
    atomic_fetch_add(&c->blocks, 1);
    atomic_fetch_add(&c->total, 1);
}

static void count_out(struct counter *c, size_t size)
{
    atomic_fetch_sub(&c->bytes, size);
    atomic_fetch_sub(&c->blocks, 1);
}

static void tally_in(struct alloc_header *h)
{
    struct dr_tally *t = used_tally;
    h->tally = t ? t->id : 0;
    if (!t)
        return;
    t->bytes[h->tag] += h->size;
    if (t->bytes[h->tag] > t->peak[h->tag])
        t->peak[h->tag] = t->bytes[h->tag];
}

static void tally_out(const struct alloc_header *h)
{
    if (used_tally && h->tally == used_tally->id)
        used_tally->bytes[h->tag] -= h->size;
}

void dr_tally_init(struct dr_tally *t)
{
    static atomic_ullong last;
    memset(t, 0, sizeof *t);
    t->id = atomic_fetch_add(&last, 1) + 1;
}

struct dr_tally *dr_tally_use(struct dr_tally *t)
{
    struct dr_tally *before = used_tally;
    used_tally = t;
    return before;
}

void dr_tally_reset_peak(struct dr_tally *t)
{
    memcpy(t->peak, t->bytes, sizeof t->peak);
}

static void *take(size_t whole)
{
    void *p;
    if (whole < LARGE_FROM)
        return posix_memalign(&p, HEADER, whole) ? NULL : p;
    p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void advise_huge(void *p, size_t whole)
{
    uintptr_t first = ((uintptr_t)p + 4095) & ~(uintptr_t)4095;
    if (whole >= HUGE_FROM)
        madvise((void *)first, whole - (first - (uintptr_t)p), MADV_HUGEPAGE);
}

/* The spare block, grown where it is too small; NULL: there is none. */
static void *take_spare(size_t whole, size_t *ret_mapped)
{
    pthread_mutex_lock(&spare.lock);
    void *p = spare.at;
    *ret_mapped = spare.mapped;
    spare.at = NULL;
    spare.mapped = 0;
    pthread_mutex_unlock(&spare.lock);
    if (!p || *ret_mapped >= whole)
        return p;
    void *grown = mremap(p, *ret_mapped, whole, MREMAP_MAYMOVE);
    if (grown == MAP_FAILED) {
        munmap(p, *ret_mapped);
        return NULL;
    }
    *ret_mapped = whole;
    return grown;
}

/* At most `most` bytes of the block in whole pages; the rest of it goes back. */
static void shrink(void **p, size_t *mapped, size_t most)
{
    size_t page = 4096, kept = most > SIZE_MAX - page ? most : (most + page - 1) / page * page;
    if (!*p || *mapped <= kept)
        return;
    munmap((char *)*p + kept, *mapped - kept);
    *p = kept ? *p : NULL;
    *mapped = kept;
}

/* Keeps the larger of it and the spare block and gives the other back. */
static void give_spare(void *p, size_t mapped)
{
    pthread_mutex_lock(&spare.lock);
    shrink(&p, &mapped, spare.most);
    if (p && mapped > spare.mapped) {
        void *other = spare.at;
        size_t other_mapped = spare.mapped;
        spare.at = p;
        spare.mapped = mapped;
        p = other;
        mapped = other_mapped;
    }
    pthread_mutex_unlock(&spare.lock);
    if (p)
        munmap(p, mapped);
}

void dr_alloc_keep(size_t most)
{
    size_t whole;
    pthread_mutex_lock(&spare.lock);
    spare.most = !most || !dr_add_size(most, HEADER, &whole) ? most : whole;
    shrink(&spare.at, &spare.mapped, spare.most);
    pthread_mutex_unlock(&spare.lock);
}

size_t dr_alloc_kept(void)
{
    pthread_mutex_lock(&spare.lock);
    size_t mapped = spare.mapped;
    pthread_mutex_unlock(&spare.lock);
    return mapped;
}

/* The block that begins at p; mapped: as in its header. */
static void *hand_out(void *p, enum dr_tag tag, size_t size, size_t mapped)
{
    advise_huge(p, mapped ? mapped : size + HEADER);
    struct alloc_header *h = p;
    h->size = size;
    h->mapped = mapped;
    h->tag = tag;
    count_in(&counters[tag], size);
    count_in(&counters[DR_TAG_COUNT], size);
    tally_in(h);
    return (char *)p + HEADER;
}

static void *allocate(enum dr_tag tag, size_t size, bool again)
{
    size_t whole, mapped = 0;
    if (size > largest || !dr_add_size(size, HEADER, &whole) || must_fail())
        return NULL;
    again = again && whole >= LARGE_FROM;
    void *p = again ? take_spare(whole, &mapped) : NULL;
    if (!p) {
        p = take(whole);
        mapped = again ? whole : 0;
    }
    return p ? hand_out(p, tag, size, mapped) : NULL;
}

void *dr_malloc(enum dr_tag tag, size_t size)
{
    return allocate(tag, size, false);
}

void *dr_malloc_again(enum dr_tag tag, size_t size)
{
    return allocate(tag, size, true);
}

void *dr_calloc(enum dr_tag tag, size_t n, size_t size)
{
    size_t bytes;
    if (!dr_mul_size(n, size, &bytes))
        return NULL;
    void *p = dr_malloc(tag, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

void *dr_realloc(enum dr_tag tag, void *p, size_t size)
{
    void *q = dr_malloc(tag, size);
    if (!q || !p)
        return q;
    size_t old = ((struct alloc_header *)((char *)p - HEADER))->size;
    memcpy(q, p, old < size ? old : size);
    dr_free(p);
    return q;
}

char *dr_strndup(enum dr_tag tag, const char *s, size_t n)
{
    char *p = dr_malloc(tag, n + 1);
    if (!p)
        return NULL;
    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *dr_strdup(enum dr_tag tag, const char *s)
{
    return dr_strndup(tag, s, strlen(s));
}

static void count_block_out(const struct alloc_header *h)
{
    count_out(&counters[h->tag], h->size);
    count_out(&counters[DR_TAG_COUNT], h->size);
    tally_out(h);
}

void dr_free(void *p)
{
    if (!p)
        return;
    struct alloc_header *h = (struct alloc_header *)((char *)p - HEADER);
    count_block_out(h);
    if (h->mapped)
        give_spare(h, h->mapped);
    else if (h->size + HEADER < LARGE_FROM)
        free(h);
    else
        munmap(h, h->size + HEADER);
}

void *dr_malloc_over(enum dr_tag tag, size_t size, void *old)
{
    struct alloc_header *h = old ? (struct alloc_header *)((char *)old - HEADER) : NULL;
    size_t whole;
    bool large = h && !h->mapped && h->size + HEADER >= LARGE_FROM;
    if (!large || size > largest || !dr_add_size(size, HEADER, &whole) || whole < LARGE_FROM) {
        dr_free(old);
        return dr_malloc(tag, size);
    }
    if (must_fail()) {
        dr_free(old);
        return NULL;
    }
    size_t mapped = h->size + HEADER;
    count_block_out(h);
    void *p = mremap(h, mapped, whole, MREMAP_MAYMOVE);
    if (p != MAP_FAILED)
        return hand_out(p, tag, size, 0);
    munmap(h, mapped);
    return NULL;
}

const char *dr_tag_name(enum dr_tag tag)
{
    static const char *const names[DR_TAG_COUNT] = {
        [DR_TAG_BASE] = "base",
        [DR_TAG_FILE] = "file",
        [DR_TAG_TOKENIZER] = "tokenizer",
        [DR_TAG_MODEL] = "model",
        [DR_TAG_WEIGHTS] = "weights",
        [DR_TAG_ACTIVATION] = "activation",
        [DR_TAG_JOB] = "job",
        [DR_TAG_IMAGE] = "image",
        [DR_TAG_TEST] = "test",
        [DR_TAG_PROMPT] = "prompt",
    };
    return names[tag];
}

static struct dr_alloc_stats stats_of(const struct counter *c)
{
    return (struct dr_alloc_stats){ .bytes = atomic_load(&c->bytes),
                                    .peak = atomic_load(&c->peak),
                                    .blocks = atomic_load(&c->blocks),
                                    .total = atomic_load(&c->total) };
}

struct dr_alloc_stats dr_alloc_stats(enum dr_tag tag)
{
    return stats_of(&counters[tag]);
}

struct dr_alloc_stats dr_alloc_stats_all(void)
{
    return stats_of(&counters[DR_TAG_COUNT]);
}

void dr_alloc_reset_peak(void)
{
    for (int i = 0; i <= DR_TAG_COUNT; i++)
        atomic_store(&counters[i].peak, atomic_load(&counters[i].bytes));
}

void dr_alloc_fail_at(uint64_t k, uint64_t run)
{
    atomic_store(&fail_from, (long long)k);
    atomic_store(&fail_run, (long long)run);
    atomic_store(&fail_hit, false);
    atomic_store(&fail_armed, k != 0);
}

bool dr_alloc_fail_hit(void)
{
    return atomic_load(&fail_hit);
}
