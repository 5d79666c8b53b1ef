/* peak_amx_bf16.c - the peak of TDPBF16PS; the text is peak_amx.inc. */
#define MULTIPLY(sum, a, b) _tile_dpbf16ps(sum, a, b)
#include "backend/cpu/x86/peak_amx.inc"

double cpu_peak_loop__amx_bf16(int64_t turns, const float *seed, float *ret_sink)
{
    uint16_t data[4 * TILE_ROWS * TILE_BYTES / 2];
    for (int i = 0; i < (int)(sizeof data / sizeof *data); i++) {
        uint32_t bits;
        memcpy(&bits, &seed[i % CPU_PEAK_SEEDS], sizeof bits);
        bits = bits * 0x9e3779b1u + (uint32_t)i;
        data[i] = (uint16_t)(0x3f80 | (bits >> 16 & 0x7f) | (bits >> 8 & 0x8000)); /* +-1 to 2 */
    }
    return multiply_tiles(turns, data, ret_sink);
}
