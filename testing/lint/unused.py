#!/usr/bin/env python3
"""Product code has no function or variable that only its own file, or only a test, uses.

Read from the symbols of the built objects. A symbol with external linkage passes if
- another object of the product refers to it, or
- it is exported by libdarkroom, or is `main`, or
- its own file uses it, by name or as PREFIX_##name of a table, and a test does too: the inside of a file, opened for
  its test.
What is left is dead, or should be static.
"""
import glob
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

# What nothing in the product calls yet, or by design: {symbol: why}. As few as possible.
AWAITED = {
    "dr_alloc_reset_peak": "tests bound what a part of the program allocates",
    "dr_alloc_stats_all": "tests bound what a part of the program allocates",
    "dr_alloc_fail_at": "tests make the k-th allocation fail",
    "dr_alloc_fail_hit": "tests make the k-th allocation fail",
    "kernel_set_add": "kernel sets on emulated instructions, which only tests link, register here",
    "unet_trunk_context_new": "ControlNet: the trunk alone",
    "workspace_used": "tests compare what a stage leaves behind with nothing",
    "img_probe": "image to image: the size of a picture before it is decoded",
    "sched_add_noise": "image to image: a start at a later level",
    "denoise_load": "jobs that are resumed",
    "denoise_save": "jobs that are resumed",
    "denoise_state_size": "jobs that are resumed",
}


def used_in(text, symbol):
    """Whether its file uses what it defines: a second mention, or a table's macro that pastes the name."""
    if len(re.findall(rf"\b{re.escape(symbol)}\b", text)) > 1:
        return True
    return any(symbol.startswith(prefix) for prefix in re.findall(r"&?\b(\w+_)##\w+", text))


def check(defined, referred, texts, tests, exported):
    """defined: {symbol: file}; referred: {symbol: set of files}; texts: {file: code}; tests: code of all tests."""
    messages = []
    for symbol, path in sorted(defined.items(), key=lambda item: (item[1], item[0])):
        if referred.get(symbol, set()) - {path} or symbol in exported or symbol == "main" or symbol in AWAITED:
            continue
        own, tested = used_in(texts.get(path, ""), symbol), re.search(rf"\b{re.escape(symbol)}\b", tests)
        if not own:
            messages.append(f"{path}:1: {symbol}: nothing in the product uses it")
        elif not tested and not any(symbol.startswith(p) for p in re.findall(r"\b(\w+_)##\w+", texts[path])):
            messages.append(f"{path}:1: {symbol}: only this file uses it; make it static")
    return messages


A = "int f(void)\n{\n    return 1;\n}\n"
B = "int f(void)\n{\n    return 1;\n}\nint g(void)\n{\n    return f();\n}\n"
TABLE = "#define X(name) &kind_##name,\nconst int kind_a = 1;\n"
tree.proof("unused", [
    ({"f": "a.c"}, {}, {"a.c": A}, "", set()),
    ({"f": "a.c"}, {"f": {"a.c"}}, {"a.c": A}, "f();", set()),
    ({"f": "a.c", "g": "a.c"}, {"g": {"b.c"}}, {"a.c": B}, "", set()),
], [
    ({"f": "a.c"}, {"f": {"b.c"}}, {"a.c": A}, "", set()),
    ({"f": "a.c", "g": "a.c"}, {"g": {"b.c"}}, {"a.c": B}, "f();", set()),
    ({"f": "a.c"}, {}, {"a.c": A}, "", {"f"}),
    ({"main": "a.c", "kind_a": "b.c", "dr_alloc_fail_at": "b.c"}, {}, {"a.c": "", "b.c": TABLE}, "", set()),
], check)


def objects(source, build):
    """{object: its source file}, of the folders' libraries and the two programs."""
    found = {}
    folders = [f for f in glob.glob(os.path.join(build, "CMakeFiles", "dr_*.dir"))
               if os.path.basename(f) not in ("dr_emulated.dir", "dr_packing.dir")]  # for tests
    folders += [os.path.join(build, "CMakeFiles", f"{program}.dir") for program in ("darkroom", "darkroom-worker")]
    for folder in folders:
        for path in glob.glob(os.path.join(folder, "**", "*.c.o"), recursive=True):
            name = os.path.relpath(path, folder)[:-len(".o")]
            if not name.startswith("testing/") and os.path.exists(os.path.join(source, name)):
                found[path] = name
    return found


def symbols(found):
    defined, referred = {}, {}
    listing = subprocess.run(["nm", "-A", "-g", *found], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        path, _, rest = line.partition(":")
        words = rest.split()
        if words[0] == "U":
            referred.setdefault(words[1], set()).add(found[path])
        elif len(words) == 3 and not words[2].startswith("__"):
            defined[words[2]] = found[path]
    return defined, referred


source, build = sys.argv[1], sys.argv[2]
found = objects(source, build)
if not found:
    sys.exit(f"{build}: nothing is built")
defined, referred = symbols(found)
texts = {path: tree.code(tree.read(source, path)) for path in set(found.values())}
tests = "\n".join(tree.code(tree.read(source, p)) for p in tree.files(source, ".c", ".h") if p.startswith("testing/"))
exported = set(re.findall(r"^\s+(\w+);", tree.read(source, "cmake/libdarkroom.map"), re.M))
tree.finish(check(defined, referred, texts, tests, exported))
