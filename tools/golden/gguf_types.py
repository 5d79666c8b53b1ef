#!/usr/bin/env python3
"""Writes testing/golden/gguf: blocks of each quantised type of GGUF and their values, by the package gguf.

TYPE.blocks.npy: random bytes as blocks, with finite scales; TYPE.values.npy: what gguf.quants.dequantize makes of them.
source.npy: numbers; Q8_0.written.npy: what gguf.quants.quantize makes of them. small.gguf: those blocks as tensors, and
entries of every type, by gguf.GGUFWriter. float8.npy: all 256 codes of float8_e4m3fn and float8_e5m2 by torch.

    python3 tools/golden/gguf_types.py
"""
import os

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T

OUT = os.path.join(os.path.dirname(__file__), "..", "..", "testing", "golden", "gguf")
TYPES = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K]
# where a block has half-precision numbers
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
ELEMENTS = 768


def blocks_of(kind, rng):
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    n = ELEMENTS // elements
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in HALVES[kind]:
        scales = (rng.standard_normal(n) * 0.01).astype(np.float16)
        scales[0] = 6e-8  # below the normal numbers
        blocks[:, at:at + 2] = scales.view(np.uint8).reshape(n, 2)
    return blocks


def entries(w):
    w.add_uint8("a.uint8", 250)
    w.add_int8("a.int8", -5)
    w.add_uint16("a.uint16", 65000)
    w.add_int16("a.int16", -300)
    w.add_uint32("a.uint32", 4000000000)
    w.add_int32("a.int32", -70000)
    w.add_float32("a.float32", 0.5)
    w.add_bool("a.bool", True)
    w.add_string("a.string", "n\u00f3 one")
    w.add_uint64("a.uint64", 1 << 60)
    w.add_int64("a.int64", -(1 << 60))
    w.add_float64("a.float64", 0.1)
    w.add_array("a.strings", ["one", "two", ""])
    w.add_array("a.numbers", [1, 2, 3])
    w.add_array("comfy.gguf.orig_shape.reshaped", [4, 2, 96])


def main():
    rng = np.random.default_rng(15)
    w = gguf.GGUFWriter(os.path.join(OUT, "small.gguf"), "sdxl")
    w.add_custom_alignment(64)
    entries(w)
    for kind in TYPES:
        blocks = blocks_of(kind, rng)
        np.save(os.path.join(OUT, f"{kind.name}.blocks.npy"), blocks)
        np.save(os.path.join(OUT, f"{kind.name}.values.npy"), gguf.quants.dequantize(blocks, kind))
        w.add_tensor(kind.name, blocks.reshape(3, -1), raw_dtype=kind)
        if kind == T.Q8_0:
            w.add_tensor("reshaped", blocks.reshape(3, -1), raw_dtype=kind)
    halves = np.arange(-3, 4, dtype=np.float16).reshape(7, 1) * np.float16(0.1)
    w.add_tensor("f16", halves)
    w.add_tensor("f32", np.arange(5, dtype=np.float32))
    w.add_tensor("bf16", gguf.quants.quantize(np.arange(6, dtype=np.float32).reshape(2, 3), T.BF16), raw_dtype=T.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()

    source = (rng.standard_normal((8, 256)) * np.exp(rng.standard_normal((8, 256)))).astype(np.float32) * 0.05
    source[0, :32] = 0
    source[1, 0] = 1e-7
    source[2, :64] = np.arange(64) - 31.5  # halves between two numbers
    np.save(os.path.join(OUT, "source.npy"), source)
    np.save(os.path.join(OUT, "Q8_0.written.npy"), gguf.quants.quantize(source, T.Q8_0))

    codes = torch.arange(256, dtype=torch.uint8)
    both = torch.stack([codes.view(t).float() for t in (torch.float8_e4m3fn, torch.float8_e5m2)])
    np.save(os.path.join(OUT, "float8.npy"), both.numpy())


if __name__ == "__main__":
    main()
