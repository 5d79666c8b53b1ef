/* features.c - cpuid and xgetbv. */
#include "backend/cpu/x86/features.h"

#include <stdbool.h>

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* XCR0: which register files the operating system saves. */
static unsigned saved_registers(void)
{
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

/* The registers of tiles are large: Linux gives them to processes that ask (arch_prctl, since
 * 5.16). Asking again does nothing. */
static bool tiles_permitted(unsigned saved)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return (saved & 0x60000) == 0x60000 && !syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA);
}

/* What came after AVX-512's first parts: bits of leaf 7, by number since older headers lack names.
 */
static unsigned later_features(unsigned saved)
{
    unsigned a, b, c, d, a1, b1, c1, d1, found = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1))
        return 0;
    if (c >> 11 & 1)
        found |= CPU_AVX512_VNNI;
    if (d >> 23 & 1)
        found |= CPU_AVX512_FP16;
    if (a1 >> 5 & 1)
        found |= CPU_AVX512_BF16;
    if ((d >> 24 & 1) && tiles_permitted(saved))
        found |= (d >> 22 & 1 ? CPU_AMX_BF16 : 0u) | (d >> 25 & 1 ? CPU_AMX_INT8 : 0u);
    return found;
}

unsigned cpu_features(void)
{
    unsigned a, b, c, d, c1, found = 0;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || !(c1 & bit_OSXSAVE))
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    unsigned saved = saved_registers();
    if ((saved & 0x6) == 0x6 && (c1 & bit_FMA) && (c1 & bit_F16C) && (b & bit_AVX2))
        found |= CPU_AVX2;
    if ((saved & 0xe6) == 0xe6 && (b & bit_AVX512F) && (b & bit_AVX512BW) && (b & bit_AVX512DQ) &&
        (b & bit_AVX512VL))
        found |= CPU_AVX512 | later_features(saved);
    return found;
}
