/* params.h - one walk over the parameters of a network.
 *
 * Each network has exactly one function that names its weights once: `unet_visit(u, v)`. It calls
 * visit_layer for every layer; that calls v->param for each parameter with its name and expected
 * shape, then v->layer. Loading, counting, checksums, packing, freeing, adapters and "which tensors
 * were never used" are visitors.
 *
 * Names are those of diffusers and transformers ("down_blocks.0.resnets.0.conv1.weight"), relative
 * to the component; files in other layouts are translated when they are opened (models/formats).
 */
#ifndef DR_MODELS_PARAMS_H
#define DR_MODELS_PARAMS_H

#include "backend/backend.h"

enum { LAYER_PARTS = 3, PARAM_NAME = 160 };

/* A parameter as found in a file. `src.data` NULL: not loaded. */
struct param {
    struct weight_source src;
};

/* A layer: what one weight handle is made of. Zero-initialise, then layer_linear() etc. say what it
 * is. */
struct layer {
    struct weight_desc desc;
    struct param weight[LAYER_PARTS]; /* norm: scale in [0] */
    struct param bias[LAYER_PARTS];   /* norm: shift in [0] */
    int64_t part_out[LAYER_PARTS];
    struct weight *packed; /* owned; made by params_prepare */
};

struct visitor {
    /* Both may be NULL. A negative return ends the walk and is returned. */
    int (*param)(void *ctx, struct param *p, const char *name, const struct shape *shape);
    int (*layer)(void *ctx, struct layer *l, const char *name);
    void *ctx;
};

struct layer layer_linear(int64_t in, int64_t out, bool bias);
/* Several linears with the same input run as one: outputs stacked in the order of the names. */
struct layer layer_linears(int64_t in, const int64_t *outs, int parts, bool bias);
struct layer layer_conv(int64_t in, int64_t out, int kernel);
struct layer layer_downsampler(int64_t channels); /* a 3x3 convolution of stride 2 */
struct layer layer_upsampler(int64_t channels);   /* the convolution of a doubled picture */
struct layer layer_norm_of(int64_t channels);
struct layer layer_table(int64_t rows, int64_t channels);
/* The same layer with operands that stay float32 whatever the kernel set. */
struct layer layer_keep_f32(struct layer l);

/* `name` is the layer's; parameters are NAME.weight and NAME.bias. visit_layers names the parts. */
int visit_layer(const struct visitor *v, struct layer *l, const char *name);
int visit_layers(const struct visitor *v, struct layer *l, const char *const *names);

/* Common visitors over anything with a visit function. */
typedef int (*visit_fn)(void *network, const struct visitor *v);

/* Packs every layer on be; on error what was packed is freed. */
int params_prepare(void *network, visit_fn visit, struct backend *be, const atomic_int *stop,
                   struct dr_error *err);

/* What be makes of the layers, as blobs of a pack: names are PREFIX/LAYER. */
struct params_bytes {
    uint64_t blobs, bytes, largest;
    uint64_t packed;   /* of bytes, in the kernel set's own form */
    uint64_t made;     /* bytes without the blobs' padding: what they take in private memory */
    uint64_t contents; /* of names and sizes: another list, another number */
};
/* Adds to *sum, which starts as zero. Of a network that is loaded. */
int params_bytes(void *network, visit_fn visit, struct backend *be, const char *prefix,
                 struct params_bytes *sum, struct dr_error *err);

struct params_packing {
    struct pack *pack; /* NULL: private memory */
    const char *prefix;
    const atomic_int *stop;
    void (*made)(void *ctx, size_t bytes); /* after each layer; may be NULL */
    void *ctx;
};
/* params_prepare with what is made in a pack. */
int params_prepare_in(void *network, visit_fn visit, struct backend *be,
                      const struct params_packing *how, struct dr_error *err);
void params_unprepare(void *network, visit_fn visit);
int params_acquire(void *network, visit_fn visit, struct dr_error *err);
void params_release(void *network, visit_fn visit, bool drop);

#endif
