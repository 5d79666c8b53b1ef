#!/usr/bin/env python3
"""Writes testing/golden/rng/normals.json: what torch.randn draws, and Philox normals by another implementation.

CPU: torch 2.15 itself. CUDA: numpy, written from the definition in Salmon et al. 2011 and curand's Box-Muller,
vectorised over elements, sharing nothing with base/rng.c. Each case is a generator, a sequence of calls and
every `stride`-th of the values drawn.

    python3 tools/golden/rng.py
"""
import json
import os

import numpy as np
import torch

OUT = os.path.join(os.path.dirname(__file__), "..", "..", "testing", "golden", "rng", "normals.json")

CALLS = [
    (0, [1], 1), (0, [16], 1), (42, [2, 1, 4], 1), (42, [15, 16, 1], 1), (1, [17, 33, 3, 3], 1),
    (2**32 - 1, [100], 1), (2**32 + 5, [5, 40], 1), (2**63 - 1, [7, 31, 8, 32], 1),
    (1234, [16384, 65536], 997), (7, [4 * 13 * 9, 4 * 13 * 9, 1, 1], 11),
]


def cpu(seed, calls):
    g = torch.Generator().manual_seed(seed)
    return np.concatenate([torch.randn(n, generator=g).numpy() for n in calls])


def philox(counter, key):
    """counter: uint64 array [4, n] of 32-bit values; key: two ints. Ten rounds."""
    mask = np.uint64(0xFFFFFFFF)
    c = [x.copy() for x in counter]
    k = list(key)
    for _ in range(10):
        p0 = c[0] * np.uint64(0xD2511F53)
        p1 = c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), p1 & mask,
             (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), p0 & mask]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def cuda(seed, calls):
    parts = []
    for call, n in enumerate(calls):
        i = np.arange(n, dtype=np.uint64)
        counter = [np.full(n, call, np.uint64), np.zeros(n, np.uint64),
                   i & np.uint64(0xFFFFFFFF), i >> np.uint64(32)]
        x, y, _, _ = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
        f = np.float32
        u = x.astype(f) * f(2.0**-32) + f(2.0**-33)
        v = y.astype(f).astype(np.float64) * f(2 * np.pi * 2.0**-32) + f(2 * np.pi * 2.0**-32) / f(2)
        v = v.astype(f)
        parts.append((np.sqrt(-2 * np.log(u.astype(np.float64))) * np.sin(v.astype(np.float64))).astype(f))
    return np.concatenate(parts)


cases = []
for kind, draw in (("cpu", cpu), ("cuda", cuda)):
    for seed, calls, stride in CALLS:
        values = draw(seed, calls)[::stride]
        cases.append({"kind": kind, "seed": seed, "calls": calls, "stride": stride,
                      "values": [float(f"{v:.9g}") for v in values]})
with open(OUT, "w", encoding="ascii") as f:
    f.write(json.dumps({"torch": torch.__version__.split("+")[0], "cases": cases}).replace("}, {", "},\n{") + "\n")
