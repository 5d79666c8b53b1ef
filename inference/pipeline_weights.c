/* pipeline_weights.c - see pipeline_weights.h.
 *
 * A pack is named after what fixes its bytes: the model's digest, the kernel set, the layout's
 * version, and the list of its blobs. So there is nothing to keep in step: another model, set or
 * version is another file, and the store forgets those that nobody asks for.
 */
#include "inference/pipeline_weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "backend/cache/pack.h"
#include "base/clock.h"
#include "base/log.h"
#include "models/digest.h"

struct making {
    struct pipeline *p;
    const struct pipeline_options *options;
    struct params_bytes sum;
    char key[PACK_KEY], path[DR_PATH_MAX];
    uint64_t made; /* bytes of sum.bytes */
};

static void tell(const struct pipeline_options *o, const char *what, double fraction)
{
    if (o->progress)
        o->progress(o->ctx, what, fraction);
}

static void on_hashed(void *ctx, uint64_t done, uint64_t total)
{
    const struct pipeline_options *options = ctx;
    tell(options, "hashing", total ? (double)done / (double)total : 1);
}

static void on_packed(void *ctx, size_t bytes)
{
    struct making *m = ctx;
    m->made += bytes;
    if (m->sum.packed)
        tell(m->options, "packing", (double)m->made / (double)m->sum.bytes);
}

static void on_verified(void *ctx, uint64_t done, uint64_t total)
{
    const struct making *m = ctx;
    tell(m->options, "verifying", total ? (double)done / (double)total : 1);
}

static void unprepare(const struct pipeline *p)
{
    for (int i = 0; i < p->n_networks; i++)
        params_unprepare(p->networks[i].network, p->networks[i].visit);
}

/* All networks, from a finished pack, into a new one or, without one, into private memory. */
static int prepare(struct making *m, struct pack *pack, struct dr_error *err)
{
    struct pipeline *p = m->p;
    bool makes = !pack || pack_building(pack);
    int r = 0;
    m->made = 0;
    for (int i = 0; !r && i < p->n_networks; i++) {
        struct params_packing how = { .pack = pack,
                                      .prefix = component_name(p->networks[i].component),
                                      .stop = m->options->stop,
                                      .made = makes ? on_packed : NULL,
                                      .ctx = m };
        r = params_prepare_in(p->networks[i].network, p->networks[i].visit, p->backend, &how, err);
    }
    if (r)
        unprepare(p);
    return r;
}

/* What the names of all packs of such networks end with, whatever the model. */
static void name_end(const struct making *m, char *dst, size_t n)
{
    snprintf(dst, n, "%s-%d-%016" PRIx64, backend_kernel_set(m->p->backend),
             backend_layout_version(m->p->backend), m->sum.contents);
}

int pipeline_digest(struct pipeline *p, const struct pipeline_options *options,
                    struct dr_error *err)
{
    struct pipeline_options how = *options;
    struct digest_options digest = { .stop = how.stop, .progress = on_hashed, .ctx = &how };
    const char *path = checkpoint_path(p->checkpoint);
    int r = p->digest[0] ? 0 : checkpoint_digest(p->checkpoint, &digest, p->digest, err);
    if (!r && !checkpoint_current(p->checkpoint))
        r = dr_fail(err, DR_EIO, "%s: was changed while it was opened", path);
    if (r)
        p->digest[0] = '\0';
    return r;
}

static int name_pack(struct making *m, struct dr_error *err)
{
    char name[200], end[150];
    struct pipeline *p = m->p;
    const char *set = backend_kernel_set(p->backend);
    int r = pipeline_digest(p, m->options, err);
    if (r)
        return r;
    snprintf(m->key, sizeof m->key,
             "model %s\nkernels %s\nlayout %d\nblobs %" PRIu64 "\nbytes %" PRIu64
             "\ncontents %016" PRIx64 "\n",
             p->digest, set, backend_layout_version(p->backend), m->sum.blobs, m->sum.bytes,
             m->sum.contents);
    name_end(m, end, sizeof end);
    snprintf(name, sizeof name, "%.16s-%s", p->digest, end);
    return pack_store_path(m->options->store, name, m->path, sizeof m->path, err);
}

static void log_made(const struct making *m, double began, const char *path, const char *what)
{
    struct dr_log_fields f = { .n = 0 };
    dr_log_text(&f, "path", path);
    dr_log_real(&f, "seconds", dr_now() - began);
    dr_log_int(&f, "bytes", (int64_t)m->sum.bytes);
    dr_log_text(&f, "kernels", backend_kernel_set(m->p->backend));
    dr_log_event(DR_LOG_INFO, "engine", &f, "%s", what);
}

/* The pack of an earlier start. DR_ENOENT: there is none that will do. */
static int verify(struct making *m, struct dr_error *err)
{
    struct pack_verifying how = { .threads = backend_threads(m->p->backend),
                                  .stop = m->options->stop,
                                  .progress = on_verified,
                                  .ctx = m };
    return pack_verify_mapped(m->p->pack, &how, err);
}

/* A pack that is there and damaged goes, but not one that another process made since. */
static void discard(struct making *m, const struct stat *seen, int r, const struct dr_error *why)
{
    struct pipeline *p = m->p;
    if (r != DR_EFORMAT && r != DR_EIO)
        return;
    snprintf(p->news, sizeof p->news, "rebuilding packed weights: %.300s", why->text);
    dr_log_line(DR_LOG_WARN, "engine", "%s", p->news);
    if (r == DR_EFORMAT && seen->st_ino)
        pack_remove(m->path, seen, NULL);
}

/* The pack of an earlier start, verified. DR_ENOENT: there is none that will do. */
static int use_pack(struct making *m, struct dr_error *err)
{
    struct dr_error found = { 0 };
    struct pipeline *p = m->p;
    struct stat seen = { .st_ino = 0 };
    double began = dr_now();
    pack_store_sweep(m->options->store);
    if (stat(m->path, &seen))
        seen.st_ino = 0;
    int r = pack_open(m->path, m->key, &p->pack, &found);
    if (!r)
        r = verify(m, &found);
    if (!r)
        r = prepare(m, p->pack, &found);
    if (!r)
        log_made(m, began, m->path, "packed weights opened");
    if (!r)
        return 0;
    pack_close(p->pack);
    p->pack = NULL;
    if (r == DR_ENOMEM || r == DR_ECANCELED) {
        if (err)
            *err = found;
        return r;
    }
    discard(m, &seen, r, &found);
    return DR_ENOENT;
}

static int make_pack(struct making *m, struct dr_error *err)
{
    struct pipeline *p = m->p;
    struct pack_spec spec = {
        .key = m->key, .blobs = m->sum.blobs, .bytes = m->sum.bytes, .largest = m->sum.largest
    };
    double began = dr_now();
    int r = pack_store_room(m->options->store, pack_file_bytes(&spec), err);
    if (!r)
        r = pack_create(m->path, &spec, &p->pack, err);
    if (!r)
        r = prepare(m, p->pack, err);
    if (!r)
        r = checkpoint_check(p->checkpoint, err);
    if (!r)
        r = pack_finish(p->pack, err);
    if (!r)
        log_made(m, began, m->path, "weights packed");
    if (r) {
        unprepare(p);
        pack_close(p->pack);
        p->pack = NULL;
    }
    return r;
}

/* For planning: there is a pack, or will be if it has room. Whose pack is there is not asked, for
 * that would take the model's digest; who makes the weights plans again. */
static int promise(struct making *m, struct dr_error *err)
{
    struct pipeline *p = m->p;
    const struct pack_store *store = m->options->store;
    struct pack_spec spec = { .blobs = m->sum.blobs, .bytes = m->sum.bytes };
    char end[150];
    name_end(m, end, sizeof end);
    bool kept = store && store->limit &&
                (pack_store_fits(store, pack_file_bytes(&spec)) || pack_store_has(store, end));
    int r = kept ? pack_promise(m->sum.largest, &p->pack, err)
                 : pack_promise_private(m->sum.bytes, &p->pack, err);
    return r ? r : prepare(m, p->pack, err);
}

static int make_ready(struct making *m, struct dr_error *err)
{
    struct pipeline *p = m->p;
    struct dr_error found = { 0 };
    if (!m->options->store || !m->options->store->limit)
        return prepare(m, NULL, err);
    int r = name_pack(m, &found);
    if (!r)
        r = use_pack(m, &found);
    if (r == DR_ENOENT && m->path[0])
        r = make_pack(m, &found);
    if (!r)
        return 0;
    if (r == DR_ENOMEM || r == DR_ECANCELED || !checkpoint_current(p->checkpoint)) {
        if (err)
            *err = found;
        return r;
    }
    /* a warning of the answer; as one of the log, too, people would read it twice */
    snprintf(p->warning, sizeof p->warning, "packed weights are not cached: %.300s", found.text);
    dr_log_line(DR_LOG_INFO, "engine", "%s", p->warning);
    return prepare(m, NULL, err);
}

int pipeline_weights(struct pipeline *p, const struct pipeline_options *options,
                     struct dr_error *err)
{
    struct making m = { .p = p, .options = options };
    int r = 0;
    for (int i = 0; !r && i < p->n_networks; i++)
        r = params_bytes(p->networks[i].network, p->networks[i].visit, p->backend,
                         component_name(p->networks[i].component), &m.sum, err);
    if (r)
        return r;
    if (!m.sum.packed) /* nothing but vectors is made: no work */
        return prepare(&m, NULL, err);
    return options->plan_only ? promise(&m, err) : make_ready(&m, err);
}

void pipeline_weights_drop(struct pipeline *p)
{
    unprepare(p);
    pack_close(p->pack);
    p->pack = NULL;
}
