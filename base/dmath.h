/* dmath.h - the same bits on every machine and compiler.
 *
 * libm's exp, log, sin, cos, pow and erf may differ between versions and processors in the
 * last bit, and a picture with them. These use IEEE double add, multiply, divide and conversions
 * only (each exact by the standard, round to nearest assumed) and no contraction. Errors are below
 * 1 ulp of double (1.3 for dr_erf); rounded to float they are the correctly
 * rounded value but for rare near-ties. Special values follow C99 annex F.
 */
#ifndef DR_BASE_DMATH_H
#define DR_BASE_DMATH_H

double dr_exp(double x);
double dr_expm1(double x);
double dr_log(double x);
double dr_log1p(double x);
double dr_sin(double x); /* |x| up to 2^32; NaN beyond */
double dr_cos(double x); /* likewise */
double dr_pow(double x, double y);
double dr_erf(double x);

#endif
