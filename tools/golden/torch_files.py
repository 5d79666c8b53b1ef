#!/usr/bin/env python3
"""Writes testing/golden/torch: small files of torch.save, and files that its reader must refuse.

plain.pt: a dictionary of tensors of all types and layouts; nested.ckpt: a checkpoint with "state_dict" and other
values; parameters.bin: a module's state; protocol4.pt: the same with another pickle protocol; values.safetensors: what
the tensors of plain.pt are. calls.pt: a pickle that would run a command (it only prints); legacy.pt: the form before 1.6.

    python3 tools/golden/torch_files.py
"""
import collections
import os

import torch
from safetensors.torch import save_file

OUT = os.path.join(os.path.dirname(__file__), "..", "..", "testing", "golden", "torch")


class Calls:
    def __reduce__(self):
        return print, ("this was run",)


def main():
    torch.manual_seed(15)
    base = torch.randn(4, 6)
    tensors = {
        "a.weight": base, "a.transposed": base.t(), "a.slice": base[1:3, 2:5], "a.row": base[2],
        "b.half": torch.randn(5).half(), "b.bfloat16": torch.randn(3, 2).bfloat16(), "b.double": torch.randn(2).double(),
        "c.long": torch.arange(4), "c.int": torch.arange(3, dtype=torch.int32), "c.short": torch.arange(3).short(),
        "c.char": torch.tensor([-3, 4]).char(), "c.byte": torch.tensor([200]).byte(), "c.bool": torch.tensor([True, False]),
        "d.scalar": torch.tensor(2.5), "d.empty": torch.zeros(0, 3), "d.n\u00f3": torch.ones(1),
    }
    path = lambda name: os.path.join(OUT, name)
    torch.save(tensors, path("plain.pt"))
    torch.save(tensors, path("protocol4.pt"), pickle_protocol=4)
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, path("values.safetensors"))
    torch.save({"epoch": 3, "lr": 0.5, "betas": [1, 2.5, None], "flags": (True, False),
                "state_dict": collections.OrderedDict(tensors)}, path("nested.ckpt"))
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save({"inner": module.state_dict(), "outer": module[0].weight}, path("parameters.bin"))
    torch.save({"x": torch.ones(1), "y": Calls()}, path("calls.pt"))
    torch.save({"x": torch.ones(1)}, path("legacy.pt"), _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
