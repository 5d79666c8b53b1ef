/* device.c - see device.h: the table of backends.def. */
#include "backend/device.h"

#include <string.h>

#include "backend/ops/op.h"
#include "backend/vtable.h"
#include "base/members.h"

#define X(name) extern const struct device_info device_##name;
#include "backend/backends.def"
#undef X

static const struct device_info *const devices[] = {
#define X(name) &device_##name,
#include "backend/backends.def"
#undef X
};

static const char *const lines[] = {
#define X(name) #name,
#include "backend/backends.def"
#undef X
};

enum { DEVICES = sizeof devices / sizeof *devices, ADDED_MAX = 4 };
static const struct device_info *added[ADDED_MAX];
static int n_added;

void device_add(const struct device_info *device)
{
    for (int i = 0; i < n_added; i++)
        if (added[i] == device)
            return;
    if (n_added < ADDED_MAX)
        added[n_added++] = device;
}

const struct device_info *device_at(int i)
{
    if (i < 0 || i >= DEVICES + n_added)
        return NULL;
    return i < DEVICES ? devices[i] : added[i - DEVICES];
}

const struct device_info *device_best(struct device_facts *ret)
{
    int i = DEVICES - 1;
    while (i > 0 && !devices[i]->probe(ret))
        i--;
    if (!i)
        devices[0]->probe(ret);
    return devices[i];
}

bool kernel_set_facts(int i, struct kernel_set_facts *ret)
{
    const struct device_info *device;
    int first = 0;
    for (int d = 0; i >= 0 && (device = device_at(d)); d++) {
        int n = 0;
        while (device->kernel_set(n, ret)) {
            ret->device = device;
            ret->index = n;
            if (first + n++ == i)
                return true;
        }
        first += n;
    }
    return false;
}

const char *backend_kernel_set_name(int i, bool *ret_usable)
{
    struct kernel_set_facts set;
    if (!kernel_set_facts(i, &set))
        return NULL;
    if (ret_usable)
        *ret_usable = set.usable;
    return set.name;
}

enum precision backend_kernel_set_precision(int i)
{
    struct kernel_set_facts set;
    return kernel_set_facts(i, &set) ? set.precision : PRECISION_AUTO;
}

int backend_open(const struct backend_options *options, struct backend **ret, struct dr_error *err)
{
    static const struct backend_options defaults = { .kernels = NULL };
    struct device_facts facts;
    struct kernel_set_facts set;
    const struct device_info *device = device_best(&facts);
    if (!options)
        options = &defaults;
    for (int i = 0; options->kernels && kernel_set_facts(i, &set); i++)
        if (!strcmp(set.name, options->kernels))
            device = set.device;
    int r = device->open(options, ret, err);
    if (!r)
        (*ret)->device = device;
    return r;
}

/* ---- peaks ---- */

int backend_family(const struct backend *be)
{
    struct kernel_set_facts set;
    for (int i = 0; kernel_set_facts(i, &set); i++)
        if (set.device == be->device && !strcmp(set.name, be->set))
            return set.family;
    return -1;
}

const char *backend_family_name(const struct backend *be, int family)
{
    return be->device->family ? be->device->family(family) : NULL;
}

struct device_peak backend_peak(struct backend *be, int family)
{
    struct device_peak none = { 0 };
    return be->device->peak ? be->device->peak(be->inner ? be->inner : be, family) : none;
}

/* ---- the tables ---- */

static int device_check(const struct device_info *device, const char *line, struct dr_error *err)
{
    const struct dr_member members[] = {
        { "probe", device->probe != NULL },
        { "kernel_set", device->kernel_set != NULL },
        { "kernel", device->kernel != NULL },
        { "open", device->open != NULL },
    };
    int r = dr_members_check_name("device", line, device->name, err);
    if (!r)
        r = dr_members_check("device", line, members, sizeof members / sizeof *members, err);
    return r || !device->check ? r : device->check(err);
}

int device_tables_check(struct dr_error *err)
{
    int r = op_tables_check(err);
    for (int i = 0; !r && i < DEVICES; i++)
        r = device_check(devices[i], lines[i], err);
    return r;
}
