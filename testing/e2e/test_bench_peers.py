#!/usr/bin/env python3
"""tools/bench_peers/run.py compares where `darkroom bench` has no peak: null in its JSON. Both sides are scripts here."""
import json
import os
import subprocess
import sys
import tempfile

ROOT = sys.argv[1]
CASE = {"name": "unet_512", "seconds": 2.0, "fraction_of_peak": None, "peak_before": None, "peak_after": None, "cores": None,
        "noisy": False}
ANSWER = {"kernel_set": "scalar", "family": "none", "peaks": {}, "cases": [CASE]}
PEER = {"seconds": 3.0, "cores": 1.0, "others": 0.0}


def script(path, answer):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    os.chmod(path, 0o755)
    return path


with tempfile.TemporaryDirectory() as folder:
    darkroom = script(os.path.join(folder, "darkroom"), ANSWER)
    script(os.path.join(folder, "venv/bin/python"), PEER)
    command = [sys.executable, os.path.join(ROOT, "tools/bench_peers/run.py"), "--darkroom", darkroom, "--rounds", "1", "--threads", "2"]
    command += ["--venv", os.path.join(folder, "venv"), "--work", folder, "--out", os.path.join(folder, "table"), "--isa", "native"]
    command += ["--cases", "unet_512", "--peers", "torch_f32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"status {done.returncode}: {done.stdout}{done.stderr}")
    with open(os.path.join(folder, "table.json"), encoding="utf-8") as file:
        row = json.load(file)["rows"][0]
    assert row["case"] == "unet_512" and row["fraction_of_peak"] is None, row
    assert row["best_peer"] == "torch_f32" and row["peers"]["torch_f32"]["ratio"] == 1.5, row
