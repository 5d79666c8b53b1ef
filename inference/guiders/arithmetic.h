/* arithmetic.h - sums over arrays, in double and in one order, for the guiders. */
#ifndef DR_INFERENCE_GUIDERS_ARITHMETIC_H
#define DR_INFERENCE_GUIDERS_ARITHMETIC_H

#include <stddef.h>

static inline double guider_dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* What the sum of the difference a - b's squares is. */
static inline double guider_distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

#endif
