/* device.h - the devices that a program may compute on: which there are, what they can do, opening
 * one.
 *
 * A device is a line of backends.def and a descriptor; code outside its folder reaches it through
 * the functions below and names none. Its kernel sets have names that no other device has, so a set
 * also says which device is meant.
 */
#ifndef DR_BACKEND_DEVICE_H
#define DR_BACKEND_DEVICE_H

#include "backend/backend.h"

struct device_facts {
    char name[96];     /* of this machine's: "AMD EPYC 9554" */
    unsigned features; /* what kernel sets need, as flags */
};

struct kernel_set_facts {
    const struct device_info *device;
    int index; /* on its device */
    const char *name;
    enum precision precision;
    bool usable; /* on this machine */
    int family;  /* of its matrix instruction, for peaks; -1: unknown */
};

/* The most that a device does now with a family of instructions, for saying which fraction of it a
 * kernel reached. All zero where it cannot be measured. */
struct device_peak {
    double flops;        /* FLOP/s of all units together (int8: OP/s) */
    double hz;           /* clock, mean over the units */
    double instructions; /* a cycle and unit */
    double per_cycle;    /* FLOPs a cycle and unit */
};

/* How a set computes an op, for the checker. */
struct kernel_facts {
    const void *identity;                  /* the same for the same kernel */
    double tolerance, activated_tolerance; /* where the op's own is too tight; 0: not */
    bool int8;                             /* rounds its source as ops/int8.h says */
};

struct device_info {
    const char *name;
    /* Whether this process can use it, and what it is. */
    bool (*probe)(struct device_facts *ret);
    /* Its i-th kernel set, worst first; false past the end. `device` and `index` are set after. */
    bool (*kernel_set)(int i, struct kernel_set_facts *ret);
    /* op: an enum op_kind; desc: of its weight; exact: as opened for float32. */
    struct kernel_facts (*kernel)(int set, int op, const struct weight_desc *desc, bool exact);
    /* options->kernels NULL or "auto": its best set. DR_EINVAL lists the known ones. */
    int (*open)(const struct backend_options *options, struct backend **ret, struct dr_error *err);
    /* Families of matrix instructions, in a fixed order; NULL past the end. May be NULL both. */
    const char *(*family)(int i);
    struct device_peak (*peak)(struct backend *be, int family);
    /* DR_EINTERNAL that names a descriptor and what it lacks. May be NULL. */
    int (*check)(struct dr_error *err);
};

/* NULL past the end. */
const struct device_info *device_at(int i);
/* What "auto" means: the last one that this process can use. */
const struct device_info *device_best(struct device_facts *ret);
/* One more device, for tests; kept. Never what "auto" means; twice is once. */
void device_add(const struct device_info *device);

/* The kernel sets of all devices, one after another; false past the end. */
bool kernel_set_facts(int i, struct kernel_set_facts *ret);

/* Opens the set of that name on the device that has it; NULL or "auto": the best set of the best
 * device. */
int backend_open(const struct backend_options *options, struct backend **ret, struct dr_error *err);

/* The family of the backend's own kernel set, -1: unknown; the names of all its device's families,
 * NULL past the end; a peak, measured in about 0.1 s. */
int backend_family(const struct backend *be);
const char *backend_family_name(const struct backend *be, int family);
struct device_peak backend_peak(struct backend *be, int family);

/* Whether every device, op and kernel has what it must have: DR_EINTERNAL names what is missing. */
int device_tables_check(struct dr_error *err);

#endif
