/* pictures.h - whole pictures to time, from a request to the encoded file. */
#ifndef DR_BENCH_PICTURES_H
#define DR_BENCH_PICTURES_H

#include <jansson.h>

const char *bench_picture_name(int i); /* NULL past the end */

/* The data of a `generate` request for that case on the model at `path`; NULL when memory is
 * short. */
json_t *bench_picture_request(int i, const char *path, const char *kernels, const char *precision);

#endif
