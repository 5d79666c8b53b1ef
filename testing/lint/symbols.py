#!/usr/bin/env python3
"""The service holds no engine: `darkroom` has no symbol of a network, a scheduler, an op or a kernel."""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

ENGINE = re.compile(r"^(?:unet|op|sched|backend|weight|vae|clip|gemm|safetensors|guidance|workspace)_\w+$|^cpu_\w+__\w+$")
OURS = re.compile(r"^(?:dr|jx|buf|cli|main|request)_?\w*$")  # shows that the binary was not stripped


def check(names):
    if not any(OURS.match(n) for n in names):
        return ["build/darkroom: has no symbols to look at (stripped?)"]
    return [f"build/darkroom: {n} belongs to the engine" for n in names if ENGINE.match(n)]


tree.proof("symbols", [(["main", "unet_forward"],), (["dr_free", "sched_euler"],), ([],), (["main", "op_info_linear"],)],
           [(["main", "dr_free", "buf_append", "openat", "option_x", "supervisor_start"],)], check)

binary = os.path.join(sys.argv[2], "darkroom")
if not os.path.exists(binary):
    sys.exit(f"{binary}: not built")
listing = subprocess.run(["nm", "--defined-only", binary], capture_output=True, text=True, check=True).stdout
tree.finish(check([line.split()[-1] for line in listing.split("\n") if line.split()]))
