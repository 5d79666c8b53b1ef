/* inspect_picture.c - the receipt that Darkroom writes, and the infotext that other programs write
 * too. Pixels are decoded, so that a damaged file is noticed. */
#include "coordination/inspect_picture.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path_text.h"
#include "base/fs.h"
#include "base/image/image.h"
#include "base/json.h"

enum { FILE_BYTES = 512 << 20, HEAD = 16 };

bool is_picture(int fd)
{
    char head[HEAD];
    struct stat st;
    bool regular = !fstat(fd, &st) && S_ISREG(st.st_mode);
    ssize_t n = regular ? pread(fd, head, sizeof head, 0) : 0;
    return img_sniff(head, n > 0 ? (size_t)n : 0) >= 0;
}

/* "receipt", or "receipt_error" where the text is none. */
static int add_receipt(const char *text, json_t *data)
{
    json_t *receipt;
    struct dr_error err = { 0 };
    int r = jx_parse(text, strlen(text), NULL, "receipt", &receipt, &err);
    if (r == DR_ENOMEM)
        return r;
    if (!r && !json_is_object(receipt)) {
        json_decref(receipt);
        r = dr_fail(&err, DR_EFORMAT, "receipt: not a JSON object");
    }
    return r < 0 ? jx_set(data, "receipt_error", json_string(err.text))
                 : jx_set(data, "receipt", receipt);
}

/* Keys of texts that are not ours, with their bytes. */
static int add_others(const struct img_texts *texts, json_t *data)
{
    json_t *others = NULL;
    int r = 0;
    for (size_t i = 0; !r && i < texts->count; i++) {
        const struct img_pair *t = &texts->pairs[i];
        if (!strcmp(t->key, "parameters") || !strcmp(t->key, "darkroom"))
            continue;
        if (!others)
            others = json_object();
        r = jx_set(others, t->key, json_integer((json_int_t)strlen(t->value)));
    }
    if (!others)
        return r;
    if (!r)
        return jx_set(data, "other_texts", others);
    json_decref(others);
    return r;
}

static int describe(const struct dr_image *image, const struct img_texts *texts, const char *format,
                    const char *path, size_t bytes, json_t *data)
{
    const char *parameters = img_texts_find(texts, "parameters");
    const char *receipt = img_texts_find(texts, "darkroom");
    int r = jx_set(data, "path", path_text_json(path));
    if (!r)
        r = jx_set(data, "kind", json_string("picture"));
    if (!r)
        r = jx_set(data, "format", json_string(format));
    if (!r)
        r = jx_set(data, "width", json_integer(image->width));
    if (!r)
        r = jx_set(data, "height", json_integer(image->height));
    if (!r)
        r = jx_set(data, "file_bytes", json_integer((json_int_t)bytes));
    if (!r && parameters)
        r = jx_set(data, "parameters", json_string(parameters));
    if (!r && receipt)
        r = add_receipt(receipt, data);
    return r ? r : add_others(texts, data);
}

int inspect_picture(int fd, const char *path, json_t **ret_data, struct dr_error *err)
{
    struct buf file;
    struct dr_image image = { 0 };
    struct img_texts texts = { NULL, 0 };
    buf_init(&file, DR_TAG_IMAGE, FILE_BYTES);
    int r = dr_read_fd(fd, path, FILE_BYTES, &file, err);
    if (!r && (r = img_decode(file.data, file.len, 0, &image, &texts, err)) < 0)
        dr_while(err, r, "reading %s", path);
    json_t *data = r < 0 ? NULL : json_object();
    if (!r) {
        const char *format = img_format_name(
            (enum img_format)img_sniff(file.data, file.len < HEAD ? file.len : HEAD));
        r = data ? describe(&image, &texts, format, path, file.len, data) : DR_ENOMEM;
        if (r < 0)
            dr_fail(err, r, "out of memory for the answer");
    }
    img_texts_free(&texts);
    img_free(&image);
    buf_free(&file);
    if (r < 0)
        json_decref(data);
    else
        *ret_data = data;
    return r;
}
