/* odd_model.h - the small random-weight pipeline of testing/golden/odd on any backend, and its
 * vectors.
 *
 *     struct odd m;
 *     odd_must(&m, ODD_CPU, "avx2", 2);
 *     ... clip_text_encode(m.clip[0], &m.x, ...)
 *     odd_close(&m);
 *
 * For tests linked with dr_models or a folder above it.
 */
#ifndef DR_TESTING_HELPERS_ODD_MODEL_H
#define DR_TESTING_HELPERS_ODD_MODEL_H

#include "testing/helpers/test.h"

#include "base/npy.h"
#include "models/clip_text.h"
#include "models/model_loader.h"
#include "models/unet.h"
#include "models/vae.h"

enum {
    ODD_WIDTH1 = 28, /* of the text encoders */
    ODD_WIDTH2 = 40,
    ODD_CONTEXT = ODD_WIDTH1 + ODD_WIDTH2,
    ODD_POOLED = 44,
    ODD_IDS = 6,
    ODD_VOCAB = 613,
};

enum odd_kind { ODD_CPU, ODD_PLAN, ODD_GUARDED };

/* All networks, loaded, packed and acquired; stop is wired into x. */
struct odd {
    struct checkpoint *ckpt;
    struct backend *inner, *be;
    struct workspace *ws;
    struct exec x;
    atomic_int stop;
    struct clip_text *clip[2];
    struct unet *unet;
    struct vae *vae;
};

/* odd_close also after a failure. kernels NULL: the machine's best. */
int odd_open(struct odd *m, enum odd_kind kind, const char *kernels, int threads,
             struct dr_error *err);
/* The same of the model at another path. */
int odd_open_at(struct odd *m, const char *path, enum odd_kind kind, const char *kernels,
                int threads, struct dr_error *err);
void odd_must(struct odd *m, enum odd_kind kind, const char *kernels, int threads);
void odd_close(struct odd *m);

/* testing/golden/odd/NAME.npy; npy_free it. */
struct npy odd_vector(const char *name);

#endif
