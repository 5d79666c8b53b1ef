/* tensor_table.h - the tensors of one component under canonical names, wherever they lie. */
#ifndef DR_MODELS_FORMATS_TENSOR_TABLE_H
#define DR_MODELS_FORMATS_TENSOR_TABLE_H

#include "backend/backend.h"
#include "base/arena.h"
#include "models/component.h"

struct tensor_entry {
    const char *name;         /* canonical: "conv_in.weight" */
    struct weight_source src; /* its name is "unet.conv_in.weight" */
    const void *stored;       /* where the file has it, also when src is a copy */
    bool transpose;           /* lies as [in, out]; src.shape is already [out, in] */
    void *copy;               /* owned: the transposed copy, once loaded */
    void *scales;             /* owned: float32 for each row, where the file's scales are not so */
    bool used;
    bool spare; /* known, and nothing reads it */
};

struct tensor_table {
    enum component component;
    struct tensor_entry *entries; /* sorted by name after tensor_table_sort */
    size_t n, cap;
};

void tensor_table_init(struct tensor_table *t, enum component component);
void tensor_table_free(struct tensor_table *t);

/* src.name is ignored; the names are made in `names`. DR_ENOMEM, DR_ELIMIT. */
int tensor_table_add(struct tensor_table *t, struct arena *names, const char *name,
                     const struct weight_source *src, bool transpose, struct dr_error *err);

/* DR_EFORMAT when a name comes twice; `what` names the file or folder. */
int tensor_table_sort(struct tensor_table *t, const char *what, struct dr_error *err);

struct tensor_entry *tensor_table_find(const struct tensor_table *t, const char *name);
/* Marks the tensors whose names begin so as spare. */
void tensor_table_spare(struct tensor_table *t, const char *prefix);
/* Dimension i of a tensor whose name is made as by printf; 0 when there is no such tensor or
 * dimension. */
int64_t tensor_table_dim(const struct tensor_table *t, int i, const char *fmt, ...) DR_PRINTF(3, 4);
/* Parameters: scales of weights are not counted. */
int64_t tensor_table_elements(const struct tensor_table *t);
bool tensor_is_scale(const char *name); /* "X.weight_scale" */

#endif
