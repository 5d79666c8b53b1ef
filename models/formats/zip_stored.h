/* zip_stored.h - the table of a ZIP archive whose files are stored as they are, as torch.save
 * writes.
 *
 * Compressed, encrypted and split archives are refused, and so is an archive whose files overlap,
 * lie outside of it, or contradict its table. Reference: PKWARE's APPNOTE 6.3.10, sections 4.3.7 to
 * 4.3.16, 4.5.3 (ZIP64). */
#ifndef DR_MODELS_FORMATS_ZIP_STORED_H
#define DR_MODELS_FORMATS_ZIP_STORED_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { ZIP_FILES_MAX = 65536 };

struct zip_file {
    const char *name; /* where it lies in the archive, without a NUL */
    size_t name_n;
    uint64_t header, at, size; /* bytes from the start of the archive; of the contents */
};

/* dr_free the files; sorted by place. */
int zip_stored_parse(const uint8_t *bytes, size_t n, const char *what, struct zip_file **ret,
                     size_t *ret_n, struct dr_error *err);

#endif
