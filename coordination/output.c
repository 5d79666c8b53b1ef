/* output.c - see output.h. */
#include "coordination/output.h"

#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sha256.h"

enum {
    NAME_BYTES = 100,
    PREFIX_BYTES = 60,
    DIGEST_LETTERS = 16,
    FILE_BYTES = 512 << 20,
    TEXT_BYTES = 1 << 20
};

/* Letters, digits, '_', '-', '.' inside; anything else becomes '_', so that an id can name no other
 * folder. What is not the whole id then has a digest of it behind: two ids never share a file. */
static int file_name(const char *id, int index, const char *extension, char *dst, size_t n)
{
    uint8_t digest[SHA256_BYTES];
    char safe[NAME_BYTES], hex[SHA256_HEX];
    size_t i = 0;
    bool whole = true;
    for (; id[i] && i + 1 < sizeof safe; i++) {
        char c = id[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-' || (c == '.' && i);
        safe[i] = ok ? c : '_';
        whole = whole && ok;
    }
    safe[i] = '\0';
    if (whole && !id[i]) {
        snprintf(dst, n, "%s_%03d.%s", i ? safe : "picture", index, extension);
        return 0;
    }
    int r = sha256_bytes(id, strlen(id), digest);
    if (r < 0)
        return r;
    sha256_hex(digest, hex);
    snprintf(dst, n, "%.*s-%.*s_%03d.%s", PREFIX_BYTES, safe, DIGEST_LETTERS, hex, index,
             extension);
    return 0;
}

static int encode(const struct output *o, const struct dr_image *image, int index, struct buf *file,
                  struct dr_error *err)
{
    struct buf infotext, receipt;
    json_t *json = NULL;
    struct img_text texts[2];
    struct img_encode_options options = { .quality = (int)request_int(o->request, FIELD_quality),
                                          .stop = o->stop };
    int format = img_format_of(request_text(o->request, FIELD_format)), r = 0;
    buf_init(&infotext, DR_TAG_JOB, TEXT_BYTES);
    buf_init(&receipt, DR_TAG_JOB, TEXT_BYTES);
    if (request_flag(o->request, FIELD_metadata)) {
        r = receipt_infotext(o->job, o->facts, index, &infotext);
        json = receipt_json(o->job, o->facts, index);
        if (!r)
            r = json ? jx_dump(json, &receipt) : DR_ENOMEM;
        texts[0] = (struct img_text){ "parameters", buf_text(&infotext) };
        texts[1] = (struct img_text){ "darkroom", buf_text(&receipt) };
        options.texts = texts;
        options.text_count = 2;
    }
    if (r < 0)
        dr_fail(err, r, "cannot describe the picture: %s", dr_code_meaning(r));
    else
        r = img_encode(image, (enum img_format)format, &options, file, err);
    if (r == DR_ELIMIT && options.text_count) { /* a picture is worth more than its words */
        dr_log_line(DR_LOG_WARN, "engine", "written without metadata: %s", err->text);
        options.text_count = 0;
        buf_clear(file);
        r = img_encode(image, (enum img_format)format, &options, file, err);
    }
    json_decref(json);
    buf_free(&infotext);
    buf_free(&receipt);
    return r;
}

static int to_file(const struct output *o, const struct buf *file, int index, json_t **ret_entry,
                   struct dr_error *err)
{
    char name[NAME_BYTES + 32], path[DR_PATH_MAX];
    const char *folder = request_text(o->request, FIELD_save_path);
    int r = file_name(o->name, index, request_text(o->request, FIELD_format), name, sizeof name);
    r = r < 0 ? dr_fail(err, r, "out of memory for a file's name") : dr_mkdirs(folder, err);
    if (!r && dr_path_join(path, sizeof path, folder, name) < 0)
        r = dr_fail_field(err, DR_ELIMIT, "save_path", folder, "a shorter path", NULL);
    if (!r)
        r = dr_write_file(path, file->data, file->len, err);
    if (r < 0)
        return r;
    *ret_entry = json_string(path);
    return *ret_entry ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}

static int to_base64(const struct buf *file, json_t **ret_entry, struct dr_error *err)
{
    struct buf text;
    buf_init(&text, DR_TAG_JOB, 0);
    int r = base64_encode(file->data, file->len, &text);
    *ret_entry = r < 0 ? NULL : json_stringn(text.data, text.len);
    buf_free(&text);
    return *ret_entry ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}

static int to_sink(const struct output *o, const struct dr_image *image, int index,
                   json_t **ret_entry, struct dr_error *err)
{
    /* the entry first: what is delivered should not fail for want of it */
    json_t *entry = json_integer(index);
    if (!entry)
        return dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    if (o->sink->fn(o->sink->user, o->name, index, (int)image->width, (int)image->height,
                    (size_t)image->width * (size_t)image->channels, image->channels,
                    image->pixels)) {
        json_decref(entry);
        return dr_fail(err, DR_ECANCELED, "cancelled by the image callback");
    }
    *ret_entry = entry;
    return 0;
}

enum output_kind output_kind(const struct request *request, const struct image_sink *sink)
{
    if (request_flag(request, FIELD_return_base64))
        return OUTPUT_BASE64;
    if (request_has(request, FIELD_save_path))
        return OUTPUT_PATH;
    return sink->fn ? OUTPUT_CALLBACK : OUTPUT_BASE64;
}

const char *output_encoding(enum output_kind kind)
{
    static const char *const names[] = {
        [OUTPUT_PATH] = "path", [OUTPUT_BASE64] = "base64", [OUTPUT_CALLBACK] = "callback"
    };
    return names[kind];
}

int output_image(const struct output *o, const struct dr_image *image, int index,
                 json_t **ret_entry, struct dr_error *err)
{
    enum output_kind kind = output_kind(o->request, o->sink);
    if (kind == OUTPUT_CALLBACK)
        return to_sink(o, image, index, ret_entry, err);
    struct buf file;
    buf_init(&file, DR_TAG_IMAGE, FILE_BYTES);
    int r = encode(o, image, index, &file, err);
    if (!r)
        r = kind == OUTPUT_PATH ? to_file(o, &file, index, ret_entry, err)
                                : to_base64(&file, ret_entry, err);
    buf_free(&file);
    return r;
}
