/* mapguard.h - surviving a mapped file that is truncated or that the disk can no longer read.
 *
 * Touching a mapped page that the file no longer has is SIGBUS, which ends the process. Maps that
 * are registered here get zero pages instead, and a mark: whoever used the map asks for the mark
 * before trusting results, and reports DR_EIO. Copying files of many gigabytes at load would be the
 * other way out.
 *
 *     mapguard_install(err);                      // the worker's main, once
 *     r = mapguard_add(map.data, map.size, &slot, err);
 *     ...
 *     if (mapguard_damaged(slot)) ...
 *     mapguard_remove(slot);                      // before the map goes
 */
#ifndef DR_BASE_MAPGUARD_H
#define DR_BASE_MAPGUARD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { MAPGUARD_MAX = 512 };

/* Installs the SIGBUS handler of the process; again is harmless. A fault outside every registered
 * map goes to the handler that was there before. */
int mapguard_install(struct dr_error *err);

/* Maps can be registered whether or not the handler is installed. data is page-aligned. DR_ELIMIT
 * when MAPGUARD_MAX maps are registered. */
int mapguard_add(const void *data, size_t size, int *ret_slot, struct dr_error *err);
void mapguard_remove(int slot); /* negative: does nothing */

/* Whether any page of it had to be replaced. From that page to the end the map reads as zeros. */
bool mapguard_damaged(int slot);

#endif
