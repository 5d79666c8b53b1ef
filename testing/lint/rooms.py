#!/usr/bin/env python3
"""docs/architecture.md says of every folder of the product what its rank is, what belongs in it and what does not.

Ranks are compared with testing/lint/layers.py; a folder without C files needs no line.
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

PAGE = "docs/architecture.md"
RANK = re.compile(r'^    "([a-z_]+(?:/[a-z_]+)?)": \((\d+), "(\w+)"\)', re.M)
RANK_ROW = re.compile(r"^\| ([a-z_/]+)/ \| (\d+) \| (\w+) \|", re.M)
ROOM_ROW = re.compile(r"^\| ([a-z_/]+)/ \| ([^|]{10,}) \| ([^|]{5,}) \|$", re.M)


def check(layers, page, folders):
    """layers: text of layers.py; page: text of the page; folders: those with C files."""
    ranks = {m.group(1): (m.group(2), m.group(3)) for m in RANK.finditer(layers)}
    rows = {m.group(1): (m.group(2), m.group(3)) for m in RANK_ROW.finditer(page)}
    rooms = {m.group(1) for m in ROOM_ROW.finditer(page)}
    messages = []
    for folder in sorted(set(ranks) & folders):
        if folder not in rooms:
            messages.append(f"{PAGE}:1: what belongs in {folder}/ and what does not")
        if rows.get(folder) != ranks[folder]:
            messages.append(f"{PAGE}:1: {folder}/ has {rows.get(folder)}, layers.py {ranks[folder]}")
    messages += [f"{PAGE}:1: there is no folder {folder}/" for folder in sorted((rooms | set(rows)) - folders)]
    return messages


LAYERS = '    "base": (0, "both"),\n    "core/communication": (3, "both"),\n    "queue": (3, "service"),\n'
ROWS = "| base/ | 0 | both | x |\n| core/communication/ | 3 | both | y |\n"
ROOMS = "| base/ | what any needs | tensors |\n| core/communication/ | the protocol | verbs |\n"
BOTH = {"base", "core/communication"}
tree.proof("rooms", [
    (LAYERS, ROWS, BOTH),
    (LAYERS, ROOMS, BOTH),
    (LAYERS, ROWS.replace("3", "4") + ROOMS, BOTH),
    (LAYERS, ROWS.replace("both | y", "engine | y") + ROOMS, BOTH),
    (LAYERS, ROWS + ROOMS, {"base"}),
], [
    (LAYERS, ROWS + ROOMS, BOTH),
], check)

source = sys.argv[1]
folders = set()
for path in tree.files(source, ".c"):
    parts = path.split("/")[:-1]
    folders |= {"/".join(parts[:n]) for n in range(1, len(parts) + 1)}
tree.finish(check(tree.read(source, "testing/lint/layers.py"), tree.read(source, PAGE), folders))
