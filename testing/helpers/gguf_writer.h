/* gguf_writer.h - GGUF files for tests: good ones from a list of tensors, bad ones number by
 * number. Plain malloc underneath. Any failure ends the test.
 *
 *     struct gguf_bytes b = { 0 };
 *     gguf_preamble(&b, 3, 1, 0);
 *     gguf_tensor(&b, "a", &SHAPE1(4), GGUF_F32, 0);
 *     gguf_pad(&b, 32);
 *     gguf_put(&b, data, 16);
 *     gguf_save(&b, path);
 */
#ifndef DR_TESTING_HELPERS_GGUF_WRITER_H
#define DR_TESTING_HELPERS_GGUF_WRITER_H

#include "models/formats/safetensors.h"

enum {
    GGUF_F32 = 0,
    GGUF_Q8_0 = 8,
    GGUF_Q4_K = 12,
    GGUF_UINT32 = 4,
    GGUF_INT32 = 5,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
};

struct gguf_bytes {
    unsigned char *data;
    size_t n, cap;
};

void gguf_put(struct gguf_bytes *b, const void *bytes, size_t n);
void gguf_u32(struct gguf_bytes *b, uint32_t v);
void gguf_u64(struct gguf_bytes *b, uint64_t v);
void gguf_text(struct gguf_bytes *b, const char *text); /* with its length */
void gguf_pad(struct gguf_bytes *b, size_t alignment);
void gguf_preamble(struct gguf_bytes *b, uint32_t version, uint64_t tensors, uint64_t entries);
void gguf_entry_text(struct gguf_bytes *b, const char *key, const char *value);
/* The shape is outermost first, as everywhere but in the file. */
void gguf_tensor(struct gguf_bytes *b, const char *name, const struct shape *shape, uint32_t type,
                 uint64_t offset);
/* Frees the bytes. */
void gguf_save(struct gguf_bytes *b, const char *path);

/* What becomes of a tensor of a safetensors file: its name there (NULL: left out) and its type. The
 * shape may be changed to another of as many elements; then the file says what it was. */
struct gguf_plan {
    const char *name;
    enum dtype dtype; /* F32, F16, or a type that can be written */
    struct shape shape;
};

/* A GGUF file of the tensors of a safetensors file, and a safetensors file of what they then are,
 * in float32 under the old names and shapes. architecture NULL: none. */
void gguf_convert(const char *from, const char *architecture,
                  struct gguf_plan (*plan)(const struct st_tensor *t), const char *gguf,
                  const char *values);

#endif
