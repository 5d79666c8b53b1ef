/* torch_file.h - the tensors of a file of torch.save, read without running it.
 *
 * Such a file (.ckpt, .pt, .pth, .bin) is a ZIP archive: "NAME/data.pkl" is a pickle, a program for
 * a stack machine that may call any Python function, and "NAME/data/KEY" are the bytes of storages.
 * Here a machine with a fixed list of opcodes runs, and the only functions it knows are those that
 * make a tensor of a storage and an empty OrderedDict; it calls nothing. Anything else is refused
 * by its name. What comes out are tensors: a dictionary, or "state_dict" in it, of names and
 * tensors; dictionaries in it join their names with dots; other values are counted and left out.
 *
 * Reference: Python's pickletools (opcodes), torch/serialization.py, torch/_utils.py
 * (_rebuild_tensor_v2).
 */
#ifndef DR_MODELS_FORMATS_TORCH_FILE_H
#define DR_MODELS_FORMATS_TORCH_FILE_H

#include "tensor/dtype.h"
#include "tensor/shape.h"
#include "base/arena.h"
#include "base/error.h"

struct torch_tensor {
    const char *name;
    enum dtype dtype;
    struct shape shape;
    int64_t stride[SHAPE_MAX]; /* in elements */
    const uint8_t *data;       /* the first element, in the file's bytes */
};

struct torch_file {
    struct torch_tensor *tensors; /* sorted by name */
    size_t n, cap;
    size_t left_out; /* values that are no tensors */
    struct arena names;
};

/* Whether bytes begin like one, or like the form before PyTorch 1.6. */
bool torch_begins(const uint8_t *bytes, size_t n);

/* The bytes must outlive it. DR_EFORMAT, DR_EUNSUPPORTED (asks for something that is not read),
 * DR_ELIMIT. */
int torch_parse(const uint8_t *bytes, size_t n, const char *what, struct torch_file *ret,
                struct dr_error *err);
void torch_file_free(struct torch_file *f);

/* Elements [first, first + n) in the order of the shape, dense. */
void torch_copy(const struct torch_tensor *t, int64_t first, int64_t n, void *dst);

#endif
