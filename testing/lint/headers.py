#!/usr/bin/env python3
"""Every header compiles alone, as C11 (the public one as C99 too), and has the guard that its path asks for."""
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402


def compiler(build):
    """The one that the build uses."""
    try:
        with open(os.path.join(build, "CMakeCache.txt"), encoding="utf-8") as f:
            found = re.search(r"^CMAKE_C_COMPILER:\w+=(.+)$", f.read(), re.M)
            return found.group(1) if found else "cc"
    except OSError:
        return "cc"


def guard_of(path):
    name = re.sub(r"[^A-Za-z0-9]", "_", path).upper()
    return re.sub(r"^INCLUDE_", "", name) if path.startswith("include/") else "DR_" + name


def check_guard(path, text):
    guard = guard_of(path)
    code = tree.code(text).split()
    if code[:4] == ["#ifndef", guard, "#define", guard] and code[-1] == "#endif":
        return []
    return [f"{path}:1: must be wrapped in #ifndef {guard}, #define {guard}, #endif"]


def compile_alone(cc, source, path, standard):
    # Twice, so that a guard that does not guard shows.
    with tempfile.NamedTemporaryFile("w", suffix=".c") as f:
        f.write(f'#include "{path}"\n#include "{path}"\n')
        f.flush()
        done = subprocess.run([cc, "-fsyntax-only", f"-std={standard}", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
                               "-I", source, "-I/usr/include/libpng16", f.name], capture_output=True, text=True,
                              check=False)
    if done.returncode == 0:
        return []
    first = next((x for x in done.stderr.split("\n") if "error" in x), done.stderr.strip())
    return [f"{path}:1: does not compile alone as {standard}: {first}"]


source_root, build_root = sys.argv[1], sys.argv[2]
cc_path = compiler(build_root)

tree.proof("headers", [("base/x.h", "int x;\n"), ("base/x.h", "#ifndef X_H\n#define X_H\n#endif\n")],
           [("base/x.h", "/* x */\n#ifndef DR_BASE_X_H\n#define DR_BASE_X_H\nint x;\n#endif\n")], check_guard)
with tempfile.TemporaryDirectory() as folder:
    for sample in ("size_t f(void);\n", "static int x;\nint y = 1;\n"):
        with open(os.path.join(folder, "bad.h"), "w", encoding="ascii") as sample_file:
            sample_file.write(sample)
        if not compile_alone(cc_path, folder, "bad.h", "c11"):
            sys.exit(f"headers: self-test: {cc_path} took {sample!r}")

found = []
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    work = []
    for p in tree.files(source_root, ".h"):
        found += check_guard(p, tree.read(source_root, p))
        work.append(pool.submit(compile_alone, cc_path, source_root, p, "c11"))
        if p.startswith("include/"):
            work.append(pool.submit(compile_alone, cc_path, source_root, p, "c99"))
    for done in work:
        found += done.result()
tree.finish(found)
