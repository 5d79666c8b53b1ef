/* kernels.c - the table of kernels.def, see there for the rule of the closed choice. */
#include "backend/cpu/kernels.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu/x86/features.h"
#include "backend/cpu/panel.h"
#include "base/members.h"

enum set {
#define SET(name, needs, precision, packing) SET_##name,
#include "backend/cpu/x86/kernels.def"
    SET_COUNT
};

static const struct kernel_set sets[] = {
#define SET(name, needs, precision, packing) { #name, needs, PRECISION_##precision, packing },
#include "backend/cpu/x86/kernels.def"
};

#define KERNEL(op, set) extern const struct kernel cpu_##op##__##set;
#define FAST(op, set) extern const struct kernel cpu_##op##_fast__##set;
#include "backend/cpu/x86/kernels.def"

static const struct kernel *const kernels[SET_COUNT][OP_KIND_COUNT] = {
    [SET_scalar] = { NULL }, /* the references */
#define KERNEL(op, set) [SET_##set][OP_KIND_##op] = &cpu_##op##__##set,
#include "backend/cpu/x86/kernels.def"
};

/* ---- those of tests, after the others ---- */

enum { ADDED_MAX = 4 };
static const struct added_kernel_set *added[ADDED_MAX];
static int n_added;

void kernel_set_add(const struct added_kernel_set *set)
{
    for (int i = 0; i < n_added; i++)
        if (added[i] == set)
            return;
    if (n_added < ADDED_MAX)
        added[n_added++] = set;
}

/* NULL past the end. */
static const struct kernel_set *set_at(int set)
{
    if (set < 0 || set >= SET_COUNT + n_added)
        return NULL;
    return set < SET_COUNT ? &sets[set] : &added[set - SET_COUNT]->set;
}

const char *kernel_set_name(int set)
{
    return set_at(set) ? set_at(set)->name : NULL;
}

bool kernel_set_usable(int set)
{
    return set_at(set) && !(set_at(set)->needs & ~cpu_features());
}

enum precision kernel_set_precision(int set)
{
    return set_at(set)->precision;
}

const struct packing *kernel_set_packing(int set)
{
    return set_at(set)->packing;
}

/* The set may compute with what was asked for. */
static bool computes_in(int set, enum precision precision)
{
    return precision == PRECISION_AUTO || kernel_set_precision(set) == precision;
}

static int find_best(enum precision precision, int *ret_set, struct dr_error *err)
{
    for (int i = SET_COUNT - 1; i >= 0; i--)
        if (kernel_set_usable(i) && computes_in(i, precision) &&
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
    int set = SET_COUNT + n_added - 1;
    if (!name || !strcmp(name, "auto"))
        return find_best(precision, ret_set, err);
    while (set >= 0 && strcmp(name, kernel_set_name(set)))
        set--;
    if (set < 0)
        return unknown(name, err);
    if (!kernel_set_usable(set))
        return dr_fail_field(err, DR_EUNSUPPORTED, "kernels", name,
                             "a kernel set that this processor can run", NULL);
    if (!computes_in(set, precision))
        return dr_fail_field(err, DR_EINVAL, "precision", precision_name(precision),
                             "what the kernel set computes in",
                             precision_name(kernel_set_precision(set)));
    *ret_set = set;
    return 0;
}

static const struct kernel *const fast[SET_COUNT][OP_KIND_COUNT] = {
    [SET_scalar] = { NULL },
#define FAST(op, set) [SET_##set][OP_KIND_##op] = &cpu_##op##_fast__##set,
#include "backend/cpu/x86/kernels.def"
};

/* A set's way to pack weights. */
static int packing_check(const struct kernel_set *set, struct dr_error *err)
{
    if (!set->packing)
        return 0;
    const struct dr_member members[] = {
        { "bytes", set->packing->bytes != NULL },
        { "pieces", set->packing->pieces != NULL },
        { "piece", set->packing->piece != NULL },
    };
    return dr_members_check("packing of kernel set", set->name, members,
                            sizeof members / sizeof *members, err);
}

int kernel_tables_check(struct dr_error *err)
{
    static const struct {
        const char *name;
        const struct kernel *kernel;
    } lines[] = {
#define KERNEL(op, set) { "cpu_" #op "__" #set, &cpu_##op##__##set },
#define FAST(op, set) { "cpu_" #op "_fast__" #set, &cpu_##op##_fast__##set },
#include "backend/cpu/x86/kernels.def"
    };
    int r = 0;
    for (size_t i = 0; !r && i < sizeof lines / sizeof *lines; i++)
        r = kernel_check(lines[i].kernel, lines[i].name, err);
    for (int i = 0; !r && i < SET_COUNT; i++)
        r = packing_check(&sets[i], err);
    return r;
}

/* A set of one precision may use a kernel of a set of another. */
static bool goes_with(enum precision kernel, enum precision set)
{
    return kernel == PRECISION_F32 || kernel == set ||
           (kernel == PRECISION_BF16 && set == PRECISION_INT8);
}

static bool takes(const struct kernel *k, const struct weight_desc *d)
{
    return k && (!k->int8 || (d && d->int8)) && (!k->fits || (d && k->fits(d)));
}

const struct kernel *kernel_of(enum op_kind op, const struct weight_desc *d, int set, bool exact)
{
    enum precision precision = kernel_set_precision(set);
    for (; set >= SET_COUNT; set = added[set - SET_COUNT]->rest)
        if (takes(added[set - SET_COUNT]->kernels[op], d))
            return added[set - SET_COUNT]->kernels[op];
    for (; set > 0; set--) {
        if (!exact && takes(fast[set][op], d))
            return fast[set][op];
        if (takes(kernels[set][op], d) && goes_with(sets[set].precision, precision))
            return kernels[set][op];
    }
    return op_info(op)->reference;
}

const struct kernel *kernel_for(const struct op *op, int set, bool exact)
{
    bool wide = op->kind == OP_KIND_attention ? op->src.dtype == DTYPE_F32
                                              : op->weight && weight_desc(op->weight)->wide;
    while (wide && kernel_set_precision(set) != PRECISION_F32)
        set = set < SET_COUNT ? set - 1 : added[set - SET_COUNT]->rest;
    return kernel_of(op->kind, op->weight ? weight_desc(op->weight) : NULL, set, exact);
}
