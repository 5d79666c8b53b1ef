/* output.c - see output.h. */
#include "coordination/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path_text.h"
#include "base/base64.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sha256.h"

enum {
    NAME_BYTES = 100,
    PREFIX_BYTES = 60,
    DIGEST_LETTERS = 16,
    FILE_NAME_BYTES = NAME_BYTES + 40,
    TURNS = 1 << 24,
    TRIES = 1000,
    FILE_BYTES = 512 << 20,
    TEXT_BYTES = 1 << 20
};

/* Letters, digits, '_', '-', '.' inside; anything else becomes '_', so that an id can name no other
 * folder. A changed id gets a digest appended, so two ids never share a name. */
static int stem_of(const char *id, char dst[NAME_BYTES])
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
        snprintf(dst, NAME_BYTES, "%s", i ? safe : "picture");
        return 0;
    }
    int r = sha256_bytes(id, strlen(id), digest);
    if (r < 0)
        return r;
    sha256_hex(digest, hex);
    snprintf(dst, NAME_BYTES, "%.*s-%.*s", PREFIX_BYTES, safe, DIGEST_LETTERS, hex);
    return 0;
}

/* "STEM_000.png", and from the second on "STEM_000_2.png". */
static void name_file(const char *stem, int index, unsigned turn, const char *extension,
                      char dst[FILE_NAME_BYTES])
{
    if (turn < 2)
        snprintf(dst, FILE_NAME_BYTES, "%s_%03d.%s", stem, index, extension);
    else
        snprintf(dst, FILE_NAME_BYTES, "%s_%03d_%u.%s", stem, index, turn, extension);
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
    /* a JPEG has room for 64 KiB of metadata: without the receipt, then without any */
    while (r == DR_ELIMIT && options.text_count) {
        options.text_count--;
        dr_log_line(DR_LOG_WARN, "engine", "written without %s: %s",
                    options.text_count ? "the receipt" : "metadata", err->text);
        buf_clear(file);
        r = img_encode(image, (enum img_format)format, &options, file, err);
    }
    json_decref(json);
    buf_free(&infotext);
    buf_free(&receipt);
    return r;
}

static bool is_taken(int folder, const char *stem, int index, unsigned turn, const char *extension)
{
    char name[FILE_NAME_BYTES];
    struct stat st;
    name_file(stem, index, turn, extension, name);
    return !fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW);
}

/* Finds by doubling steps a number whose name is free while the one before is taken, so a full
 * folder costs few lookups. */
static unsigned free_turn(int folder, const char *stem, int index, const char *extension)
{
    unsigned taken = 0, step = 1;
    while (step < TURNS && is_taken(folder, stem, index, taken + step, extension)) {
        taken += step;
        step *= 2;
    }
    for (; step > 1; step /= 2)
        if (is_taken(folder, stem, index, taken + step / 2, extension))
            taken += step / 2;
    return taken + 1;
}

/* Gives the draft the first free name, safely against concurrent writers. */
static int publish(struct dr_draft *draft, const char *stem, int index, const char *extension,
                   char name[FILE_NAME_BYTES], const char *folder_path, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    for (int i = 0; i < TRIES; i++) {
        name_file(stem, index, free_turn(draft->folder, stem, index, extension), extension, name);
        if (!dr_draft_publish(draft, name))
            return 0;
        if (errno != EEXIST)
            break;
    }
    int saved = errno;
    if (dr_path_join(path, sizeof path, folder_path, name) < 0)
        snprintf(path, sizeof path, "%s", name);
    errno = saved;
    return dr_fail_errno(err, path, "create");
}

static int to_file(const struct output *o, const struct buf *file, int index, json_t **ret_entry,
                   struct dr_error *err)
{
    char stem[NAME_BYTES], name[FILE_NAME_BYTES], path[DR_PATH_MAX];
    const char *folder_path = request_text(o->request, FIELD_save_path);
    const char *extension = request_text(o->request, FIELD_format);
    struct dr_piece piece = { file->data, file->len };
    struct dr_draft draft = { .temporary = "" };
    int folder = -1;
    int r = stem_of(o->name, stem);
    if (r < 0)
        return dr_fail(err, r, "out of memory for a file's name");
    name_file(stem, index, 1, extension, name);
    if (dr_path_join(path, sizeof path, folder_path, name) < 0)
        return dr_fail_field(err, DR_ELIMIT, "save_path", folder_path, "a shorter path", NULL);
    r = roots_open_folder(o->roots, "save_path", folder_path, true, &folder, err);
    if (!r)
        r = dr_draft_write(&draft, folder, path, &piece, 1, true, err);
    if (!r)
        r = publish(&draft, stem, index, extension, name, folder_path, err);
    dr_draft_drop(&draft);
    if (folder >= 0)
        close(folder);
    if (!r && dr_path_join(path, sizeof path, folder_path, name) < 0)
        r = dr_fail_field(err, DR_ELIMIT, "save_path", folder_path, "a shorter path", NULL);
    if (r < 0)
        return r;
    *ret_entry = path_text_json(path);
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
    /* the entry first, so that nothing fails after delivery */
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
                 json_t **ret_entry, json_t **ret_path, struct dr_error *err)
{
    enum output_kind kind = output_kind(o->request, o->sink);
    *ret_path = NULL;
    if (kind == OUTPUT_CALLBACK)
        return to_sink(o, image, index, ret_entry, err);
    struct buf file;
    buf_init(&file, DR_TAG_IMAGE, FILE_BYTES);
    int r = encode(o, image, index, &file, err);
    if (!r && request_has(o->request, FIELD_save_path))
        r = to_file(o, &file, index, ret_path, err);
    if (!r && kind == OUTPUT_PATH)
        *ret_entry = json_incref(*ret_path);
    else if (!r)
        r = to_base64(&file, ret_entry, err);
    if (r < 0) {
        json_decref(*ret_path);
        *ret_path = NULL;
    }
    buf_free(&file);
    return r;
}
