/* picture.c - see fuzz_picture in fuzz.h. */
#include "testing/fuzz/fuzz.h"

#include <string.h>

/* Larger pictures only take time; that a file claims to be large and is not is tried below it as
 * well. Pictures above the second size are not encoded again. */
enum { DECODED_PIXELS = 1 << 18, ENCODED_PIXELS = 1 << 12 };

/* A key as PNG's specification wants it, of the part of Latin-1 that is ASCII. */
static bool plain_key(const char *key)
{
    size_t n = strlen(key);
    if (!n || n > 79 || key[0] == ' ' || key[n - 1] == ' ' || strstr(key, "  "))
        return false;
    for (; *key; key++)
        if (*key < 0x20 || *key > 0x7e)
            return false;
    return true;
}

static bool carried(const struct img_pair *pair, const char *const *keys)
{
    if (!keys)
        return plain_key(pair->key);
    for (; *keys; keys++)
        if (!strcmp(*keys, pair->key))
            return true;
    return false;
}

static size_t choose_texts(const struct img_texts *texts, const char *const *keys,
                           struct img_text *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < texts->count; i++) {
        const struct img_pair *pair = &texts->pairs[i];
        bool repeated = img_texts_find(texts, pair->key) != pair->value;
        if (!repeated && carried(pair, keys))
            ret[n++] = (struct img_text){ pair->key, pair->value };
    }
    return n;
}

static void must_survive(enum img_format format, const struct dr_image *image,
                         const struct img_encode_options *options, bool exact)
{
    struct dr_image again;
    struct img_texts texts = { NULL, 0 };
    struct dr_error err = { 0 };
    struct buf file;
    buf_init(&file, DR_TAG_TEST, 0);
    int r = img_encode(image, format, options, &file, &err);
    FUZZ_MUST_SAY(!r, err.text);
    r = img_decode(file.data, file.len, image->channels, &again, &texts, &err);
    FUZZ_MUST_SAY(!r, err.text);
    FUZZ_MUST(again.width == image->width && again.height == image->height);
    size_t size = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
    FUZZ_MUST(!exact || !memcmp(again.pixels, image->pixels, size));
    for (size_t i = 0; i < options->text_count; i++) {
        const char *kept = img_texts_find(&texts, options->texts[i].key);
        FUZZ_MUST_SAY(kept && !strcmp(kept, options->texts[i].value), options->texts[i].key);
    }
    img_free(&again);
    img_texts_free(&texts);
    buf_free(&file);
}

static void check_decoded(enum img_format format, const struct dr_image *image,
                          const struct img_texts *texts, const struct img_encode_options *options,
                          const char *const *keys, bool exact)
{
    static struct img_text chosen[64];
    struct img_encode_options with = *options;
    if (image->width * image->height > ENCODED_PIXELS)
        return;
    with.texts = chosen;
    with.text_count = choose_texts(texts, keys, chosen);
    must_survive(format, image, &with, exact);
}

void fuzz_picture(enum img_format format, const uint8_t *bytes, size_t n,
                  const struct img_encode_options *options, const char *const *keys, bool exact)
{
    struct dr_image image = { 0, 0, 0, NULL };
    struct img_texts texts = { NULL, 0 };
    struct dr_error err = { 0 };
    int64_t width = 0, height = 0;
    if (img_sniff(bytes, n) != (int)format)
        return;
    int probed = img_probe(bytes, n, &width, &height, &err);
    if (probed)
        fuzz_must_explain(probed, &err);
    else if (width <= IMG_MAX_EDGE && height <= IMG_MAX_EDGE && width * height > DECODED_PIXELS)
        return;
    int r = img_decode(bytes, n, 0, &image, &texts, &err);
    if (r) {
        fuzz_must_explain(r, &err);
        FUZZ_MUST(!image.pixels && !texts.pairs);
    } else {
        FUZZ_MUST(!probed && image.width == width && image.height == height);
        FUZZ_MUST(image.channels == 1 || image.channels == 3 || image.channels == 4);
        check_decoded(format, &image, &texts, options, keys, exact);
    }
    img_free(&image);
    img_texts_free(&texts);
    fuzz_must_be_clean();
}
