/* kernel_choice.h - which kernel set "auto" means on this machine.
 *
 * Which one wins differs between processors that have the same instructions: dot products of
 * bfloat16 run at half the rate of float32 on one family and at twice the rate on another. So the
 * matrix instruction of each set is timed, once; the choice is remembered in a file of the cache
 * folder, by processor, features, layout of weights and precision, and is the same from then on. A
 * malformed line, or one that names a set which this machine cannot run, is ignored.
 *
 * If nothing can be remembered, nothing is timed: every start would time again (0.1 seconds a set)
 * and, with two close sets or a busy machine, might choose differently and draw other bits. The
 * last usable set of the table is used, the same at each start.
 */
#ifndef DR_CORE_KERNEL_CHOICE_H
#define DR_CORE_KERNEL_CHOICE_H

#include "backend/device.h"

enum { KERNEL_NAME_MAX = 32 };

struct kernel_choice {
    const char *cache; /* the file; NULL: nothing can be remembered */
    const struct device_info *device;
    const struct device_facts *facts; /* of it */
    enum precision precision;
    int threads; /* 0: all */
    /* Operations a second of a set's matrix instruction; NULL: measured. */
    double (*rate)(const char *set, void *ctx);
    void *ctx;
};

/* "auto" where there is nothing to choose from. */
void kernel_choice_make(const struct kernel_choice *c, char ret_set[KERNEL_NAME_MAX]);

#endif
