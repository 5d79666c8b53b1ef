/* fuzz_jpeg.c - libFuzzer target: any bytes as a JPEG file, with what its EXIF says. */
#include "testing/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const struct img_encode_options options = { .quality = 90 };
    static const char *const keys[] = { "parameters", NULL };
    fuzz_picture(IMG_JPEG, bytes, n, &options, keys, false);
    return 0;
}
