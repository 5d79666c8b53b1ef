/* alloc.h - every allocation has a tag, a count and a chance to fail.
 *
 * The tag answers "what uses the memory" (darkroom plan, health), the counters prove that a step
 * allocates nothing and that a job leaks nothing, and the hook lets a test fail the k-th
 * allocation. Thread-safe. Blocks carry a 64-byte header, so pointers are 64-byte aligned.
 */
#ifndef DR_BASE_ALLOC_H
#define DR_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dr_tag {
    DR_TAG_BASE,       /* small things: strings, tables, JSON */
    DR_TAG_FILE,       /* file headers, tensor tables */
    DR_TAG_TOKENIZER,  /* vocabulary, merges, unicode table */
    DR_TAG_MODEL,      /* network structures (not the weights' data) */
    DR_TAG_WEIGHTS,    /* packed weights in private memory */
    DR_TAG_PROMPT,     /* embeddings of earlier prompts */
    DR_TAG_ACTIVATION, /* workspace blocks: activations and op scratch */
    DR_TAG_JOB,        /* prompts, latents, schedules, pictures of a job */
    DR_TAG_IMAGE,      /* pixels and codec buffers */
    DR_TAG_TEST,
    DR_TAG_COUNT
};

struct dr_alloc_stats {
    size_t bytes;    /* live bytes as requested (headers not counted) */
    size_t peak;     /* largest `bytes` so far, or since dr_alloc_reset_peak */
    uint64_t blocks; /* live blocks */
    uint64_t total;  /* allocations ever made */
};

/* NULL when out of memory or if the test hook fails it; size 0 gives a valid pointer. Large blocks
 * go back to the system when they are freed, and are advised to huge pages. dr_calloc checks n *
 * size for overflow. dr_free(NULL) does nothing. */
void *dr_malloc(enum dr_tag tag, size_t size);
void *dr_calloc(enum dr_tag tag, size_t n, size_t size);
void *dr_realloc(enum dr_tag tag, void *p, size_t size); /* NULL: the old block stays valid */
char *dr_strdup(enum dr_tag tag, const char *s);
char *dr_strndup(enum dr_tag tag, const char *s, size_t n);
void dr_free(void *p);

/* dr_malloc for a block whose like is wanted again soon: when it is freed its memory may stay
 * mapped for the next one, which need not wait for the system to clear pages.
 * The contents are those of before. */
void *dr_malloc_again(enum dr_tag tag, size_t size);

/* dr_malloc in the place of `old` (NULL: of none), which is freed in any case: the pages of a large
 * block need not be cleared again. The contents are undefined. */
void *dr_malloc_over(enum dr_tag tag, size_t size, void *old);

/* How much such memory stays: one block of that size at most, what is more of it goes back. 0, as
 * at the start: none. With sanitizers none ever. */
void dr_alloc_keep(size_t most);
/* Bytes of the block that is mapped and not in use. */
size_t dr_alloc_kept(void);

const char *dr_tag_name(enum dr_tag tag);
struct dr_alloc_stats dr_alloc_stats(enum dr_tag tag);
struct dr_alloc_stats dr_alloc_stats_all(void);
void dr_alloc_reset_peak(void);

/* The bytes that one piece of work holds, whatever else runs in the process: a job and a loaded
 * model each have a tally. While a thread uses one, the blocks that it allocates are counted there,
 * and taken off when this thread frees them while it uses the same tally; a block that outlives the
 * work stays counted. One thread at a time uses a tally. */
struct dr_tally {
    uint64_t id; /* 0: not initialised */
    size_t bytes[DR_TAG_COUNT];
    size_t peak[DR_TAG_COUNT]; /* largest `bytes` since dr_tally_init or dr_tally_reset_peak */
};
void dr_tally_init(struct dr_tally *t);
/* From now on this thread uses t; NULL: none. Returns what it used before, to be put back. */
struct dr_tally *dr_tally_use(struct dr_tally *t);
void dr_tally_reset_peak(struct dr_tally *t);

/* Test hook: the k-th allocation from now fails (1 = the next), and so do `run` - 1 after it; k = 0
 * turns it off. dr_alloc_fail_hit: whether a failure was delivered since. */
void dr_alloc_fail_at(uint64_t k, uint64_t run);
bool dr_alloc_fail_hit(void);

#endif
