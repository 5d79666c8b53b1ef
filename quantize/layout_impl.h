/* layout_impl.h - the inside of layout.h. */
#ifndef DR_QUANTIZE_LAYOUT_IMPL_H
#define DR_QUANTIZE_LAYOUT_IMPL_H

#include "models/checkpoint_impl.h"
#include "quantize/layout.h"

struct layout_job {
    struct quantize_copy *k;
    struct checkpoint *c;
    enum model_layout layout;
    enum dtype type;
    const atomic_int *stop;
    struct dr_error *err;
    struct arena texts;
    struct tensor_origin *origins, *below; /* below: later parts of stacked ones */
    size_t n, n_below, cap;
    float marks[2][ARCH_LATENTS]; /* numbers of marks */
    int64_t steps;
    json_t *warnings; /* owned; an array */
    json_t *answer;   /* owned; sums over the files */
};

/* layout_names.c: the component's tensors into origins, as the layout names them. */
int layout_list(struct layout_job *j, enum component component);
/* What a single file has in the place of that encoder; a folder whose text has a width of its own
 * (family_of_context) is known by its activation. NULL: nothing. */
const struct family_encoder *layout_single_encoder(const struct layout_job *j,
                                                   enum component component);
/* layout_marks.c: tensors and metadata that say in a single file what it is; the caller's room for
 * LAYOUT_METADATA more entries. */
enum { LAYOUT_METADATA = 4 };
void layout_add_marks(struct layout_job *j);
int layout_metadata(struct layout_job *j, struct st_metadata **ret, size_t *ret_n);
/* layout_folder.c: everything of a folder but its weights. */
int layout_put_texts(struct layout_job *j);
/* layout_check.c: whether it can be said at all; whether the copy is what its source is. */
int layout_check_source(struct layout_job *j);
int layout_check_copy(struct layout_job *j);

/* layout.c: every tensor of the networks is there and fits. */
int layout_check_networks(struct layout_job *j, struct checkpoint *c);
int layout_no_memory(const struct layout_job *j);
int layout_warn(struct layout_job *j, const char *fmt, ...) DR_PRINTF(2, 3);
bool layout_is_edm(const struct checkpoint *c);

#endif
