#!/usr/bin/env python3
"""Files of at most 1,000 lines, functions of at most 150, lines of at most 100 columns; no tabs, no trailing blanks.

Pages too have 100 columns, but for tables, blocks of code, long pieces of code and the addresses of links.
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

FILE, FUNCTION, COLUMNS = 1000, 150, 100
TABLES = (".def",)  # lines of data may be long


def check_page(path, lines):
    messages, code = [], False
    for n, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            code = not code
        shown = re.sub(r"\]\([^)]*\)", "]", line)
        shown = re.sub(r"`[^`]{60,}`", "", shown)
        if not code and not line.lstrip().startswith("|") and len(shown) > COLUMNS:
            messages.append(f"{path}:{n}: {len(shown)} columns, at most {COLUMNS}")
    return messages


def check(path, text):
    messages = []
    lines = text.split("\n")
    if path.endswith(".md"):
        return check_page(path, lines)
    if lines and lines[-1] == "":
        lines.pop()
    else:
        messages.append(f"{path}:{len(lines)}: the last line has no end")
    if len(lines) > FILE:
        messages.append(f"{path}:{FILE + 1}: {len(lines)} lines, at most {FILE}")
    if not path.endswith((".c", ".h", ".inc", ".def")):
        return messages
    start = 0
    for n, line in enumerate(lines, 1):
        if len(line) > COLUMNS and not path.endswith(TABLES):
            messages.append(f"{path}:{n}: {len(line)} columns, at most {COLUMNS}")
        if "\t" in line:
            messages.append(f"{path}:{n}: a tab")
        if line != line.rstrip():
            messages.append(f"{path}:{n}: blanks at the end")
        if line == "{":
            start = n
        elif line == "}" and start:
            if n - start + 1 > FUNCTION:
                messages.append(f"{path}:{start}: a function of {n - start + 1} lines, at most {FUNCTION}")
            start = 0
    return messages


tree.proof("length", [
    ("a.c", "x\n" * 1001), ("a.c", "int f(void)\n{\n" + "    x();\n" * 149 + "}\n"), ("a.h", "x" * 101 + "\n"),
    ("a.c", "\tx\n"), ("a.c", "x \n"), ("a.c", "no end"), ("a.py", "x\n" * 1001),
    ("a.md", "word " * 21 + "\n"),
], [
    ("a.c", "x\n" * 1000), ("a.c", "int f(void)\n{\n" + "    x();\n" * 148 + "}\n"), ("a.h", "\u00e9" * 100 + "\n"),
    ("a.def", "x" * 200 + "\n"), ("a.py", "x" * 150 + "\n"),
    ("a.md", "[a](" + "x" * 100 + ")\n| " + "x" * 100 + " |\n```\n" + "x" * 101 + "\n```\n"),
], check)

source = sys.argv[1]
found = []
for p in tree.files(source, ".c", ".h", ".inc", ".def", ".py", ".cmake", "CMakeLists.txt", "Makefile", ".sh", ".md"):
    found += check(p, tree.read(source, p))
tree.finish(found)
