"""What the lints share: the files of the tree, text without comments, and how a lint reports.

A lint is `python3 LINT.py SOURCE BUILD`. It first proves on samples that it can fail, then prints FILE:LINE: lines and
exits 1 if there are any.
"""
import os
import re
import sys

SKIPPED = 77  # the exit status of a lint that could not look
SKIP = {".git", "build", "demo", "share", "__pycache__", "golden", "corpus"}


def files(source, *extensions):
    """Paths relative to source, with '/', sorted."""
    found = []
    for folder, names, entries in os.walk(source):
        names[:] = [n for n in names if n not in SKIP and not n.startswith("build-")]
        for entry in entries:
            if entry.endswith(extensions):
                found.append(os.path.relpath(os.path.join(folder, entry), source).replace(os.sep, "/"))
    return sorted(found)


def read(source, path):
    with open(os.path.join(source, path), encoding="utf-8") as f:
        return f.read()


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def code(text):
    """The text with comments, strings and characters blanked; lines keep their numbers."""
    return TOKEN.sub(blank, text)


def without_comments(text):
    return TOKEN.sub(lambda m: m.group(0) if m.group(0)[0] in "\"'" else blank(m), text)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def proof(name, bad, good, check):
    """Every sample of `bad` must give messages and none of `good`; otherwise the lint itself is broken."""
    for sample in bad:
        if not check(*sample):
            sys.exit(f"{name}: self-test: nothing wrong found in {sample!r}")
    for sample in good:
        messages = check(*sample)
        if messages:
            sys.exit(f"{name}: self-test: {sample!r} gave {messages}")


def finish(messages):
    for message in messages:
        print(message)
    sys.exit(1 if messages else 0)
