/* fuzz_webp.c - libFuzzer target: any bytes as a WebP file, with what its EXIF says. */
#include "testing/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const struct img_encode_options options = { .lossless = 1 };
    static const char *const keys[] = { "parameters", NULL };
    fuzz_picture(IMG_WEBP, bytes, n, &options, keys, true);
    return 0;
}
