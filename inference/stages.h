/* stages.h - every stage of a job can be written to a file and replaced from one.
 *
 * That is how agreement with the reference is checked piece by piece, and how a user finds where
 * two programs part. Files are .npy, float32 in the reference's NCHW order (tokens: int64); their
 * names are those of core/communication/stage_names.h. Files that exist are never replaced.
 */
#ifndef DR_INFERENCE_STAGES_H
#define DR_INFERENCE_STAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "base/npy.h"
#include "core/communication/stage_names.h"
#include "core/roots.h"

struct stages {
    const char *dump;          /* folder, made if missing; NULL or "": nothing is written */
    const json_t *load;        /* name to file; NULL: nothing is replaced */
    const struct roots *roots; /* where the files must lie; NULL: anywhere */
    const atomic_int *stop;    /* nonzero ends the reading of a file; may be NULL */
    bool open;                 /* by stages_open */
    int folder;                /* then: descriptor of the dump folder, -1: none */
};

/* DR_EINVAL for a name that is no stage (names the nearest) or counts past `evaluations`, and for a
 * dump folder with files of stages in it. Nothing is made. */
int stages_check(const struct stages *s, int evaluations, struct dr_error *err);

/* Opens the dump folder, which is made if it is missing: before the first stage_dump. */
int stages_open(struct stages *s, struct dr_error *err);
void stages_close(struct stages *s);

bool stage_loads(const struct stages *s, const char *name);

/* Replaces `data` from the stage's file if the request names one; *ret_loaded says whether. Shape
 * and dtype must be exactly these: DR_EINVAL names the file and both, before anything of the data
 * is read. data is float32, int64 for tokens; NULL: only the header is read and compared. */
int stage_load(const struct stages *s, const char *name, enum npy_dtype dtype, const int64_t *shape,
               int ndim, void *data, bool *ret_loaded, struct dr_error *err);
/* Whether the name is a stage's and its file is there, in the roots and of the format. */
int stage_probe(const struct stages *s, const char *name, struct dr_error *err);
/* DR_EINVAL about a loaded stage: names the field, what it has and its file. */
int stage_refuse(const struct stages *s, const char *name, const char *got, const char *expected,
                 struct dr_error *err);

/* Writes the stage when there is a dump folder. */
int stage_dump(const struct stages *s, const char *name, enum npy_dtype dtype, const int64_t *shape,
               int ndim, const void *data, struct dr_error *err);

#endif
