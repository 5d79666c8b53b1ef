/* safetensors_writer.h - safetensors files for tests: good ones from a list of tensors, bad ones
 * from any header text. Plain malloc underneath, so that tests may count Darkroom's own blocks
 * around it. Any failure ends the test. */
#ifndef DR_TESTING_HELPERS_SAFETENSORS_WRITER_H
#define DR_TESTING_HELPERS_SAFETENSORS_WRITER_H

#include <stddef.h>
#include <stdint.h>

struct st_writer;

struct st_writer *st_writer_new(void);
void st_writer_free(struct st_writer *w);

/* Tensors lie in the file in the order they are added. `data` of the right size is copied; NULL:
 * small finite numbers that depend on the name alone (F32, F16, BF16) or zeros (other dtypes). */
void st_writer_add(struct st_writer *w, const char *name, const char *dtype, int dims,
                   const int64_t *shape, const void *data);
/* The same with the shape as text, "320x4x3x3" ("" is a scalar). */
void st_writer_add_text(struct st_writer *w, const char *name, const char *dtype,
                        const char *shape);
void st_writer_metadata(struct st_writer *w, const char *key, const char *value);
/* From now on data are not kept and the file has holes in their place, so that a file of the real
 * size costs a header. */
void st_writer_sparse(struct st_writer *w);
void st_writer_save(const struct st_writer *w, const char *path);

/* LENGTH (8 bytes), then header_n bytes of header, then data_n zeros. length < 0: header_n. */
void st_write_raw(const char *path, int64_t length, const char *header, size_t header_n,
                  size_t data_n);

/* A text file (a config.json and the like); parents are made. */
void test_write_text(const char *path, const char *text);
void test_make_dirs(const char *path);

#endif
