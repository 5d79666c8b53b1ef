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

const char *dr_tag_name(enum dr_tag tag);
struct dr_alloc_stats dr_alloc_stats(enum dr_tag tag);
struct dr_alloc_stats dr_alloc_stats_all(void);
void dr_alloc_reset_peak(void);

/* Test hook: the k-th allocation from now fails (1 = the next), and so do `run` - 1 after it; k = 0
 * turns it off. dr_alloc_fail_hit: whether a failure was delivered since. */
void dr_alloc_fail_at(uint64_t k, uint64_t run);
bool dr_alloc_fail_hit(void);

#endif
