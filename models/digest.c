/* digest.c - see digest.h. */
#include "models/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/fs.h"
#include "models/digest_cache.h"

static const char format[] = "darkroom model 2\n";

struct hashing {
    const struct digest_options *opt;
    char cache[DR_PATH_MAX]; /* "" for none */
    uint64_t before, total;  /* bytes of files done already, and of all */
    struct dr_error *err;
};

static void report(void *ctx, uint64_t done, uint64_t total)
{
    const struct hashing *h = ctx;
    (void)total;
    if (h->opt->progress)
        h->opt->progress(h->opt->ctx, h->before + done, h->total);
}

/* A change of nothing but the time of change is a link or a name more or less: the digest is right,
 * but what it is remembered by is not. */
static int hash_weights(struct hashing *h, const struct model_file *f, char ret_hex[SHA256_HEX])
{
    struct stat st;
    if (h->cache[0] && digest_cache_find(h->cache, &f->key, ret_hex)) {
        report(h, f->key.size, f->key.size);
        return 0;
    }
    int r = sha256_fd(f->fd, f->path, h->opt->stop, report, h, ret_hex, h->err);
    if (!r && fstat(f->fd, &st))
        r = dr_fail_errno(h->err, f->path, "examine");
    if (r)
        return r;
    struct digest_key after = digest_key_of(&st);
    if (after.size != f->key.size || after.mtime_ns != f->key.mtime_ns)
        return dr_fail(h->err, DR_EIO, "%s: was changed after it was opened", f->path);
    if (h->cache[0] && digest_key_equal(&after, &f->key))
        digest_cache_add(h->cache, &f->key, ret_hex);
    return 0;
}

static int hash_file(struct hashing *h, const struct model_file *f, char ret_hex[SHA256_HEX])
{
    int r = 0;
    if (f->hex[0])
        memcpy(ret_hex, f->hex, SHA256_HEX);
    else
        r = hash_weights(h, f, ret_hex);
    h->before += f->key.size;
    return r;
}

static int by_name(const void *a, const void *b)
{
    const struct model_file *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int hash_lines(struct hashing *h, const struct model_file *const *files, size_t n,
                      struct buf *lines)
{
    int r = buf_puts(lines, format);
    for (size_t i = 0; i < n; i++) {
        char hex[SHA256_HEX];
        if (r)
            break;
        int failed = hash_file(h, files[i], hex);
        if (failed)
            return failed;
        r = buf_printf(lines, "%s %llu %s\n", files[i]->name,
                       (unsigned long long)files[i]->key.size, hex);
    }
    return r ? dr_fail(h->err, DR_ENOMEM, "out of memory to hash a model") : 0;
}

static int hash_folder(struct hashing *h, const struct model_file **files, size_t n,
                       char ret_hex[SHA256_HEX])
{
    struct buf lines;
    uint8_t digest[SHA256_BYTES];
    buf_init(&lines, DR_TAG_FILE, 0);
    qsort(files, n, sizeof *files, by_name);
    int r = hash_lines(h, files, n, &lines);
    if (!r && (r = sha256_bytes(buf_text(&lines), lines.len, digest)))
        dr_fail(h->err, r, "out of memory to hash a model");
    if (!r)
        sha256_hex(digest, ret_hex);
    buf_free(&lines);
    return r;
}

/* Without a place for the cache nothing is remembered. */
static int find_cache(struct hashing *h)
{
    if (!h->opt->cache && dr_cache_path(h->cache, sizeof h->cache, "digests", NULL))
        h->cache[0] = '\0';
    if (h->opt->cache &&
        snprintf(h->cache, sizeof h->cache, "%s", h->opt->cache) >= (int)sizeof h->cache)
        return dr_fail(h->err, DR_ELIMIT, "the cache's path is too long");
    return 0;
}

static uint64_t bytes_of(const struct model_files *m)
{
    const struct model_file *f;
    uint64_t total = 0;
    for (size_t i = 0; (f = model_files_at(m, i)); i++)
        total += f->kind == MODEL_FILE_PRESENT ? f->key.size : 0;
    return total;
}

static int hash_model(struct hashing *h, const struct model_files *m, char ret_hex[SHA256_HEX])
{
    const struct model_file *files[MODEL_FILES_MAX], *f;
    size_t n = 0;
    for (size_t i = 0; (f = model_files_at(m, i)); i++)
        if (f->kind == MODEL_FILE_PRESENT)
            files[n++] = f;
    if (model_files_is_folder(m))
        return hash_folder(h, files, n, ret_hex);
    return n ? hash_file(h, files[0], ret_hex)
             : dr_fail(h->err, DR_EINTERNAL, "%s: was not opened", model_files_path(m));
}

int digest_files(const struct model_files *m, const struct digest_options *opt,
                 char ret_hex[SHA256_HEX], struct dr_error *err)
{
    const struct digest_part alone = { "model", m };
    return digest_parts(&alone, 1, opt, ret_hex, err);
}

/* The text that the digests of all parts make. */
static int hash_parts(struct hashing *h, const struct digest_part *parts, int n,
                      char ret_hex[SHA256_HEX])
{
    struct buf lines;
    uint8_t digest[SHA256_BYTES];
    buf_init(&lines, DR_TAG_FILE, 0);
    int r = 0, made = buf_puts(&lines, "darkroom parts 1\n");
    for (int i = 0; !r && !made && i < n; i++) {
        char hex[SHA256_HEX];
        r = hash_model(h, parts[i].files, hex);
        made = r ? 0 : buf_printf(&lines, "%s %s\n", parts[i].name, hex);
    }
    if (!r && (made || sha256_bytes(buf_text(&lines), lines.len, digest)))
        r = dr_fail(h->err, DR_ENOMEM, "out of memory to hash a model");
    if (!r)
        sha256_hex(digest, ret_hex);
    buf_free(&lines);
    return r;
}

int digest_parts(const struct digest_part *parts, int n, const struct digest_options *opt,
                 char ret_hex[SHA256_HEX], struct dr_error *err)
{
    static const struct digest_options none;
    struct hashing h = { .opt = opt ? opt : &none, .err = err };
    for (int i = 0; i < n; i++)
        h.total += bytes_of(parts[i].files);
    int r = find_cache(&h);
    if (r)
        return r;
    return n == 1 ? hash_model(&h, parts[0].files, ret_hex) : hash_parts(&h, parts, n, ret_hex);
}
