/* request_image.c - see request_image.h.
 *
 * A text may be a path, a data URL or base64. It counts as base64 if no file has that name and it
 * decodes to the beginning of a picture.
 */
#include "coordination/request_image.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/fs.h"

enum { FILE_BYTES = 256 << 20, SHOWN = 40 };

static int fail_text(const char *field, const char *text, const struct dr_error *why,
                     struct dr_error *err)
{
    char got[SHOWN + 8];
    snprintf(got, sizeof got, "%.*s%s", SHOWN, text, strlen(text) > SHOWN ? "..." : "");
    return dr_fail_field(err, DR_EINVAL, field, got, "a path, a data URL or base64 of a picture",
                         why->text);
}

/* "data:image/png;base64,....": what is behind the comma. */
static int read_url(const char *field, const char *text, struct buf *dst, struct dr_error *err)
{
    struct dr_error inner = { 0 };
    const char *comma = strchr(text, ',');
    static const char base64[] = ";base64";
    size_t n = sizeof base64 - 1;
    bool is_base64 = comma && (size_t)(comma - text) >= n && !strncasecmp(comma - n, base64, n);
    if (!is_base64)
        return dr_fail_field(err, DR_EINVAL, field, "a data URL that is not base64",
                             "data:image/png;base64,...", NULL);
    return base64_decode(comma + 1, strlen(comma + 1), true, dst, &inner) < 0
               ? fail_text(field, text, &inner, err)
               : 0;
}

static bool is_base64(const char *text, struct buf *dst)
{
    struct dr_error ignored;
    if (base64_decode(text, strlen(text), true, dst, &ignored) == 0 &&
        img_sniff(dst->data, dst->len) >= 0)
        return true;
    buf_clear(dst);
    return false;
}

static int read_file(const struct roots *roots, const char *field, const char *path,
                     struct buf *dst, struct dr_error *err)
{
    int fd, r = roots_open(roots, field, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0, &fd,
                           err);
    if (r < 0)
        return r;
    r = dr_read_fd(fd, path, FILE_BYTES, dst, err);
    close(fd);
    return r < 0 ? dr_while(err, r, "reading %s", field) : 0;
}

static int read_bytes(const struct roots *roots, const char *field, const char *text,
                      struct buf *dst, bool *ret_inline, struct dr_error *err)
{
    struct dr_error inner = { 0 };
    *ret_inline = true;
    if (!strncasecmp(text, "data:", 5))
        return read_url(field, text, dst, err);
    if (strlen(text) >= DR_PATH_MAX) {
        int r = base64_decode(text, strlen(text), true, dst, &inner);
        return r < 0 ? fail_text(field, text, &inner, err) : 0;
    }
    *ret_inline = access(text, F_OK) != 0 && is_base64(text, dst);
    return *ret_inline ? 0 : read_file(roots, field, text, dst, err);
}

static int digest_of(const struct buf *file, char ret_hex[SHA256_HEX], struct dr_error *err)
{
    uint8_t digest[SHA256_BYTES];
    int r = sha256_bytes(file->data, file->len, digest);
    if (r < 0)
        return dr_fail(err, r, "no digest of a picture: %s", dr_code_meaning(r));
    sha256_hex(digest, ret_hex);
    return 0;
}

int request_image_read(const struct roots *roots, const char *field, const char *text,
                       const char *wanted, struct request_image *ret, struct dr_error *err)
{
    struct buf file;
    char name[64];
    memset(ret, 0, sizeof *ret);
    buf_init(&file, DR_TAG_IMAGE, FILE_BYTES);
    int r = read_bytes(roots, field, text, &file, &ret->is_inline, err);
    if (!r)
        r = digest_of(&file, ret->sha256, err);
    if (!r && *wanted && strcasecmp(wanted, ret->sha256)) {
        snprintf(name, sizeof name, "%.40s_sha256", field);
        r = dr_fail_field(err, DR_EINVAL, name, ret->sha256, wanted,
                          "the picture is not the one that was drawn from");
    }
    if (!r && (r = img_decode(file.data, file.len, 0, &ret->picture, NULL, err)) < 0)
        dr_while(err, r, "%s %s", field, ret->is_inline ? "in the request" : text);
    buf_free(&file);
    return r;
}

bool request_image_transparent(const struct dr_image *image)
{
    size_t n = (size_t)image->width * (size_t)image->height;
    for (size_t i = 0; image->channels == 4 && i < n; i++)
        if (image->pixels[4 * i + 3] != 255)
            return true;
    return false;
}
