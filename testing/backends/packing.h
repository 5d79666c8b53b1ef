/* packing.h - a kernel set that packs weights on any processor, for tests.
 *
 * The sets that pack need AVX-512 or more. What is done with packs (making, finding, verifying,
 * discarding them) has nothing to do with the instructions, so tests of it use this set where the
 * machine has no other: `scalar` with linear layers as rows of float32, the same bits as `scalar`.
 */
#ifndef DR_TESTING_BACKENDS_PACKING_H
#define DR_TESTING_BACKENDS_PACKING_H

#define PACKING_SET "scalar_packing"

/* Adds it to the process's sets. A program that links packing_at_start.c has it from the start. */
void packing_set_add(void);

#endif
