/* kernels.c - the table of kernels.def, see there for the rule of the closed choice. */
#include "backend/cpu/kernels.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu/features.h"
#include "backend/cpu/panel.h"

enum set {
#define SET(name, needs, precision, packing) SET_##name,
#include "backend/cpu/kernels.def"
    SET_COUNT
};

static const struct {
    const char *name;
    unsigned needs;
    enum precision precision;
    const struct packing *packing;
} sets[] = {
#define SET(name, needs, precision, packing) { #name, needs, PRECISION_##precision, packing },
#include "backend/cpu/kernels.def"
};

#define KERNEL(op, set) extern const struct kernel cpu_##op##__##set;
#define FAST(op, set) extern const struct kernel cpu_##op##_fast__##set;
#include "backend/cpu/kernels.def"

static const struct kernel *const kernels[SET_COUNT][OP_KIND_COUNT] = {
    [SET_scalar] = { NULL }, /* the references */
#define KERNEL(op, set) [SET_##set][OP_KIND_##op] = &cpu_##op##__##set,
#include "backend/cpu/kernels.def"
};

const char *kernel_set_name(int set)
{
    return set >= 0 && set < SET_COUNT ? sets[set].name : NULL;
}

bool kernel_set_usable(int set)
{
    return set >= 0 && set < SET_COUNT && !(sets[set].needs & ~cpu_features());
}

enum precision kernel_set_precision(int set)
{
    return sets[set].precision;
}

const struct packing *kernel_set_packing(int set)
{
    return sets[set].packing;
}

/* The set may compute with what was asked for. */
static bool fits(int set, enum precision precision)
{
    return precision == PRECISION_AUTO || sets[set].precision == precision;
}

static int find_best(enum precision precision, int *ret_set, struct dr_error *err)
{
    for (int i = SET_COUNT - 1; i >= 0; i--)
        if (kernel_set_usable(i) && fits(i, precision) &&
            (precision == PRECISION_INT8 || sets[i].precision != PRECISION_INT8)) {
            *ret_set = i;
            return 0;
        }
    return dr_fail_field(err, DR_EUNSUPPORTED, "precision", precision_name(precision),
                         "one that a kernel set of this processor computes in", "f32");
}

static int unknown(const char *name, struct dr_error *err)
{
    char known[160] = "auto";
    for (int i = 0; i < SET_COUNT; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, ", %s", sets[i].name);
    }
    return dr_fail_field(err, DR_EINVAL, "kernels", name, known, NULL);
}

int kernel_set_find(const char *name, enum precision precision, int *ret_set, struct dr_error *err)
{
    int set = SET_COUNT - 1;
    if (!name || !strcmp(name, "auto"))
        return find_best(precision, ret_set, err);
    while (set >= 0 && strcmp(name, sets[set].name))
        set--;
    if (set < 0)
        return unknown(name, err);
    if (!kernel_set_usable(set))
        return dr_fail_field(err, DR_EUNSUPPORTED, "kernels", name,
                             "a kernel set that this processor can run", NULL);
    if (!fits(set, precision))
        return dr_fail_field(err, DR_EINVAL, "precision", precision_name(precision),
                             "what the kernel set computes in",
                             precision_name(sets[set].precision));
    *ret_set = set;
    return 0;
}

static const struct kernel *const fast[SET_COUNT][OP_KIND_COUNT] = {
    [SET_scalar] = { NULL },
#define FAST(op, set) [SET_##set][OP_KIND_##op] = &cpu_##op##_fast__##set,
#include "backend/cpu/kernels.def"
};

const struct kernel *kernel_of(enum op_kind op, bool int8, int set, bool exact)
{
    for (; set > 0; set--) {
        if (!exact && fast[set][op])
            return fast[set][op];
        if (kernels[set][op] && (int8 || !kernels[set][op]->int8))
            return kernels[set][op];
    }
    return op_info(op)->reference;
}

const struct kernel *kernel_for(const struct op *op, int set, bool exact)
{
    bool wide = op->kind == OP_KIND_attention ? op->src.dtype == DTYPE_F32
                                              : op->weight && weight_desc(op->weight)->wide;
    while (wide && sets[set].precision != PRECISION_F32)
        set--;
    return kernel_of(op->kind, op->weight && weight_desc(op->weight)->int8, set, exact);
}
