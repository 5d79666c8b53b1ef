/* kernels.c - which kernel a set has for an op; x86/kernels.def has the rule of the closed choice.
 */
#include "backend/cpu/kernels.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu_arch.h"
#include "base/members.h"

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

const struct kernel_set *kernel_set_at(int set)
{
    if (set < 0 || set >= cpu_arch.n_sets + n_added)
        return NULL;
    return set < cpu_arch.n_sets ? &cpu_arch.sets[set] : &added[set - cpu_arch.n_sets]->set;
}

bool kernel_set_usable(int set)
{
    return kernel_set_at(set) && !(kernel_set_at(set)->needs & ~cpu_arch.features());
}

/* The set may compute with what was asked for. */
static bool computes_in(int set, enum precision precision)
{
    return precision == PRECISION_AUTO || kernel_set_at(set)->precision == precision;
}

static int find_best(enum precision precision, int *ret_set, struct dr_error *err)
{
    for (int i = cpu_arch.n_sets - 1; i >= 0; i--)
        if (kernel_set_usable(i) && computes_in(i, precision) &&
            (precision == PRECISION_INT8 || cpu_arch.sets[i].precision != PRECISION_INT8)) {
            *ret_set = i;
            return 0;
        }
    return dr_fail_field(err, DR_EUNSUPPORTED, "precision", precision_name(precision),
                         "one that a kernel set of this processor computes in", "f32");
}

static int unknown(const char *name, struct dr_error *err)
{
    char known[160] = "auto";
    for (int i = 0; i < cpu_arch.n_sets; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, ", %s", cpu_arch.sets[i].name);
    }
    return dr_fail_field(err, DR_EINVAL, "kernels", name, known, NULL);
}

int kernel_set_find(const char *name, enum precision precision, int *ret_set, struct dr_error *err)
{
    int set = cpu_arch.n_sets + n_added - 1;
    if (!name || !strcmp(name, "auto"))
        return find_best(precision, ret_set, err);
    while (set >= 0 && strcmp(name, kernel_set_at(set)->name))
        set--;
    if (set < 0)
        return unknown(name, err);
    if (!kernel_set_usable(set))
        return dr_fail_field(err, DR_EUNSUPPORTED, "kernels", name,
                             "a kernel set that this processor can run", NULL);
    if (!computes_in(set, precision))
        return dr_fail_field(err, DR_EINVAL, "precision", precision_name(precision),
                             "what the kernel set computes in",
                             precision_name(kernel_set_at(set)->precision));
    *ret_set = set;
    return 0;
}

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

int kernel_check(const struct kernel *kernel, const char *name, struct dr_error *err)
{
    const struct dr_member members[] = { { "work", kernel->work != NULL } };
    int r = dr_members_check("kernel", name, members, 1, err);
    return r ? r : op_work_check(kernel->work, name, err);
}

/* The kernels of a set; the first set must have one for every op. */
static int set_check(const struct kernel_set *set, bool whole, struct dr_error *err)
{
    int r = packing_check(set, err);
    for (int op = 0; !r && op < 2 * OP_KIND_COUNT; op++) {
        bool fast = op >= OP_KIND_COUNT;
        int kind = fast ? op - OP_KIND_COUNT : op;
        const struct kernel *k = fast ? set->fast[kind] : set->kernels[kind];
        char name[80];
        snprintf(name, sizeof name, "cpu_%s%s__%s", op_info((enum op_kind)kind)->name,
                 fast ? "_fast" : "", set->name);
        if (k)
            r = kernel_check(k, name, err);
        else if (whole && !fast)
            r = dr_fail(err, DR_EINTERNAL, "kernel %s is missing", name);
    }
    return r;
}

int kernel_tables_check(struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < cpu_arch.n_sets; i++)
        r = set_check(&cpu_arch.sets[i], !i, err);
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

/* The set that is asked when one has no kernel: the one before; of an added one, `rest`. */
static int set_below(int set)
{
    return set < cpu_arch.n_sets ? set - 1 : added[set - cpu_arch.n_sets]->rest;
}

const struct kernel *kernel_of(enum op_kind op, const struct weight_desc *d, int set, bool exact)
{
    enum precision precision = kernel_set_at(set)->precision;
    for (; set > 0; set = set_below(set)) {
        const struct kernel_set *s = kernel_set_at(set);
        bool own = set >= cpu_arch.n_sets || goes_with(s->precision, precision);
        if (!exact && takes(s->fast[op], d))
            return s->fast[op];
        if (own && takes(s->kernels[op], d))
            return s->kernels[op];
    }
    return cpu_arch.sets[0].kernels[op];
}

const struct kernel *kernel_for(const struct op *op, int set, bool exact)
{
    bool keep_f32 = op->kind == OP_KIND_attention ? op->src.dtype == DTYPE_F32
                                                  : op->weight && weight_desc(op->weight)->keep_f32;
    while (keep_f32 && kernel_set_at(set)->precision != PRECISION_F32)
        set = set_below(set);
    return kernel_of(op->kind, op->weight ? weight_desc(op->weight) : NULL, set, exact);
}
