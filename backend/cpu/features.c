/* features.c - cpuid, xgetbv, sched_getaffinity and cgroup files. */
#include "backend/cpu/features.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
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
#else
unsigned cpu_features(void)
{
    return 0;
}
#endif

int cpu_affinity_count(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

/* Two numbers of a small file; "max" reads as -1. The number of fields read. */
static int read_pair(const char *path, long long *first, long long *second)
{
    char text[96];
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    if (!strncmp(text, "max", 3)) {
        *first = -1;
        return 1;
    }
    return sscanf(text, "%lld %lld", first, second);
}

static int quota_cpus(long long quota, long long period, int best)
{
    if (quota <= 0 || period <= 0)
        return best;
    long long cpus = (quota + period - 1) / period;
    return cpus < best ? (int)cpus : best;
}

/* Path of this process in the hierarchy that holds the cpu controller, "" when unknown. */
static void cgroup_path(char *dst, size_t size, int *ret_version)
{
    char line[512];
    *ret_version = 2;
    dst[0] = '\0';
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f)
        return;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        controllers++;
        bool v1 = !strcmp(controllers, "cpu") || !strcmp(controllers, "cpu,cpuacct") ||
                  !strcmp(controllers, "cpuacct,cpu");
        if (*controllers && !v1)
            continue;
        snprintf(dst, size, "%s", path);
        *ret_version = v1 ? 1 : 2;
        if (v1)
            break;
    }
    fclose(f);
}

/* The tightest quota from the process's own group up to the root of what it sees. */
static int quota_limit(int best)
{
    char group[384], path[512];
    int version;
    cgroup_path(group, sizeof group, &version);
    for (;;) {
        long long quota = -1, period = -1;
        if (version == 2) {
            snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
            if (read_pair(path, &quota, &period) == 2)
                best = quota_cpus(quota, period, best);
        } else {
            long long ignored;
            snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", group);
            int got = read_pair(path, &quota, &ignored);
            snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", group);
            if (got && read_pair(path, &period, &ignored))
                best = quota_cpus(quota, period, best);
        }
        char *slash = strrchr(group, '/');
        if (!slash)
            return best;
        *slash = '\0';
    }
}

int cpu_count(void)
{
    int cpus = quota_limit(cpu_affinity_count());
    return cpus > 0 ? cpus : 1;
}
