/* pack_store.h - the folder that packs are kept in, and how much of the disk it may take.
 *
 * A pack is called DIGEST-SET-LAYOUT-CONTENTS.weights, digest and contents being 16 hex digits, and
 * nothing else in the folder is touched. The ones used longest ago go first. A pack that is in use
 * can be removed like any other: its pages stay until it is closed. Several processes may use one
 * folder.
 */
#ifndef DR_BACKEND_CACHE_PACK_STORE_H
#define DR_BACKEND_CACHE_PACK_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fs.h"

/* Half of what is free (packs included) is the most in any case. */
#define PACK_STORE_LIMIT ((uint64_t)32 << 30)

struct pack_store {
    char folder[DR_PATH_MAX];
    uint64_t limit; /* bytes; 0: nothing is kept */
};

/* folder NULL or "": weights/ in the user's cache folder; where there is none, limit becomes 0. */
int pack_store_init(struct pack_store *s, const char *folder, uint64_t limit, struct dr_error *err);

/* The path of a pack by its name without the suffix. */
int pack_store_path(const struct pack_store *s, const char *name, char *dst, size_t n,
                    struct dr_error *err);

/* Removes what makers left behind that died. */
void pack_store_sweep(const struct pack_store *s);

/* Makes the folder, sweeps it, and removes packs until `bytes` more fit. DR_ELIMIT when they
 * cannot. */
int pack_store_room(const struct pack_store *s, uint64_t bytes, struct dr_error *err);

/* Whether pack_store_room would succeed, as far as can be seen; changes nothing. */
bool pack_store_fits(const struct pack_store *s, uint64_t bytes);

/* Whether a pack with that end of its name, "SET-LAYOUT-CONTENTS", is there, whatever its model. */
bool pack_store_has(const struct pack_store *s, const char *end);

/* Calls fn for every file that is called like a pack; a negative return ends the walk and is
 * returned. A folder that is not there is empty. */
typedef int (*pack_store_fn)(void *ctx, const char *path, const struct stat *st);
int pack_store_each(const struct pack_store *s, pack_store_fn fn, void *ctx, struct dr_error *err);

#endif
