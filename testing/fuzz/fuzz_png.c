/* fuzz_png.c - libFuzzer target: any bytes as a PNG file, as they are and with the checksums of all
 * chunks put right, which random changes almost never leave right. */
#include "testing/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static uint32_t crc(const uint8_t *s, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= s[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

static void repair(uint8_t *bytes, size_t n)
{
    for (size_t at = 8; n >= 12 && at <= n - 12;) {
        uint8_t *h = bytes + at;
        size_t length = (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
        if (length > n - at - 12)
            return;
        uint32_t sum = crc(h + 4, length + 4);
        for (int i = 0; i < 4; i++)
            h[8 + length + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
        at += 12 + length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const struct img_encode_options options = { .level = 1 };
    fuzz_picture(IMG_PNG, bytes, n, &options, NULL, true);
    uint8_t *repaired = malloc(n ? n : 1);
    FUZZ_MUST(repaired);
    memcpy(repaired, bytes, n);
    repair(repaired, n);
    fuzz_picture(IMG_PNG, repaired, n, &options, NULL, true);
    free(repaired);
    return 0;
}
