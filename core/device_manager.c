/* device_manager.c - see device_manager.h. */
#include "core/device_manager.h"

#include <stdio.h>
#include <string.h>

#include "backend/device.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/system.h"
#include "core/kernel_choice.h"

enum { SETS = 16 };

struct device_manager {
    const struct device_info *device; /* what "auto" means */
    struct device_facts facts;        /* of it */
    int threads;                      /* as asked */
    char configured[KERNEL_NAME_MAX]; /* which set "auto" is; "": the machine decides */
    struct backend *best;             /* what auto means; one of open */
    struct backend *open[SETS];       /* each set and precision once */
    int n_open;
};

/* What "auto" means in that precision. */
static void choose(const struct device_manager *m, enum precision precision,
                   char ret_set[KERNEL_NAME_MAX])
{
    char cache[DR_PATH_MAX];
    bool placed = !dr_cache_path(cache, sizeof cache, "kernels", NULL);
    kernel_choice_make(&(struct kernel_choice){ .cache = placed ? cache : NULL,
                                                .device = m->device,
                                                .facts = &m->facts,
                                                .precision = precision,
                                                .threads = m->threads },
                       ret_set);
}

/* The precision of a set of that name; AUTO for an unknown one. */
static enum precision precision_of(const char *set)
{
    const char *name;
    for (int i = 0; (name = backend_kernel_set_name(i, NULL)); i++)
        if (!strcmp(name, set))
            return backend_kernel_set_precision(i);
    return PRECISION_AUTO;
}

/* The set that a request means; NULL: the machine decides. "auto" is the configured set; for
 * precision f32, if that set rounds, it is the best float32 set. */
static const char *named(const struct device_manager *m, const char *kernels,
                         enum precision precision)
{
    if (strcmp(kernels, "auto"))
        return kernels;
    if (*m->configured &&
        (precision != PRECISION_F32 || precision_of(m->configured) == PRECISION_F32))
        return m->configured;
    return NULL;
}

/* An open backend that computes the same as that set in that precision. */
static bool is_same(const struct backend *be, const char *set, enum precision precision)
{
    enum precision own = precision_of(set);
    if (own == PRECISION_F32 && precision != PRECISION_F32)
        own = PRECISION_AUTO;
    return !strcmp(backend_kernel_set(be), set) && backend_precision(be) == own;
}

static int open_set(struct device_manager *m, const char *set, enum precision precision,
                    struct backend **ret, struct dr_error *err)
{
    struct backend_options options = { .kernels = set,
                                       .threads = m->threads,
                                       .precision = precision };
    if (m->n_open == SETS)
        return dr_fail(err, DR_ELIMIT, "too many backends are open");
    int r = backend_open(&options, ret, err);
    if (!r)
        m->open[m->n_open++] = *ret;
    return r;
}

static void append(char *dst, size_t n, const char *name)
{
    size_t used = strlen(dst);
    snprintf(dst + used, n - used, "%s%s", *dst ? ", " : "", name);
}

/* Fails for a set or precision that the processor lacks; the backend handles unknown names. */
static int check_machine(const char *kernels, enum precision precision, struct dr_error *err)
{
    char sets[200] = "auto", precisions[80] = "auto";
    bool usable, lacks_set = false, lacks_precision = precision != PRECISION_AUTO;
    bool listed[PRECISION_COUNT] = { false };
    const char *name;
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        enum precision p = backend_kernel_set_precision(i);
        lacks_set |= !usable && !strcmp(name, kernels);
        if (!usable)
            continue;
        append(sets, sizeof sets, name);
        lacks_precision &= p != precision;
        if (!listed[p])
            append(precisions, sizeof precisions, precision_name(p));
        listed[p] = true;
    }
    if (lacks_set)
        return dr_fail_field(err, DR_EINVAL, "kernels", kernels, sets,
                             "leave kernels and precision out, or use a processor that has them");
    return !lacks_precision ? 0
                            : dr_fail_field(err, DR_EINVAL, "precision", precision_name(precision),
                                            precisions, "what this processor has kernels for");
}

int device_manager_new(const char *kernels, int threads, struct device_manager **ret,
                       struct dr_error *err)
{
    struct device_manager *m = dr_calloc(DR_TAG_BASE, 1, sizeof *m);
    if (!m)
        return dr_fail(err, DR_ENOMEM, "out of memory for the device manager");
    m->threads = threads;
    m->device = device_best(&m->facts);
    if (kernels && strcmp(kernels, "auto"))
        snprintf(m->configured, sizeof m->configured, "%s", kernels);
    int r = check_machine(m->configured, PRECISION_AUTO, err);
    if (!r)
        r = device_manager_backend(m, "auto", PRECISION_AUTO, &m->best, err);
    if (r < 0) {
        device_manager_free(m);
        return r;
    }
    *ret = m;
    return 0;
}

void device_manager_free(struct device_manager *m)
{
    if (!m)
        return;
    for (int i = 0; i < m->n_open; i++)
        backend_close(m->open[i]);
    dr_free(m);
}

int device_manager_backend(struct device_manager *m, const char *kernels, enum precision precision,
                           struct backend **ret, struct dr_error *err)
{
    char set[KERNEL_NAME_MAX];
    int r = check_machine(kernels, precision, err);
    if (r < 0)
        return r;
    if (!strcmp(kernels, "auto") && precision == PRECISION_AUTO && m->best) {
        *ret = m->best;
        return 0;
    }
    const char *name = named(m, kernels, precision);
    if (name)
        snprintf(set, sizeof set, "%s", name);
    else
        choose(m, precision, set);
    bool fits = precision == PRECISION_AUTO || precision_of(set) == precision;
    for (int i = 0; fits && i < m->n_open; i++) {
        if (is_same(m->open[i], set, precision)) {
            *ret = m->open[i];
            return 0;
        }
    }
    return open_set(m, set, precision, ret, err);
}

int device_manager_check(struct device_manager *m, const char *kernels, enum precision precision,
                         struct dr_error *err)
{
    struct backend *be;
    if (named(m, kernels, precision))
        return device_manager_backend(m, kernels, precision, &be, err);
    return check_machine(kernels, precision, err);
}

const char *device_manager_int8_set(const struct device_manager *m, const char *kernels)
{
    const char *set = strcmp(kernels, "auto") ? kernels : m->configured;
    return precision_of(set) == PRECISION_INT8 ? set : NULL;
}

bool device_manager_computes(const struct device_manager *m, enum precision precision)
{
    bool usable;
    if (*m->configured)
        return backend_precision(m->best) == precision;
    for (int i = 0; backend_kernel_set_name(i, &usable); i++)
        if (usable && backend_kernel_set_precision(i) == precision)
            return true;
    return false;
}

static json_t *sets_json(const struct device_info *device)
{
    json_t *list = json_array();
    struct kernel_set_facts set;
    for (int i = 0; list && kernel_set_facts(i, &set); i++) {
        if (set.device != device)
            continue;
        if (jx_add(list, json_pack("{s:s,s:b,s:s}", "name", set.name, "usable", set.usable,
                                   "precision", precision_name(set.precision))) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* The device that computes. */
static json_t *own_json(const struct device_manager *m)
{
    struct system_memory memory;
    system_memory("", &memory);
    const struct system_bound *least = system_memory_least(&memory);
    json_t *sets = sets_json(m->device);
    if (!sets)
        return NULL;
    return json_pack("{s:s,s:s,s:i,s:I,s:I,s:{s:I,s:s},s:s,s:i,s:o}", "name", m->facts.name, "kind",
                     m->device->name, "threads", backend_threads(m->best), "memory_bytes",
                     (json_int_t)memory.machine.limit, "available_bytes", (json_int_t)least->left,
                     "limit", "bytes", (json_int_t)least->limit, "source", least->source,
                     "default_kernels", backend_kernel_set(m->best), "layout",
                     backend_layout_version(m->best), "kernel_sets", sets);
}

/* Another one, which a request reaches by the name of one of its kernel sets. */
static json_t *other_json(const struct device_info *device, const struct device_facts *facts)
{
    json_t *sets = sets_json(device);
    return sets ? json_pack("{s:s,s:s,s:o}", "name", facts->name, "kind", device->name,
                            "kernel_sets", sets)
                : NULL;
}

json_t *device_manager_json(const struct device_manager *m)
{
    const struct device_info *device;
    struct device_facts facts;
    json_t *list = json_array();
    int r = list ? jx_add(list, own_json(m)) : DR_ENOMEM;
    for (int i = 0; !r && (device = device_at(i)); i++)
        if (device != m->device && device->probe(&facts))
            r = jx_add(list, other_json(device, &facts));
    if (r) {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:o}", "devices", list);
}
