/* no_emulated_sets.c - in place of the emulated kernel sets, on an architecture that has none. */
#include "backend/cpu/x86/emulated/sets.h"

void emulated_sets_add(void)
{
}
