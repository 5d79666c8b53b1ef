#!/usr/bin/env python3
"""Kernels and references give the same bits from gcc and from clang: the digests of every case of the checker."""
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

PROGRAM = "test_backend_check"
OTHERS = {"release": "clang", "clang": "release"}


def check(one, other):
    if len(one) < 2 or len(one) != len(other):
        return [f"{PROGRAM}: {len(one)} digests in one build, {len(other)} in the other"]
    return [f"{PROGRAM}: {a} from one compiler, {b} from the other" for a, b in zip(one, other) if a != b]


def digests(program):
    done = subprocess.run([program, "--digests"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if not done.returncode else []


tree.proof("compilers", [(["a 1", "b 2"], ["a 1", "b 3"]), (["a 1", "b 2"], ["a 1"]), ([], [])],
           [(["a 1", "b 2"], ["a 1", "b 2"])], check)

build = os.path.abspath(sys.argv[2])
name = OTHERS.get(os.path.basename(build))
other = os.path.join(os.path.dirname(build), name or "", PROGRAM)
if not name or not os.path.exists(other):
    missing = f"no second build to compare with: {other}" if name else "a build of another mode"
    if os.environ.get("CI"):
        sys.exit(missing)
    print(missing)
    sys.exit(tree.SKIPPED)
tree.finish(check(digests(os.path.join(build, PROGRAM)), digests(other)))
