/* fuzz.h - what the fuzz targets share.
 *
 * A target is a file fuzz_NAME.c with one function, LLVMFuzzerTestOneInput, a line in
 * cmake/fuzz.cmake and a folder corpus/NAME of small inputs. The function gets any bytes, hands
 * them to one reader of the product and checks what the reader promises; a broken promise aborts.
 * The same file is built twice: by clang with libFuzzer, which invents inputs (fuzz_NAME), and with
 * replay.c, which runs the committed corpus once (replay_NAME, a test of every build).
 */
#ifndef DR_TESTING_FUZZ_FUZZ_H
#define DR_TESTING_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Aborts with the place and the condition when it does not hold. */
#define FUZZ_MUST(condition)                                                                       \
    ((condition) ? (void)0 : fuzz_broken(__FILE__, __LINE__, #condition, NULL))
/* The same, with a text that says more. */
#define FUZZ_MUST_SAY(condition, text)                                                             \
    ((condition) ? (void)0 : fuzz_broken(__FILE__, __LINE__, #condition, text))

_Noreturn void fuzz_broken(const char *file, int line, const char *condition, const char *more);

/* Of a failure: a negative code, the same in err, with a text in UTF-8. Never out of memory or an
 * internal error: no input of the size that fuzzing has is worth one. */
void fuzz_must_explain(int r, const struct dr_error *err);
/* That, and err->path is the beginning of the text: it names the field or file. */
void fuzz_must_name(int r, const struct dr_error *err);

/* Prints the errors that are checked: which inputs of a corpus are refused, and why. */
extern bool fuzz_shows_errors;

/* No block of memory is left. */
void fuzz_must_be_clean(void);

/* A copy with a NUL behind it, of exactly that size, so that a sanitizer sees a read past its end.
 * free() it. */
char *fuzz_text(const uint8_t *bytes, size_t n);

/* The next line of *text without its end, NULL at the end of the text; overwrites line ends. */
char *fuzz_line(char **text);

/* A fresh folder that is removed at exit, the same for the whole process. */
const char *fuzz_folder(void);

/* Decodes a picture and, if it is small, encodes it to the same format and decodes that: the size,
 * the texts in `keys` (NULL-terminated, NULL: all that PNG can carry) and, if `exact`, the pixels
 * must survive. */
void fuzz_picture(enum img_format format, const uint8_t *bytes, size_t n,
                  const struct img_encode_options *options, const char *const *keys, bool exact);

#endif
