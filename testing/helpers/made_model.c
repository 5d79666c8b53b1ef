/* made_model.c - see made_model.h. */
#include "testing/helpers/made_model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/test.h"

enum { DIMS = 4, PATH = 1200 };

/* FNV-1a. */
static uint64_t seed_of(const char *name)
{
    uint64_t h = 0xcbf29ce484222325;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3;
    return h;
}

/* The i-th number of splitmix64, -1 to 1. */
static double uniform(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    z ^= z >> 31;
    return (double)(z >> 40) / (1 << 24) * 2 - 1;
}

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), k = strlen(tail);
    return n >= k && !strcmp(name + n - k, tail);
}

/* Deviation of a tensor's values, and their mean. */
static double deviation_of(const char *name, int dims, int64_t fan_in, double *ret_mean)
{
    *ret_mean = dims < 2 && ends_with(name, "weight") ? 1 : 0;
    if (dims < 2)
        return 0.2;
    if (strstr(name, "token_embedding") || strstr(name, "position"))
        return 0.5;
    double gain = strstr(name, ".to_q.") || strstr(name, ".to_k.") ? 1.6 : 1;
    return gain / sqrt((double)fan_in);
}

static void add_tensor(struct st_writer *w, const char *name, const json_t *shape)
{
    int64_t d[DIMS], count = 1, fan_in = 1;
    int dims = (int)json_array_size(shape);
    double mean;
    assert_true(dims <= DIMS);
    for (int i = 0; i < dims; i++) {
        d[i] = json_integer_value(json_array_get(shape, (size_t)i));
        count *= d[i];
        fan_in *= i ? d[i] : 1;
    }
    double deviation = deviation_of(name, dims, fan_in, &mean);
    float *values = dr_malloc(DR_TAG_TEST, (size_t)count * sizeof *values);
    uint64_t seed = seed_of(name);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(uniform(seed, (uint64_t)i) * sqrt(3) * deviation + mean);
    st_writer_add(w, name, "F32", dims, d, values);
    dr_free(values);
}

static void write_weights(const char *path, const json_t *shapes, const json_t *marks)
{
    struct st_writer *w = st_writer_new();
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)shapes, name, value) add_tensor(w, name, value);
    json_object_foreach((json_t *)marks, name, value)
    {
        float values[16];
        int64_t d[DIMS], n = (int64_t)json_array_size(value);
        assert_true(n <= 16);
        for (int64_t i = 0; i < n; i++)
            values[i] = (float)json_number_value(json_array_get(value, (size_t)i));
        d[0] = n;
        st_writer_add(w, name, "F32", n > 1 ? 1 : 0, d, values);
    }
    st_writer_save(w, path);
    st_writer_free(w);
}

static void join(char dst[PATH], const char *folder, const char *name)
{
    snprintf(dst, PATH, "%s/%s", folder, name);
    char *last = strrchr(dst, '/');
    *last = '\0';
    test_make_dirs(dst);
    *last = '/';
}

static void make(const json_t *manifest, const char *folder)
{
    char path[PATH], from[PATH];
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(manifest, "files"), name, value)
    {
        join(path, folder, name);
        char *text = json_dumps(value, 0);
        test_write_text(path, text);
        dr_free(text);
    }
    json_object_foreach(json_object_get(manifest, "weights"), name, value)
    {
        join(path, folder, name);
        write_weights(path, value, json_object_get(manifest, "marks"));
    }
    json_object_foreach(json_object_get(manifest, "links"), name, value)
    {
        join(path, folder, name);
        snprintf(from, sizeof from, "%s/%s", test_source("testing/golden/odd/model"),
                 json_string_value(value));
        char *whole = realpath(from, NULL);
        assert_non_null(whole);
        assert_int_equal(symlink(whole, path), 0);
        free(whole);
    }
}

void made_model(const char *name, const char *folder, char *ret_path, size_t n)
{
    char path[PATH];
    struct dr_error err;
    json_t *manifest;
    snprintf(path, sizeof path, "%s/%s.json", test_source("testing/golden/families"), name);
    if (jx_parse_file(path, NULL, &manifest, &err) < 0)
        fail_msg("%s", err.text);
    const char *single = json_string_value(json_object_get(manifest, "single"));
    if (access(folder, F_OK))
        make(manifest, folder);
    snprintf(ret_path, n, "%s%s%s", folder, single ? "/" : "", single ? single : "");
    json_decref(manifest);
}
