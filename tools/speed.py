#!/usr/bin/env python3
"""One line of speed, to be read by people: a fixed network against the peak that this processor reaches at the same time.

usage: speed.py DARKROOM FILE     measures with that program and appends the line's numbers to FILE (JSON lines)

It never fails: no speed is demanded, and a machine that cannot measure says so.
"""
import datetime
import json
import subprocess
import sys

CASE = "vae_decode_512"  # a whole network, 12 s on two cores with AVX2, 0.8 GB
darkroom, path = sys.argv[1:3]


def measure():
    command = [darkroom, "bench", "--only", CASE, "--json", "--config", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    answer = json.loads(done.stdout)
    if not answer.get("success"):
        raise ValueError(answer.get("error"))
    return answer, answer["cases"][0]


def commit():
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


try:
    bench, case = measure()
    text = f"speed: {CASE} {case['seconds']:.2f} s, {bench['kernel_set']}, {bench['threads']} threads"
    if case["fraction_of_peak"]:
        ratio = 1 / case["fraction_of_peak"]
        text += f", {ratio:.2f} times what its multiplications take at the peak of {bench['family']} ({100 / ratio:.0f} % of peak)"
    print(text + (", noisy: the machine does other work" if case["noisy"] else ""))
    record = {"date": datetime.datetime.now().isoformat(timespec="seconds"), "commit": commit(), "kernels": bench["kernel_set"], **case}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
except (OSError, ValueError, KeyError, IndexError, TypeError, subprocess.TimeoutExpired) as problem:
    print(f"speed: not measured: {problem}")
