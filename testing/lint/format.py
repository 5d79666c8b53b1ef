#!/usr/bin/env python3
"""The tree is as clang-format 14 with .clang-format leaves it."""
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

TOOL = "clang-format"


def check(text, source):
    done = subprocess.run([TOOL, "--dry-run", "-Werror", "--style=file", "--assume-filename",
                           os.path.join(source, "sample.c")], input=text, capture_output=True, text=True, check=False)
    return [done.stderr] if done.returncode else []


root = sys.argv[1]
try:
    subprocess.run([TOOL, "--version"], capture_output=True, check=True)
except (OSError, subprocess.CalledProcessError):
    sys.exit("clang-format is missing: install the Debian package clang-format")
tree.proof("format", [("int  f( void ){return 1;}\n", root)], [("int f(void);\n", root)], check)

paths = [os.path.join(root, p) for p in tree.files(root, ".c", ".h", ".inc")]
result = subprocess.run([TOOL, "--dry-run", "-Werror", "--style=file", *paths], capture_output=True, text=True,
                        check=False)
bad = sorted({line.split(": ")[0].replace(root + "/", "") for line in result.stderr.split("\n") if "error:" in line})
tree.finish([f"{place}: not formatted; run clang-format -i" for place in bad])
