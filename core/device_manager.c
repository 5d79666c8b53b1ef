/* device_manager.c - see device_manager.h. */
#include "core/device_manager.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "core/kernel_choice.h"

enum { SETS = 16 };

/* A backend and what was asked for when it was opened. */
struct slot {
    char kernels[32];
    enum precision precision;
    struct backend *be;
};

struct device_manager {
    char processor[96];
    int threads;          /* as asked */
    struct backend *best; /* what auto means; one of open */
    struct slot open[SETS];
    int n_open;
    bool told; /* which set auto is */
};

/* "model name" of /proc/cpuinfo. */
static void processor_name(char *dst, size_t n)
{
    char line[256];
    snprintf(dst, n, "x86-64 processor");
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        const char *value = strchr(line, ':');
        if (!value || strncmp(line, "model name", 10))
            continue;
        value += 1 + (value[1] == ' ');
        snprintf(dst, n, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    if (f)
        fclose(f);
}

/* What "auto" means in that precision. */
static void choose(const struct device_manager *m, enum precision precision,
                   char ret_set[KERNEL_NAME_MAX])
{
    char cache[DR_PATH_MAX];
    bool placed = !dr_cache_path(cache, sizeof cache, "kernels", NULL);
    kernel_choice_make(&(struct kernel_choice){ .cache = placed ? cache : NULL,
                                                .processor = m->processor,
                                                .precision = precision,
                                                .threads = m->threads },
                       ret_set);
}

static int open_set(struct device_manager *m, const char *kernels, enum precision precision,
                    struct backend **ret, struct dr_error *err)
{
    char chosen[KERNEL_NAME_MAX];
    struct backend_options options = { .kernels = kernels,
                                       .threads = m->threads,
                                       .precision = precision };
    struct backend *be;
    if (m->n_open == SETS)
        return dr_fail(err, DR_ELIMIT, "too many backends are open");
    if (!kernels || !strcmp(kernels, "auto")) {
        choose(m, precision, chosen);
        options.kernels = chosen;
    }
    int r = backend_open_cpu(&options, &be, err);
    if (r < 0)
        return r;
    struct slot *slot = &m->open[m->n_open++];
    snprintf(slot->kernels, sizeof slot->kernels, "%s", kernels ? kernels : "auto");
    slot->precision = precision;
    slot->be = be;
    *ret = be;
    return 0;
}

int device_manager_new(const char *kernels, int threads, struct device_manager **ret,
                       struct dr_error *err)
{
    struct device_manager *m = dr_calloc(DR_TAG_BASE, 1, sizeof *m);
    if (!m)
        return dr_fail(err, DR_ENOMEM, "out of memory for the device manager");
    m->threads = threads;
    m->told = kernels && strcmp(kernels, "auto");
    processor_name(m->processor, sizeof m->processor);
    int r = open_set(m, kernels, PRECISION_AUTO, &m->best, err);
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
        backend_close(m->open[i].be);
    dr_free(m);
}

int device_manager_backend(struct device_manager *m, const char *kernels, enum precision precision,
                           struct backend **ret, struct dr_error *err)
{
    if (!strcmp(kernels, "auto") && precision == PRECISION_AUTO) {
        *ret = m->best;
        return 0;
    }
    for (int i = 0; i < m->n_open; i++) {
        if (!strcmp(m->open[i].kernels, kernels) && m->open[i].precision == precision) {
            *ret = m->open[i].be;
            return 0;
        }
    }
    return open_set(m, kernels, precision, ret, err);
}

bool device_manager_computes(const struct device_manager *m, enum precision precision)
{
    bool usable;
    if (m->told)
        return backend_precision(m->best) == precision;
    for (int i = 0; backend_kernel_set_name(i, &usable); i++)
        if (usable && backend_kernel_set_precision(i) == precision)
            return true;
    return false;
}

static json_t *sets_json(void)
{
    json_t *list = json_array();
    bool usable;
    const char *name;
    for (int i = 0; list && (name = backend_kernel_set_name(i, &usable)); i++) {
        if (jx_add(list, json_pack("{s:s,s:b}", "name", name, "usable", usable)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *device_manager_json(const struct device_manager *m)
{
    json_int_t memory = (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    json_t *sets = sets_json();
    if (!sets)
        return NULL;
    return json_pack("{s:[{s:s,s:s,s:i,s:I,s:s,s:i,s:o}]}", "devices", "name", m->processor, "kind",
                     "cpu", "threads", backend_threads(m->best), "memory_bytes", memory,
                     "default_kernels", backend_kernel_set(m->best), "layout",
                     backend_layout_version(m->best), "kernel_sets", sets);
}
