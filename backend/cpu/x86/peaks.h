/* peaks.h - the loops of peaks.def. */
#ifndef DR_BACKEND_CPU_X86_PEAKS_H
#define DR_BACKEND_CPU_X86_PEAKS_H

#include "backend/cpu/cpu_arch.h"

#define FAMILY(name, needs, flops) cpu_peak_loop cpu_peak_loop__##name;
#include "backend/cpu/x86/peaks.def"

#endif
