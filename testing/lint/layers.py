#!/usr/bin/env python3
"""Who may include whom: ranks and sides of the folders, as data. See docs/architecture.md.

A file may include its own folder's files and those of folders with a lower rank whose side suits its own: both may
include both; service may include service and both; engine may include engine and both.
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

# folder: (rank, side). The longest folder that fits counts; its subfolders belong to it.
FOLDERS = {
    "base": (0, "both"),
    "include": (0, "engine"),
    "tensor": (1, "engine"),
    "backend": (2, "engine"),  # the seam: its headers and backends.def
    "backend/ops": (2.1, "engine"),
    "backend/cache": (2.1, "engine"),
    "backend/*.c": (2.2, "engine"),  # the half of every backend that is the same
    "backend/plan": (2.3, "engine"),
    "backend/check": (2.3, "engine"),
    "backend/cpu": (2.3, "engine"),
    "backend/cpu/kernels": (2.4, "engine"),
    "backend/cpu/x86": (2.5, "engine"),
    "backend/cpu/portable": (2.5, "engine"),
    "core/communication": (3, "both"),
    "core": (3, "engine"),
    "schedulers": (3, "engine"),
    "models": (3, "engine"),
    "queue": (3, "service"),
    "conditioning": (4, "engine"),
    "postprocessing": (4, "engine"),
    "inference": (5, "engine"),
    "bench": (6, "engine"),
    "quantize": (6, "engine"),
    "coordination": (7, "engine"),
    "coordination/supervisor": (6, "service"),
    "http": (7, "service"),
    "cli": (8, "service"),
}
# Folders that may include less than their rank permits, and the one pair of equal rank.
ONLY = {"schedulers": {"base"}, "core/communication": {"base"}, "queue": {"base"}, "include": set()}
EQUAL = {("core", "core/communication")}
# Folders that only files below the same folder may include: a device is reached through backend/device.h.
PRIVATE = ("backend/cpu",)
# Headers for one folder and those below it.
INSIDE = {"backend/vtable.h": "backend"}
FREE = ("testing/", "tools/", "docs/", "examples/")  # may include everything
SIDES = {"both": {"both"}, "service": {"service", "both"}, "engine": {"engine", "both"}}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(?:"([^"]*)"|<([^>]*)>)', re.M)


def folder_of(path):
    if re.fullmatch(r"backend/[^/]+\.c", path):
        return "backend/*.c"
    parts = path.split("/")[:-1]
    for n in range(len(parts), 0, -1):
        if "/".join(parts[:n]) in FOLDERS:
            return "/".join(parts[:n])
    return None


def permitted(own, other):
    if own == other:
        return True
    if own in ONLY:
        return other in ONLY[own]
    (rank, side), (other_rank, other_side) = FOLDERS[own], FOLDERS[other]
    if any(other.startswith(p) and not own.startswith(p) for p in PRIVATE):
        return False
    lower = other_rank < rank or (own, other) in EQUAL
    return lower and other_side in SIDES[side]


def check(path, text, present):
    """present: set of all paths of the tree."""
    messages = []
    own = folder_of(path)
    if own is None and not path.startswith(FREE):
        return [f"{path}:1: this folder has no rank; give it one in testing/lint/layers.py"]
    includes = [(tree.line_of(text, m.start()), m.group(1), m.group(2))
                for m in INCLUDE.finditer(tree.without_comments(text))]
    for line, quoted, angled in includes:
        if angled is not None:
            if angled in present:
                messages.append(f"{path}:{line}: <{angled}> is a file of ours: include it in quotes")
            continue
        if quoted not in present:
            messages.append(f'{path}:{line}: "{quoted}": no such file from the root')
            continue
        other = folder_of(quoted)
        if own is None:
            continue
        if other is None or not permitted(own, other) or not own.startswith(INSIDE.get(quoted, "")):
            messages.append(f'{path}:{line}: {own} must not include "{quoted}"')
    header = re.sub(r"\.c$", ".h", path)
    if path.endswith(".c") and header in present and (not includes or includes[0][1] != header):
        messages.append(f'{path}:1: must include "{header}" before anything else')
    return messages


PRESENT = {"base/a.h", "base/b.h", "tensor/t.h", "backend/backend.h", "schedulers/s.h", "models/m.h", "cli/c.h",
           "core/communication/q.h", "core/w.h", "coordination/supervisor/s.h", "coordination/e.h",
           "backend/ops/o.h", "backend/cache/p.h", "backend/check/k.h", "backend/cpu/c.h", "backend/cpu/kernels/g.inc",
           "backend/cpu/x86/f.h", "backend/vtable.h"}
tree.proof("layers", [
    ("base/x.c", '#include "tensor/t.h"\n', PRESENT),
    ("base/a.c", '#include "base/b.h"\n#include "base/a.h"\n', PRESENT),
    ("base/a.c", '#include <stdio.h>\n#include "base/a.h"\n', PRESENT),
    ("models/x.c", '#include "schedulers/s.h"\n', PRESENT),
    ("schedulers/x.c", '#include "tensor/t.h"\n', PRESENT),
    ("cli/x.c", '#include "backend/backend.h"\n', PRESENT),
    ("coordination/x.c", '#include "coordination/supervisor/s.h"\n', PRESENT),
    ("coordination/supervisor/x.c", '#include "coordination/e.h"\n', PRESENT),
    ("backend/ops/x.c", '#include "backend.h"\n', PRESENT),
    ("core/communication/x.c", '#include "core/w.h"\n', PRESENT),
    ("backend/x.h", '#include "backend/ops/o.h"\n', PRESENT),
    ("backend/x.c", '#include "backend/cpu/c.h"\n', PRESENT),
    ("backend/ops/x.c", '#include "backend/cache/p.h"\n', PRESENT),
    ("backend/check/x.c", '#include "backend/cpu/c.h"\n', PRESENT),
    ("backend/cpu/x.c", '#include "backend/cpu/x86/f.h"\n', PRESENT),
    ("backend/cpu/kernels/x.inc", '#include "backend/cpu/x86/f.h"\n', PRESENT),
    ("models/x.c", '#include "backend/cpu/c.h"\n', PRESENT),
    ("models/x.c", '#include "backend/vtable.h"\n', PRESENT),
    ("base/x.c", "#include <base/a.h>\n", PRESENT),
    ("nowhere/x.c", "int x;\n", PRESENT),
], [
    ("base/a.c", '/* "x" */\n#include "base/a.h"\n#include <stdio.h>\n', PRESENT),
    ("cli/x.c", '#include "coordination/supervisor/s.h"\n#include "core/communication/q.h"\n', PRESENT),
    ("core/x.c", '#include "core/communication/q.h"\n#include "backend/backend.h"\n', PRESENT),
    ("backend/x.c", '#include "backend/ops/o.h"\n#include "backend/cache/p.h"\n', PRESENT),
    ("backend/check/x.c", '#include "backend/ops/o.h"\n#include "backend/backend.h"\n', PRESENT),
    ("backend/cpu/x.c", '#include "backend/vtable.h"\n', PRESENT),
    ("backend/cpu/x86/x.c", '#include "backend/cpu/c.h"\n#include "backend/cpu/kernels/g.inc"\n', PRESENT),
    ("models/x.c", '#include "backend/ops/o.h"\n#include "backend/cache/p.h"\n', PRESENT),
    ("models/x.c", '/* #include "cli/c.h" */\n#include "backend/backend.h"\n', PRESENT),
    ("testing/x.c", '#include "cli/c.h"\n#include "models/m.h"\n', PRESENT),
], check)

source = sys.argv[1]
paths = tree.files(source, ".c", ".h", ".inc", ".def")
everything = set(paths)
found = []
for p in paths:
    found += check(p, tree.read(source, p), everything)
tree.finish(found)
