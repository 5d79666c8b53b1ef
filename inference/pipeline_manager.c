/* pipeline_manager.c - see pipeline_manager.h. */
#include "inference/pipeline_manager.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

struct pipeline_manager {
    struct managed {
        struct pipeline *p; /* a reference */
        char *path;
    } model[PIPELINES_MOST]; /* used last first */
    int n;
};

int pipeline_manager_new(struct pipeline_manager **ret, struct dr_error *err)
{
    struct pipeline_manager *m = dr_calloc(DR_TAG_MODEL, 1, sizeof *m);
    if (!m)
        return dr_fail(err, DR_ENOMEM, "out of memory for the pipeline manager");
    *ret = m;
    return 0;
}

static void drop(struct pipeline_manager *m, int i)
{
    pipeline_unref(m->model[i].p);
    dr_free(m->model[i].path);
    m->n--;
    memmove(&m->model[i], &m->model[i + 1], (size_t)(m->n - i) * sizeof m->model[0]);
}

void pipeline_manager_clear(struct pipeline_manager *m)
{
    while (m->n)
        drop(m, m->n - 1);
}

void pipeline_manager_forget(struct pipeline_manager *m, struct pipeline *p)
{
    for (int i = m->n - 1; i >= 0; i--)
        if (m->model[i].p == p)
            drop(m, i);
}

void pipeline_manager_free(struct pipeline_manager *m)
{
    if (!m)
        return;
    pipeline_manager_clear(m);
    dr_free(m);
}

static bool is_idle(const struct pipeline_manager *m, int i, const struct pipeline *kept)
{
    return m->model[i].p != kept && m->model[i].p->refs == 1;
}

size_t pipeline_manager_idle(const struct pipeline_manager *m, const struct pipeline *kept,
                             size_t *ret_private)
{
    size_t bytes = 0, own = 0;
    for (int i = 0; i < m->n; i++) {
        bool idle = is_idle(m, i, kept);
        bytes += idle ? pipeline_bytes(m->model[i].p) : 0;
        own += idle ? pipeline_private_bytes(m->model[i].p) : 0;
    }
    if (ret_private)
        *ret_private = own;
    return bytes;
}

size_t pipeline_manager_busy(const struct pipeline_manager *m, const struct pipeline *kept)
{
    size_t bytes = 0;
    for (int i = 0; i < m->n; i++)
        if (m->model[i].p != kept && m->model[i].p->refs > 1)
            bytes += pipeline_bytes(m->model[i].p);
    return bytes;
}

static void log_unloaded(const struct managed *model)
{
    struct dr_log_fields f = { .n = 0 };
    dr_log_text(&f, "path", model->path);
    dr_log_int(&f, "bytes", (int64_t)pipeline_bytes(model->p));
    dr_log_event(DR_LOG_INFO, "engine", &f, "model unloaded");
}

void pipeline_manager_trim(struct pipeline_manager *m, const struct pipeline *kept, size_t bytes)
{
    for (int i = m->n - 1; i >= 0 && pipeline_manager_idle(m, kept, NULL) > bytes; i--) {
        if (!is_idle(m, i, kept))
            continue;
        log_unloaded(&m->model[i]);
        drop(m, i);
    }
}

/* Whether its path still leads to the files that it reads, and they are as they were. */
static bool is_current(const struct pipeline *p)
{
    return checkpoint_current(p->checkpoint) && !pipeline_check(p, NULL);
}

/* The first that was opened at that path and is what the path leads to now; any backend if be is
 * NULL. -1: none. */
static int find(const struct pipeline_manager *m, const char *path, const struct backend *be)
{
    for (int i = 0; i < m->n; i++) {
        const struct managed *model = &m->model[i];
        if (!strcmp(model->path, path) && (!be || model->p->backend == be) && is_current(model->p))
            return i;
    }
    return -1;
}

/* Models whose files have changed will not be found again. */
static void drop_outdated(struct pipeline_manager *m, const char *path)
{
    for (int i = m->n - 1; i >= 0; i--)
        if (!strcmp(m->model[i].path, path) && !is_current(m->model[i].p))
            drop(m, i);
}

int pipeline_manager_quantised(const struct pipeline_manager *m, const struct model_root *root,
                               const char *path, const atomic_int *stop, bool *ret,
                               struct dr_error *err)
{
    struct checkpoint *c;
    int i = find(m, path, NULL);
    if (i >= 0) {
        *ret = checkpoint_quantised(m->model[i].p->checkpoint);
        return 0;
    }
    int r = checkpoint_open_in(root, path, stop, &c, err);
    if (r < 0)
        return r;
    *ret = checkpoint_quantised(c);
    checkpoint_close(c);
    return 0;
}

/* The idle one not used for longest, else the one not used for longest. */
static int least_needed(const struct pipeline_manager *m)
{
    for (int i = m->n - 1; i >= 0; i--)
        if (is_idle(m, i, NULL))
            return i;
    return m->n - 1;
}

/* Opens it and puts it first, which there is room for. */
static int open_first(struct pipeline_manager *m, const char *path, struct backend *be,
                      const struct pipeline_options *options, struct dr_error *err)
{
    struct managed model = { .path = dr_strdup(DR_TAG_MODEL, path) };
    double began = dr_now();
    int r = model.path ? pipeline_open(path, be, options, &model.p, err)
                       : dr_fail(err, DR_ENOMEM, "out of memory for a path");
    if (r < 0) {
        dr_free(model.path);
        return r;
    }
    struct dr_log_fields f = { .n = 0 };
    dr_log_text(&f, "path", path);
    dr_log_real(&f, "seconds", dr_now() - began);
    dr_log_text(&f, "kind", checkpoint_kind(model.p->checkpoint));
    dr_log_event(DR_LOG_INFO, "engine", &f, "model opened");
    memmove(&m->model[1], &m->model[0], (size_t)m->n * sizeof m->model[0]);
    m->model[0] = model;
    m->n++;
    return 0;
}

int pipeline_manager_get(struct pipeline_manager *m, const char *path, struct backend *be,
                         const struct pipeline_options *options, struct pipeline **ret,
                         struct dr_error *err)
{
    drop_outdated(m, path);
    int i = find(m, path, be);
    if (i < 0) {
        if (m->n == PIPELINES_MOST)
            drop(m, least_needed(m));
        int r = open_first(m, path, be, options, err);
        if (r < 0)
            return r;
    } else {
        struct managed model = m->model[i];
        memmove(&m->model[1], &m->model[0], (size_t)i * sizeof model);
        m->model[0] = model;
    }
    *ret = pipeline_ref(m->model[0].p);
    return 0;
}
