/* peak_amx_int8.c - the peak of TDPBSSD; the text is peak_amx.inc. */
#define MULTIPLY(sum, a, b) _tile_dpbssd(sum, a, b)
#include "backend/cpu/x86/peak_amx.inc"

double cpu_peak_loop__amx_int8(int64_t turns, const float *seed, float *ret_sink)
{
    uint32_t data[4 * TILE_ROWS * TILE_BYTES / 4];
    for (int i = 0; i < (int)(sizeof data / sizeof *data); i++) {
        memcpy(&data[i], &seed[i % CPU_PEAK_SEEDS], sizeof *data);
        data[i] *= 0x9e3779b1u;
    }
    return multiply_tiles(turns, data, ret_sink);
}
