/* pipeline_manager.c - see pipeline_manager.h. */
#include "inference/pipeline_manager.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

struct pipeline_manager {
    struct pipeline *model[PIPELINES_MOST]; /* references, used last first */
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
    pipeline_unref(m->model[i]);
    m->n--;
    memmove(&m->model[i], &m->model[i + 1], (size_t)(m->n - i) * sizeof m->model[0]);
}

void pipeline_manager_clear(struct pipeline_manager *m)
{
    while (m->n)
        drop(m, m->n - 1);
    dr_alloc_keep(0);
}

void pipeline_manager_forget(struct pipeline_manager *m, struct pipeline *p)
{
    for (int i = m->n - 1; i >= 0; i--)
        if (m->model[i] == p)
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
    return m->model[i] != kept && m->model[i]->refs == 1;
}

size_t pipeline_manager_idle(const struct pipeline_manager *m, const struct pipeline *kept,
                             size_t *ret_private)
{
    size_t bytes = 0, own = 0;
    for (int i = 0; i < m->n; i++) {
        bool idle = is_idle(m, i, kept);
        bytes += idle ? pipeline_bytes(m->model[i]) : 0;
        own += idle ? pipeline_private_bytes(m->model[i]) : 0;
    }
    if (ret_private)
        *ret_private = own;
    return bytes;
}

size_t pipeline_manager_busy(const struct pipeline_manager *m, const struct pipeline *kept)
{
    size_t bytes = 0;
    for (int i = 0; i < m->n; i++)
        if (m->model[i] != kept && m->model[i]->refs > 1)
            bytes += pipeline_bytes(m->model[i]);
    return bytes;
}

static void log_unloaded(const struct pipeline *p)
{
    struct dr_log_fields f = { .n = 0 };
    dr_log_text(&f, "path", checkpoint_path(p->checkpoint));
    dr_log_int(&f, "bytes", (int64_t)pipeline_bytes(p));
    dr_log_event(DR_LOG_INFO, "engine", &f, "model unloaded");
}

void pipeline_manager_trim(struct pipeline_manager *m, const struct pipeline *kept, size_t bytes)
{
    for (int i = m->n - 1; i >= 0 && pipeline_manager_idle(m, kept, NULL) > bytes; i--) {
        if (!is_idle(m, i, kept))
            continue;
        log_unloaded(m->model[i]);
        drop(m, i);
    }
}

/* Whether its path still leads to the files that it reads, and they are as they were. */
static bool is_current(const struct pipeline *p)
{
    return checkpoint_current(p->checkpoint) && !pipeline_check(p, NULL);
}

static bool is_at(const struct pipeline *p, const struct model_spec *spec)
{
    return checkpoint_is_at(p->checkpoint, spec);
}

/* The first that was opened at those paths and is what they lead to now; any backend if be is NULL.
 * -1: none. */
static int find(const struct pipeline_manager *m, const struct model_spec *spec,
                const struct backend *be)
{
    for (int i = 0; i < m->n; i++) {
        const struct pipeline *p = m->model[i];
        if (is_at(p, spec) && (!be || p->backend == be) && is_current(p))
            return i;
    }
    return -1;
}

/* Models whose files have changed will not be found again. */
static void drop_outdated(struct pipeline_manager *m, const struct model_spec *spec)
{
    for (int i = m->n - 1; i >= 0; i--)
        if (is_at(m->model[i], spec) && !is_current(m->model[i]))
            drop(m, i);
}

int pipeline_manager_weights(const struct pipeline_manager *m, const struct model_spec *spec,
                             const atomic_int *stop, enum checkpoint_weights *ret,
                             struct dr_error *err)
{
    struct checkpoint *c;
    int i = find(m, spec, NULL);
    if (i >= 0) {
        *ret = checkpoint_weights(m->model[i]->checkpoint);
        return 0;
    }
    int r = checkpoint_open_spec(spec, stop, &c, err);
    if (r < 0)
        return r;
    *ret = checkpoint_weights(c);
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
static int open_first(struct pipeline_manager *m, const struct model_spec *spec, struct backend *be,
                      const struct pipeline_options *options, struct dr_error *err)
{
    struct pipeline *p;
    double began = dr_now();
    int r = pipeline_open_spec(spec, be, options, &p, err);
    if (r < 0)
        return r;
    struct dr_log_fields f = { .n = 0 };
    dr_log_text(&f, "path", spec->model.path);
    dr_log_real(&f, "seconds", dr_now() - began);
    dr_log_text(&f, "kind", checkpoint_kind(p->checkpoint));
    dr_log_event(DR_LOG_INFO, "engine", &f, "model opened");
    memmove(&m->model[1], &m->model[0], (size_t)m->n * sizeof m->model[0]);
    m->model[0] = p;
    m->n++;
    return 0;
}

int pipeline_manager_get(struct pipeline_manager *m, const struct model_spec *spec,
                         struct backend *be, const struct pipeline_options *options,
                         struct pipeline **ret, struct dr_error *err)
{
    drop_outdated(m, spec);
    int i = find(m, spec, be);
    if (i < 0) {
        if (m->n == PIPELINES_MOST)
            drop(m, least_needed(m));
        int r = open_first(m, spec, be, options, err);
        if (r < 0)
            return r;
    } else {
        struct pipeline *p = m->model[i];
        memmove(&m->model[1], &m->model[0], (size_t)i * sizeof m->model[0]);
        m->model[0] = p;
    }
    *ret = pipeline_ref(m->model[0]);
    return 0;
}
