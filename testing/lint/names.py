#!/usr/bin/env python3
"""One name, one thing: no two files of the product are called the same, and no two structures.

The worker's half of a verb of the command line is coordination/engine_VERB.c. Structures of kernel templates (.inc)
are exempt, as they are alternatives that no file includes together.
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

OUTSIDE = ("testing/", "tools/", "examples/")
DEFINITION = re.compile(r"^(?:static |const |typedef )*(?:struct|union|enum) (\w+)\s*\{", re.M)


def check(present):
    """present: {path: text} of the tree."""
    files, structures, messages = {}, {}, []
    for path, text in sorted(present.items()):
        if path.startswith(OUTSIDE):
            continue
        name = os.path.basename(path)
        if name in files:
            messages.append(f"{path}:1: another file is called {name}: {files[name]}")
        files.setdefault(name, path)
        if path.endswith(".inc"):
            continue
        code = tree.code(text)
        for m in DEFINITION.finditer(code):
            where = f"{path}:{tree.line_of(code, m.start())}"
            if m.group(1) in structures:
                messages.append(f"{where}: another {m.group(1)} is defined in {structures[m.group(1)]}")
            structures.setdefault(m.group(1), where)
    return messages


tree.proof("names", [
    ({"cli/check.c": "", "coordination/check.c": ""},),
    ({"cli/output.h": "", "coordination/output.h": ""},),
    ({"a/x.c": "struct job {\n    int a;\n};\n", "b/y.h": "struct job\n{\n    int b;\n};\n"},),
    ({"a/x.c": "static const struct walk { int a; } w;\n", "b/y.c": "struct walk {\n};\n"},),
], [
    ({"cli/check.c": "", "cli/check.h": "", "testing/check.c": "struct a {\n};\n", "b/b.c": "struct a {\n};\n"},),
    ({"a/x.inc": "struct own {\n};\n", "a/y.inc": "struct own {\n};\n"},),
    ({"a/x.c": "struct job *f(void);\nstatic struct job j;\n", "b/y.c": "struct job {\n};\n"},),
], check)

source = sys.argv[1]
tree.finish(check({p: tree.read(source, p) for p in tree.files(source, ".c", ".h", ".inc", ".def")}))
