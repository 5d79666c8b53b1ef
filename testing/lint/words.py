#!/usr/bin/env python3
"""Words that readers stumble over, kept out of comments, strings and pages; each with the field's own word.

The list is of this project's former private vocabulary, in patterns that plain English does not match. Terms and their
meanings are in docs/glossary.md. Identifiers are not read. Folders in NOT_YET still have such words; a folder without
any must leave the list, so it only gets shorter.
"""
import io
import os
import re
import sys
import tokenize

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

# A blank of a pattern is any run of blanks, over a line's end too.
RULES = [(re.compile(pattern.replace(" ", r"\s+")), better) for pattern, better in [
    (r"\b(?:is|are|was|were|be|been|being|has|have|it|not) told\b(?! apart| from)", "reported, configured, given"),
    (r"\b(?:[Uu]ntold|[Tt]old of)\b", "reported"),
    (r"\b[Ll]ent\b|\b[Ll]ends (?:it|them|its|the)\b", "borrowed"),
    (r"\bof (?:8|16|32|64) bits\b", "8-bit, 16-bit, 32-bit, 64-bit"),
    (r"\b(?:is|are|was|were|be) to be had\b|\b(?:can|could) not be had\b|\bto be had\b", "available; out of memory"),
    (r"\b[Ll]ets? (?:it |them )?be\b(?! \w+ed)|\bare let be\b|\bis let be\b", "leaves alone"),
    (r"\b[Ww]ho (?:asks|asked|reads|calls|is done|clears|holds|wants)\b", "the caller, the reader, code that ..."),
    (r"\b[Ss]pots?\b", "output tile; place"),
    (r"\bhalf[- ](?:made|filled)\b", "partially initialised"),
    (r"\b[Ss]often(?:s|ed)?\b", "online softmax update"),
    (r"\balike\b", "equal, in the same way"),
    (r"\blitter\b", "stale file"),
    (r"\b[Ss]omebody else\b", "another process, another user, the caller"),
    (r"\bclock on the wall\b", "wall-clock time"),
    (r"\bhas a say\b|\bhave a say\b", "applies, counts"),
    (r"\b(?:is|are|was|were|be) made (?:again|anew)\b", "rebuilt, repeated"),
    (r"\bgo(?:es)? past the caches?\b|\b[Pp]ast the caches?\b", "non-temporal stores"),
    (r"\b[Ww]ide (?:layers?|weights?|operands?)\b|\bstays? wide\b|\bkept wide\b", "float32 layers; stay float32"),
    (r"\bdoes not stand\b|\bstands (?:it|them|alone in|there too)\b", "tolerates; is"),
]]

# Folders that still have such words: "a/" with what is below it, "a" without.
NOT_YET = set()

SKIP = ("testing/golden/", "share/", "testing/lint/words.py", "testing/fuzz/corpus")
COMMENT = re.compile(r"(?:^|\s)#.*")
C = (".c", ".h", ".inc", ".def")


def prose(path, text):
    """The text with everything blanked that no reader takes for a sentence."""
    if path.endswith(C):
        kept = list(re.sub(r"[^\n]", " ", text))
        for m in tree.TOKEN.finditer(text):
            if m.group(0)[0] != "'":
                kept[m.start():m.end()] = m.group(0)
        return "".join(kept)
    if path.endswith(".md"):
        return re.sub(r"```.*?```|`[^`\n]*`", tree.blank, text, flags=re.S)
    if path.endswith(".py"):
        lines, kept = text.split("\n"), [" " * len(line) for line in text.split("\n")]
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.STRING, tokenize.COMMENT):
                (first, begin), (last, end) = token.start, token.end
                for n in range(first, last + 1):
                    a, b = begin if n == first else 0, end if n == last else len(lines[n - 1])
                    kept[n - 1] = kept[n - 1][:a] + lines[n - 1][a:b] + kept[n - 1][b:]
        return "\n".join(kept)
    return "".join(m if COMMENT.match(m) or '"' in m else tree.blank(re.match(r".*", m, re.S)) for m in
                   re.split(r"((?:^|\s)#[^\n]*|\"[^\"\n]*\")", text))


def joined(text):
    """Line ends inside a sentence become single characters, so that a phrase is found across them."""
    return re.sub(r"\n[ \t]*(?:\*(?!/)|//|#|\")?[ \t]*", lambda m: "\n" + " " * (len(m.group(0)) - 1), text)


def check(path, text):
    messages = []
    text = prose(path, text)
    flat = joined(text)
    for pattern, better in RULES:
        for m in pattern.finditer(flat):
            found = " ".join(m.group(0).split())
            messages.append(f'{path}:{tree.line_of(flat, m.start())}: "{found}": {better}')
    return messages


def folder_of(path):
    """The entry of NOT_YET that holds the path, or None."""
    return next((f for f in NOT_YET if (path.startswith(f) if f.endswith("/") else os.path.dirname(path) == f)), None)


tree.proof("words", [
    ("a.c", "/* The worker is told. */"), ("a.c", "/* lent until the next call */"), ("a.c", 'fail("weights of 8 bits");'),
    ("a.h", "/* Memory that is\n * to be had. */"), ("a.c", "// who asks waits\n"), ("a.inc", "/* a block of spots */"),
    ("a.md", "Files of others are let be.\n"), ("a.md", "weights of\n8 bits\n"), ("a.py", '"""half-made"""'),
    ("a.def", 'X(a, "somebody else")'), ("a.sh", "# litter\n"), ("a.cmake", 'message("all alike")'),
], [
    ("a.c", "int told = lent(spots, alike);"), ("a.c", "/* It cannot be told apart from noise, nor told from it. */"),
    ("a.c", "/* 8-bit weights, sums of 8 values; excellent, silent, talented; let x be negated */"),
    ("a.md", "Use `lent` and\n```\nspots\n```\n"), ("a.sh", "spots=1\n"), ("a.cmake", "set(alike 1)\n"),
    ("a.c", "/* those who read this; a reader who knows */"), ("a.md", "a spotless, likely page; polite letters\n"), ("a.py", "spots = alike(lent)\n"),
], check)

if __name__ == "__main__":
    source = sys.argv[1]
    found, dirty = [], set()
    for p in tree.files(source, *C, ".md", ".py", ".sh", ".cmake", "CMakeLists.txt", "Makefile"):
        if p.startswith(SKIP):
            continue
        messages = check(p, tree.read(source, p))
        if messages and folder_of(p):
            dirty.add(folder_of(p))
        else:
            found += messages
    found += [f"testing/lint/words.py: {f} is clean: take it off NOT_YET" for f in sorted(NOT_YET - dirty)]
    tree.finish(found)
