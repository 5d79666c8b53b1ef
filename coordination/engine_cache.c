/* engine_cache.c - the cached packed weights: listing, verifying, removing. */
#include "coordination/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cache/pack.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/path_text.h"

struct cache_census {
    json_int_t bytes, files;
};

static int count(void *ctx, const char *path, const struct stat *st)
{
    struct cache_census *c = ctx;
    (void)path;
    c->bytes += (json_int_t)st->st_size;
    c->files++;
    return 0;
}

json_t *engine_cache_json(const struct engine *e)
{
    struct cache_census c = { 0, 0 };
    pack_store_each(&e->store, count, &c, NULL); /* a folder that cannot be read shows nothing */
    return json_pack("{s:o,s:I,s:I,s:I}", "folder", path_text_json(e->store.folder), "files",
                     c.files, "bytes", c.bytes, "limit_bytes", (json_int_t)e->store.limit);
}

struct cache_verifying {
    struct worker_job *job;
    json_t *list;
    int failed;
    struct dr_error *err;
};

/* "kernels" of "model a\nkernels b\n": its line's end is `n` bytes on. */
static const char *line_of(const char *key, const char *name, int *ret_n)
{
    size_t n = strlen(name);
    for (const char *line = key; line && *line; line = strchr(line, '\n'), line += line != NULL)
        if (!strncmp(line, name, n) && line[n] == ' ') {
            *ret_n = (int)strcspn(line + n + 1, "\n");
            return line + n + 1;
        }
    *ret_n = 0;
    return "";
}

static int verify(void *ctx, const char *path, const struct stat *st)
{
    struct cache_verifying *v = ctx;
    struct pack_facts facts = { .key = "" };
    struct dr_error found = { 0 };
    int model, kernels;
    int r = pack_verify(path, v->job->stop, &facts, &found);
    if (r == DR_ECANCELED || r == DR_ENOMEM)
        return dr_fail(v->err, r, "%s", found.text);
    if (r == DR_ENOENT) /* gone since it was listed */
        return 0;
    v->failed += r != 0;
    bool removed = r == DR_EFORMAT && !pack_remove(path, st, NULL) && !dr_is_file(path);
    const char *of = line_of(facts.key, "model", &model);
    const char *set = line_of(facts.key, "kernels", &kernels);
    json_t *one = json_pack("{s:o,s:I,s:s%,s:s%,s:b,s:b,s:s}", "path", path_text_json(path),
                            "bytes", (json_int_t)st->st_size, "model", of, (size_t)model, "kernels",
                            set, (size_t)kernels, "passed", !r, "removed", removed, "why",
                            r ? found.text : "");
    return jx_add(v->list, one) < 0 ? dr_fail(v->err, DR_ENOMEM, "out of memory for the answer")
                                    : 0;
}

int engine_check_cache(struct engine *e, struct worker_job *job, json_t **ret_data,
                       struct dr_error *err)
{
    struct cache_verifying v = { .job = job, .list = json_array(), .err = err };
    if (!v.list)
        return dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    int r = pack_store_each(&e->store, verify, &v, err);
    if (r < 0) {
        json_decref(v.list);
        return r;
    }
    *ret_data = json_pack("{s:o,s:o,s:i}", "folder", path_text_json(e->store.folder), "cache",
                          v.list, "failed", v.failed);
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}

/* ---- listing and removing ---- */

struct kept {
    char *path;
    struct stat st;
    bool removed;
};

struct inventory {
    struct kept *list;
    size_t n, room;
    struct dr_error *err;
};

static int take_stock(void *ctx, const char *path, const struct stat *st)
{
    struct inventory *v = ctx;
    if (!pack_at(path)) /* only named like one */
        return 0;
    if (v->n == v->room) {
        size_t room = v->room ? 2 * v->room : 16;
        struct kept *list = dr_realloc(DR_TAG_BASE, v->list, room * sizeof *list);
        if (!list)
            return dr_fail(v->err, DR_ENOMEM, "out of memory for the answer");
        v->list = list;
        v->room = room;
    }
    v->list[v->n] = (struct kept){ .path = dr_strdup(DR_TAG_BASE, path), .st = *st };
    if (!v->list[v->n].path)
        return dr_fail(v->err, DR_ENOMEM, "out of memory for the answer");
    v->n++;
    return 0;
}

/* Used last first. */
static int by_use(const void *a, const void *b)
{
    const struct timespec *x = &((const struct kept *)a)->st.st_mtim;
    const struct timespec *y = &((const struct kept *)b)->st.st_mtim;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? 1 : -1;
    return x->tv_nsec < y->tv_nsec ? 1 : x->tv_nsec > y->tv_nsec ? -1 : 0;
}

/* Removes those used longest ago until the rest takes at most `most` bytes. */
static int shrink(struct inventory *v, uint64_t most, struct dr_error *err)
{
    uint64_t bytes = 0;
    int r = 0;
    for (size_t i = 0; i < v->n; i++)
        bytes += (uint64_t)v->list[i].st.st_size;
    for (size_t i = v->n; !r && i-- > 0 && bytes > most;) {
        r = pack_remove(v->list[i].path, &v->list[i].st, err);
        v->list[i].removed = !r && !dr_is_file(v->list[i].path);
        bytes -= v->list[i].removed ? (uint64_t)v->list[i].st.st_size : 0;
    }
    return r;
}

/* Its name is DIGEST-SET-LAYOUT-CONTENTS.weights. */
static json_t *kept_json(const struct kept *k)
{
    const char *name = dr_path_base(k->path), *set = strchr(name, '-') + 1;
    const char *end = strrchr(name, '-');
    while (end > set && *--end != '-')
        ;
    char used[40];
    dr_timestamp_of(k->st.st_mtim.tv_sec, used, sizeof used);
    return json_pack("{s:o,s:I,s:s%,s:s%,s:s,s:b}", "path", path_text_json(k->path), "bytes",
                     (json_int_t)k->st.st_size, "model", name, (size_t)(set - 1 - name), "kernels",
                     set, (size_t)(end - set), "last_used", used, "removed", k->removed);
}

static json_t *inventory_json(const struct engine *e, const struct inventory *v)
{
    json_t *packs = json_array();
    json_int_t bytes = 0;
    for (size_t i = 0; packs && i < v->n; i++) {
        bytes += v->list[i].removed ? 0 : (json_int_t)v->list[i].st.st_size;
        if (jx_add(packs, kept_json(&v->list[i])) < 0) {
            json_decref(packs);
            return NULL;
        }
    }
    return json_pack("{s:o,s:I,s:I,s:o}", "folder", path_text_json(e->store.folder), "bytes", bytes,
                     "limit_bytes", (json_int_t)e->store.limit, "packs", packs);
}

int engine_cache(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { "keep_bytes", NULL };
    struct engine *e = engine;
    struct inventory v = { .err = err };
    int64_t keep = -1;
    int r = message_only(job->data, keys, err);
    if (!r)
        r = jx_opt_int(job->data, "data", "keep_bytes", 0, INT64_MAX, &keep, err);
    if (!r)
        r = pack_store_each(&e->store, take_stock, &v, err);
    if (!r && v.n)
        qsort(v.list, v.n, sizeof *v.list, by_use);
    if (!r && keep >= 0)
        r = shrink(&v, (uint64_t)keep, err);
    if (!r)
        *ret_data = inventory_json(e, &v);
    if (!r && !*ret_data)
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    for (size_t i = 0; i < v.n; i++)
        dr_free(v.list[i].path);
    dr_free(v.list);
    return r;
}
