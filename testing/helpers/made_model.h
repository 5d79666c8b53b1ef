/* made_model.h - models whose weights follow from their tensors' names.
 *
 * A manifest (testing/golden/families/NAME.json, written by tools/golden/families.py) says the
 * files of a model, and for each file of weights the names and shapes of its tensors; the numbers
 * are those that the script gave the reference, to the bit. */
#ifndef DR_TESTING_HELPERS_MADE_MODEL_H
#define DR_TESTING_HELPERS_MADE_MODEL_H

#include <stddef.h>

/* Makes the model NAME in the folder, unless it is there. ret_path: the folder, or the single file
 * in it. */
void made_model(const char *name, const char *folder, char *ret_path, size_t n);

#endif
