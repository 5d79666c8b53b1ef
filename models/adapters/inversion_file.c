/* inversion_file.c - see inversion_file.h. */
#include "models/adapters/inversion_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

enum { FILE_BYTES_MAX = 64 << 20 };

static bool begins(const char *name, const char *prefix)
{
    return !strncmp(name, prefix, strlen(prefix));
}

static int fail_tensor(const char *path, const struct st_tensor *t, const char *expected,
                       struct dr_error *err)
{
    char shape[160], got[240], field[160];
    snprintf(field, sizeof field, "%.90s: tensor %.50s", path, t->name);
    snprintf(got, sizeof got, "%s %s", dtype_name(t->dtype),
             shape_text(&t->shape, shape, sizeof shape));
    return dr_fail_field(err, DR_EFORMAT, field, got, expected, NULL);
}

static bool is_number(enum dtype t)
{
    return t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16 || t == DTYPE_F64;
}

static int take_part(const char *path, const struct st_tensor *t, enum inversion_role role,
                     struct inversion_part *ret, struct dr_error *err)
{
    const struct shape *s = &t->shape;
    struct inversion_part part = { .tensor = t, .role = role };
    if (!is_number(t->dtype) || s->n < 1 || s->n > 2)
        return fail_tensor(path, t, "the vectors of an embedding: real numbers [vectors, width]",
                           err);
    part.n = s->n == 2 ? s->d[0] : 1;
    part.width = s->d[s->n - 1];
    if (part.n < 1 || part.width < 1)
        return fail_tensor(path, t, "one vector or more", err);
    *ret = part;
    return 0;
}

/* Numbers that AUTOMATIC1111 keeps beside the vectors. */
static bool is_beside(const char *name)
{
    return begins(name, "string_to_token") || !strcmp(name, "step");
}

/* Adds the tensor to the parts, of which there may be one for each role. */
static int add_part(const char *path, const struct st_tensor *t, struct inversion_part *parts,
                    int *n, struct dr_error *err)
{
    enum inversion_role role = !strcmp(t->name, "clip_l")   ? INVERSION_FIRST
                               : !strcmp(t->name, "clip_g") ? INVERSION_SECOND
                                                            : INVERSION_ANY;
    if (*n == INVERSION_PARTS || (*n && (role == INVERSION_ANY || parts[0].role == INVERSION_ANY)))
        return fail_tensor(path, t,
                           "one tensor, or clip_l and clip_g: this is no textual inversion, or one "
                           "of several words, which are not supported in one file",
                           err);
    int r = take_part(path, t, role, &parts[*n], err);
    *n += !r;
    return r;
}

int inversion_parts(const struct st_header *h, const char *path,
                    struct inversion_part ret_parts[INVERSION_PARTS], int *ret_n,
                    struct dr_error *err)
{
    struct inversion_part parts[INVERSION_PARTS];
    int n = 0, r = 0;
    for (size_t i = 0; !r && i < h->n_tensors; i++)
        if (!is_beside(h->tensors[i].name))
            r = add_part(path, &h->tensors[i], parts, &n, err);
    if (!r && !n)
        r = dr_fail(err, DR_EFORMAT, "%s: no tensor of a textual inversion", path);
    if (r < 0)
        return r;
    /* tensors come by name, clip_g before clip_l */
    bool swap = n == 2 && parts[0].role == INVERSION_SECOND;
    for (int i = 0; i < n; i++)
        ret_parts[i] = parts[swap ? n - 1 - i : i];
    *ret_n = n;
    return 0;
}

/* "<cat>", which is no name of a format but of the word itself. */
static bool is_token(const char *name)
{
    size_t n = strlen(name);
    return n > 2 && name[0] == '<' && name[n - 1] == '>';
}

static const struct {
    int64_t first, second; /* width of a part; 0: none */
    const char *fits;
} families[] = {
    { 768, 1280, "SDXL" },
    { 768, 0, "Stable Diffusion 1.x, and the first text encoder of SDXL" },
    { 1024, 0, "Stable Diffusion 2.x" },
    { 1280, 0, "the second text encoder of SDXL, and its refiner" },
};

const char *inversion_fits(const struct inversion_part *parts, int n)
{
    int64_t first = parts[0].width, second = n > 1 ? parts[1].width : 0;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (families[i].first == first && families[i].second == second)
            return families[i].fits;
    return "models with text encoders of these widths";
}

const char *inversion_encoder(const struct inversion_part *part)
{
    bool second = part->role == INVERSION_SECOND ||
                  (part->role == INVERSION_ANY && part->width == families[0].second);
    return second ? "text_encoder_2" : "text_encoder";
}

bool inversion_likely(const struct st_header *h)
{
    struct inversion_part parts[INVERSION_PARTS];
    int n;
    if (inversion_parts(h, "", parts, &n, NULL) < 0)
        return false;
    const char *name = parts[0].tensor->name;
    return parts[0].role != INVERSION_ANY || !strcmp(name, "emb_params") ||
           begins(name, "string_to_param") || is_token(name);
}

static int no_memory(const char *path, struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "%s: out of memory for a textual inversion", path);
}

static int read_part(const struct safetensors *st, const struct inversion_part *part, int64_t most,
                     struct inversion_file *f, struct dr_error *err)
{
    char got[80], expected[120], field[160];
    int64_t count = part->n * part->width;
    const struct st_tensor *t = part->tensor;
    snprintf(field, sizeof field, "%.90s: tensor %.50s", f->path, t->name);
    if (part->n > most) {
        snprintf(got, sizeof got, "%lld vectors", (long long)part->n);
        snprintf(expected, sizeof expected,
                 "at most %lld, the tokens of a text that an encoder reads", (long long)most);
        return dr_fail_field(err, DR_ELIMIT, field, got, expected, NULL);
    }
    float *v = dr_malloc(DR_TAG_JOB, (size_t)count * sizeof *v);
    if (!v)
        return no_memory(f->path, err);
    int at = f->n_parts++;
    f->part[at].role = part->role;
    f->part[at].n = part->n;
    f->part[at].width = part->width;
    f->part[at].vectors = v;
    snprintf(f->part[at].name, sizeof f->part[at].name, "%s", t->name);
    dtype_to_f32(v, st_data(st, t), t->dtype, count);
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(v[i])) {
            snprintf(got, sizeof got, "%g in vector %lld", (double)v[i],
                     (long long)(i / part->width));
            return dr_fail_field(err, DR_EFORMAT, field, got, "finite numbers", NULL);
        }
    return 0;
}

static int read_open(const struct safetensors *st, int64_t most, struct inversion_file *f,
                     struct dr_error *err)
{
    struct inversion_part parts[INVERSION_PARTS];
    uint8_t digest[SHA256_BYTES];
    char got[40];
    int n = 0;
    if (st->map.size > FILE_BYTES_MAX) {
        snprintf(got, sizeof got, "%zu bytes", st->map.size);
        return dr_fail_field(err, DR_ELIMIT, f->path, got, "a textual inversion of at most 64 MiB",
                             NULL);
    }
    int r = inversion_parts(&st->header, f->path, parts, &n, err);
    for (int i = 0; !r && i < n; i++)
        r = read_part(st, &parts[i], most, f, err);
    if (!r && n == 1 && is_token(parts[0].tensor->name) &&
        !(f->token = dr_strdup(DR_TAG_JOB, parts[0].tensor->name)))
        r = no_memory(f->path, err);
    if (!r && (r = sha256_bytes(st->map.data, st->map.size, digest)) < 0)
        r = dr_fail(err, r, "%s: no digest: %s", f->path, dr_code_meaning(r));
    if (!r)
        sha256_hex(digest, f->hex);
    int changed = st_check(st, r ? NULL : err); /* what was read may be none of the file's */
    return r ? r : changed;
}

int inversion_read(int fd, const char *path, int64_t most, struct inversion_file *ret,
                   struct dr_error *err)
{
    struct inversion_file f = { .path = dr_strdup(DR_TAG_JOB, path) };
    struct safetensors st;
    int r = f.path ? st_open_fd(fd, path, &st, err) : no_memory(path, err);
    if (r < 0) {
        dr_free(f.path);
        return r;
    }
    r = read_open(&st, most < INVERSION_VECTORS ? most : INVERSION_VECTORS, &f, err);
    st_close(&st);
    if (r < 0)
        inversion_release(&f);
    else
        *ret = f;
    return r;
}

void inversion_release(struct inversion_file *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->n_parts; i++)
        dr_free(f->part[i].vectors);
    dr_free(f->path);
    dr_free(f->token);
    memset(f, 0, sizeof *f);
}
