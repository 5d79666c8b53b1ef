/* features.h - what this processor and its operating system can run. */
#ifndef DR_BACKEND_CPU_X86_FEATURES_H
#define DR_BACKEND_CPU_X86_FEATURES_H

enum cpu_feature {
    CPU_AVX2 = 1,   /* AVX2, FMA and F16C, registers saved by the system */
    CPU_AVX512 = 2, /* AVX-512 F, BW, DQ and VL, registers saved by the system */
    /* Beyond CPU_AVX512. */
    CPU_AVX512_BF16 = 4,
    CPU_AVX512_FP16 = 8,
    CPU_AVX512_VNNI = 16,
    /* Tiles with their products; the system has permitted this process to use them. */
    CPU_AMX_BF16 = 32,
    CPU_AMX_INT8 = 64,
};

unsigned cpu_features(void); /* or-ed cpu_feature flags */

#endif
