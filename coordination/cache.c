/* cache.c - the packed weights that are kept: what there is, and whether it is whole. */
#include "coordination/engine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend/pack.h"
#include "base/fs.h"

struct census {
    json_int_t bytes, files;
};

static int count(void *ctx, const char *path, const struct stat *st)
{
    struct census *c = ctx;
    (void)path;
    c->bytes += (json_int_t)st->st_size;
    c->files++;
    return 0;
}

json_t *engine_cache_json(const struct engine *e)
{
    struct census c = { 0, 0 };
    pack_store_each(&e->store, count, &c, NULL); /* a folder that cannot be read shows nothing */
    return json_pack("{s:s,s:I,s:I,s:I}", "folder", e->store.folder, "files", c.files, "bytes",
                     c.bytes, "limit_bytes", (json_int_t)e->store.limit);
}

struct verifying {
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
    struct verifying *v = ctx;
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
    json_t *one = json_pack("{s:s,s:I,s:s%,s:s%,s:b,s:b,s:s}", "path", path, "bytes",
                            (json_int_t)st->st_size, "model", of, (size_t)model, "kernels", set,
                            (size_t)kernels, "passed", !r, "removed", removed, "why",
                            r ? found.text : "");
    return jx_add(v->list, one) < 0 ? dr_fail(v->err, DR_ENOMEM, "out of memory for the answer")
                                    : 0;
}

int engine_check_cache(struct engine *e, struct worker_job *job, json_t **ret_data,
                       struct dr_error *err)
{
    struct verifying v = { .job = job, .list = json_array(), .err = err };
    if (!v.list)
        return dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    int r = pack_store_each(&e->store, verify, &v, err);
    if (r < 0) {
        json_decref(v.list);
        return r;
    }
    *ret_data = json_pack("{s:s,s:o,s:i}", "folder", e->store.folder, "cache", v.list, "failed",
                          v.failed);
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}
