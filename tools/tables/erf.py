#!/usr/bin/env python3
"""Writes base/erf.def: polynomials of the error function for base/dmath.c.

One polynomial per interval of width 1/2 from 0.5 to 6, in t = x - centre: the Chebyshev interpolant of degree 15,
computed with 60 digits (its error is below 2^-60). Needs mpmath 1.3.

    python3 tools/tables/erf.py > base/erf.def
"""
from mpmath import mp, mpf, chebyfit, erf

mp.dps = 60
DEGREE = 15

print("/* Made by tools/tables/erf.py. ERF(centre, coefficients of t^0, t^1, ... t^15), t = x - centre. */")
for i in range(11):
    centre = mpf(i) / 2 + mpf(3) / 4
    down, err = chebyfit(lambda t: erf(centre + t), [-0.25, 0.25], DEGREE + 1, error=True)
    assert err < mpf(2) ** -60, err
    up = [float(c).hex() for c in reversed(down)]
    rows = [", ".join(up[k:k + 3]) for k in range(0, len(up), 3)]
    print(f"ERF({float(centre)},\n    " + ",\n    ".join(rows) + ")")
