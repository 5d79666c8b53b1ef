/* random_folder.h - a model of SDXL base's size with random weights, on disk. */
#ifndef DR_BENCH_RANDOM_FOLDER_H
#define DR_BENCH_RANDOM_FOLDER_H

#include <stdatomic.h>

#include "base/error.h"
#include "models/component.h"

/* Writes a diffusers folder, 7 GB of float16, unless it is there whole already. */
int bench_file_write(const char *folder, const atomic_int *stop, struct dr_error *err);

/* The config.json of a component in it: says in words what models/arch_sdxl.h says in numbers. */
const char *bench_file_config(enum component component);

#endif
