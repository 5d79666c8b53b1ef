/* kernels.c - the table of kernels.def, see there for the rule of the closed choice. */
#include "backend/cpu/kernels.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu/features.h"

enum set {
#define SET(name, needs) SET_##name,
#include "backend/cpu/kernels.def"
    SET_COUNT
};

static const struct {
    const char *name;
    unsigned needs;
} sets[] = {
#define SET(name, needs) { #name, needs },
#include "backend/cpu/kernels.def"
};

#define KERNEL(op, set) extern const struct kernel cpu_##op##__##set;
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

int kernel_set_find(const char *name, int *ret_set, struct dr_error *err)
{
    char known[128] = "auto";
    bool any = !name || !strcmp(name, "auto");
    for (int i = SET_COUNT - 1; i >= 0; i--) {
        if (any ? kernel_set_usable(i) : !strcmp(name, sets[i].name)) {
            if (!kernel_set_usable(i))
                return dr_fail_field(err, DR_EUNSUPPORTED, "kernels", name,
                                     "a kernel set that this processor can run", NULL);
            *ret_set = i;
            return 0;
        }
    }
    for (int i = 0; i < SET_COUNT; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, ", %s", sets[i].name);
    }
    return dr_fail_field(err, DR_EINVAL, "kernels", name, known, NULL);
}

const struct kernel *kernel_of(enum op_kind op, int set)
{
    for (; set > 0; set--)
        if (kernels[set][op])
            return kernels[set][op];
    return op_info(op)->reference;
}
