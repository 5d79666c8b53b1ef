/* packing_at_start.c - gives a program of tests the set of packing.h before main. */
#include "testing/backends/packing.h"

__attribute__((constructor)) static void add_at_start(void)
{
    packing_set_add();
}
