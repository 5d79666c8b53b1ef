/* compare_stages.c - folders of stages side by side: compare_stages OURS THEIRS [LIMIT]
 *
 * Prints the relative L2 distance of every .npy of THEIRS from the file of that name in OURS, and
 * ends with 1 when one is missing, has another shape, or is farther than LIMIT (1e-3). Ids must be
 * equal.
 */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/npy.h"
#include "testing/helpers/base_files.h"

static double at(const struct npy *a, int64_t i)
{
    switch (a->dtype) {
    case NPY_F32:
        return ((const float *)a->data)[i];
    case NPY_F64:
        return ((const double *)a->data)[i];
    case NPY_I64:
        return (double)((const int64_t *)a->data)[i];
    case NPY_I32:
        return ((const int32_t *)a->data)[i];
    case NPY_U8:
        return ((const uint8_t *)a->data)[i];
    }
    return NAN;
}

static double distance(const struct npy *a, const struct npy *b)
{
    double difference = 0, size = 0;
    for (int64_t i = 0; i < b->count; i++) {
        double d = at(a, i) - at(b, i);
        difference += d * d;
        size += at(b, i) * at(b, i);
    }
    return size > 0 ? sqrt(difference / size) : sqrt(difference);
}

static int load(const char *folder, const char *name, struct npy *ret, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    int r = dr_path_join(path, sizeof path, folder, name);
    return r ? r : npy_load(path, ret, err);
}

/* 1 when they agree. */
static int compare(const char *ours, const char *theirs, const char *name, double limit)
{
    struct npy a, b;
    struct dr_error err;
    if (load(theirs, name, &b, &err) < 0) {
        printf("  %-24s %s\n", name, err.text);
        return 0;
    }
    int good = load(ours, name, &a, &err) >= 0;
    if (!good) {
        printf("  %-24s %s\n", name, err.text);
        npy_free(&b);
        return 0;
    }
    good = a.dtype == b.dtype && a.ndim == b.ndim &&
           !memcmp(a.shape, b.shape, (size_t)b.ndim * sizeof *b.shape);
    if (good) {
        double d = distance(&a, &b);
        good = d <= (b.dtype == NPY_F32 ? limit : 0);
        printf("  %-24s %.2e%s\n", name, d, good ? "" : "  TOO FAR");
    } else {
        printf("  %-24s another shape\n", name);
    }
    npy_free(&a);
    npy_free(&b);
    return good;
}

static int is_stage(const struct dirent *e)
{
    return !strcmp(dr_path_extension(e->d_name), ".npy");
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("usage: compare_stages OURS THEIRS [LIMIT]\n", stderr);
        return 2;
    }
    double limit = argc > 3 ? strtod(argv[3], NULL) : 1e-3;
    struct dirent **names;
    int n = scandir(argv[2], &names, is_stage, alphasort), bad = 0;
    if (n < 0) {
        perror(argv[2]);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        bad += !compare(argv[1], argv[2], names[i]->d_name, limit);
        free(names[i]);
    }
    free(names);
    printf("  %d stages, %d wrong\n", n, bad);
    return !n || bad ? 1 : 0;
}
