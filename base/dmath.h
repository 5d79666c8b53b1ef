/* dmath.h - the same bits on every machine and compiler.
 *
 * libm's exp, log, sin, cos, pow, erf and tanh may differ between versions and processors in the
 * last bit, and a picture with them. These use IEEE double add, multiply, divide and sqrt only
 * (each exact by the standard), no contraction, no table from elsewhere. Error below 1 ulp or so of
 * double (dr_pow 2); rounded to float they are the correctly rounded value but for rare ties.
 * Special values follow C99 annex F.
 */
#ifndef DR_BASE_DMATH_H
#define DR_BASE_DMATH_H

double dr_exp(double x);
double dr_expm1(double x);
double dr_log(double x);
double dr_log1p(double x);
double dr_sin(double x); /* |x| up to 1e5 at full precision; up to 2^40 within an absolute 1e-10 */
double dr_cos(double x);
double dr_tan(double x);
double dr_atan(double x);
double dr_pow(double x, double y);
double dr_erf(double x);
double dr_tanh(double x);

#endif
