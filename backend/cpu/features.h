/* features.h - what this processor and its operating system can run. */
#ifndef DR_BACKEND_CPU_FEATURES_H
#define DR_BACKEND_CPU_FEATURES_H

enum cpu_feature {
    CPU_AVX2 = 1,   /* AVX2, FMA and F16C, registers saved by the system */
    CPU_AVX512 = 2, /* AVX-512 F, BW, DQ and VL, registers saved by the system */
    CPU_AVX512_BF16 = 4,
};

unsigned cpu_features(void); /* or-ed cpu_feature flags */

/* Processors this process may use: affinity mask, cut by the cgroup's quota (v1 or v2), at least 1.
 */
int cpu_count(void);
/* The same without the quota. */
int cpu_affinity_count(void);

#endif
