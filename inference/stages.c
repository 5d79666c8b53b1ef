/* stages.c - see stages.h. */
#include "inference/stages.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/nearest.h"

static const char *const plain[] = { "tokens",    "tokens_2", "prompt_embeds", "pooled", "time_ids",
                                     "timesteps", "sigmas",   "latents_init",  "image" };
static const char *const counted[] = { "model_input", "pred", "latents" };

enum { N_PLAIN = sizeof plain / sizeof *plain, N_COUNTED = sizeof counted / sizeof *counted };

/* The number of a counted stage's name, spelled as stage_name does; -1 when it is none. */
static int evaluation_of(const char *name)
{
    for (int i = 0; i < N_COUNTED; i++) {
        size_t n = strlen(counted[i]);
        const char *digits = name + n + 1;
        if (strncmp(name, counted[i], n) || name[n] != '_')
            continue;
        size_t count = strspn(digits, "0123456789");
        if (count >= 3 && count <= 6 && !digits[count] && (count == 3 || *digits != '0'))
            return (int)strtol(digits, NULL, 10);
    }
    return -1;
}

static int check_name(const char *name, int evaluations, struct dr_error *err)
{
    for (int i = 0; i < N_PLAIN; i++)
        if (!strcmp(name, plain[i]))
            return 0;
    int at = evaluation_of(name);
    char expected[80], hint[80];
    if (at >= evaluations) {
        snprintf(expected, sizeof expected, "an evaluation from 000 to %03d", evaluations - 1);
        return dr_fail_field(err, DR_EINVAL, "load_stage", name, expected, NULL);
    }
    if (at >= 0)
        return 0;
    const char *names[N_PLAIN + N_COUNTED];
    char examples[N_COUNTED][32];
    for (int i = 0; i < N_PLAIN; i++)
        names[i] = plain[i];
    for (int i = 0; i < N_COUNTED; i++)
        names[N_PLAIN + i] = stage_name(counted[i], 0, examples[i]);
    const char *near = dr_nearest(name, names, N_PLAIN + N_COUNTED);
    snprintf(hint, sizeof hint, "nearest: %s", near ? near : "");
    return dr_fail_field(err, DR_EINVAL, "load_stage", name,
                         "tokens, tokens_2, prompt_embeds, pooled, time_ids, timesteps, sigmas, "
                         "latents_init, model_input_III, pred_III, latents_III or image",
                         near ? hint : NULL);
}

int stages_check(const struct stages *s, int evaluations, struct dr_error *err)
{
    const char *name;
    json_t *file;
    json_object_foreach((json_t *)s->load, name, file)
    {
        int r = check_name(name, evaluations, err);
        if (r < 0)
            return r;
    }
    return 0;
}

const char *stage_name(const char *base, int evaluation, char dst[32])
{
    snprintf(dst, 32, "%s_%03d", base, evaluation);
    return dst;
}

bool stage_loads(const struct stages *s, const char *name)
{
    return json_object_get(s->load, name) != NULL;
}

static void shape_words(enum npy_dtype dtype, const int64_t *shape, int ndim, char *dst, size_t n)
{
    const char *type = dtype == NPY_F32   ? "float32"
                       : dtype == NPY_F64 ? "float64"
                       : dtype == NPY_I64 ? "int64"
                       : dtype == NPY_I32 ? "int32"
                                          : "uint8";
    size_t used = (size_t)snprintf(dst, n, "%s [", type);
    for (int i = 0; i < ndim && used < n; i++)
        used += (size_t)snprintf(dst + used, n - used, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (used < n)
        snprintf(dst + used, n - used, "]");
}

int stage_refuse(const struct stages *s, const char *name, const char *got, const char *expected,
                 struct dr_error *err)
{
    char field[64];
    snprintf(field, sizeof field, "load_stage.%s", name);
    return dr_fail_field(err, DR_EINVAL, field, got, expected,
                         json_string_value(json_object_get(s->load, name)));
}

int stage_load(const struct stages *s, const char *name, enum npy_dtype dtype, const int64_t *shape,
               int ndim, void *data, bool *ret_loaded, struct dr_error *err)
{
    const char *path = json_string_value(json_object_get(s->load, name));
    *ret_loaded = false;
    if (!path)
        return 0;
    struct npy a;
    int r = npy_load(path, &a, err);
    if (r < 0)
        return dr_while(err, r, "loading stage %s", name);
    if (a.dtype != dtype || a.ndim != ndim ||
        memcmp(a.shape, shape, (size_t)ndim * sizeof *shape)) {
        char got[120], expected[120];
        shape_words(a.dtype, a.shape, a.ndim, got, sizeof got);
        shape_words(dtype, shape, ndim, expected, sizeof expected);
        r = stage_refuse(s, name, got, expected, err);
    } else {
        memcpy(data, a.data, (size_t)a.count * npy_size_of(dtype));
        *ret_loaded = true;
    }
    npy_free(&a);
    return r;
}

int stage_dump(const struct stages *s, const char *name, enum npy_dtype dtype, const int64_t *shape,
               int ndim, const void *data, struct dr_error *err)
{
    char path[DR_PATH_MAX], file[64];
    if (!s->dump || !*s->dump)
        return 0;
    snprintf(file, sizeof file, "%s.npy", name);
    if (dr_path_join(path, sizeof path, s->dump, file) < 0)
        return dr_fail_field(err, DR_ELIMIT, "dump_stages", s->dump, "a shorter path", NULL);
    int r = dr_mkdirs(s->dump, err);
    if (!r)
        r = npy_save(path, dtype, shape, ndim, data, err);
    return r < 0 ? dr_while(err, r, "dumping stage %s", name) : 0;
}
