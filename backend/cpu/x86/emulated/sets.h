/* sets.h - the kernel sets on emulated instructions, for tests; no library that ships has them. */
#ifndef DR_BACKEND_CPU_X86_EMULATED_SETS_H
#define DR_BACKEND_CPU_X86_EMULATED_SETS_H

/* Adds them to the process's sets under the names of the real ones with "_emulated". */
void emulated_sets_add(void);

#endif
