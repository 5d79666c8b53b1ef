#!/usr/bin/env python3
"""Calls and words that do not belong in the tree, each with the reason."""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402


def calls(names):
    return re.compile(r"(?<![\w.>])(?:" + names + r")[ \t]*\(")


# (pattern, reason, folders where it is right). Matched in code without comments and strings.
RULES = [
    (calls("strcpy|strcat|strncpy|strncat|stpcpy|sprintf|vsprintf|gets|strtok"), "knows no bounds; snprintf or struct buf",
     ()),
    (calls("atoi|atol|atoll|atof"), "knows no errors; strtoll, strtod", ()),
    (calls("alloca"), "the stack has no errors", ()),
    (calls("tmpnam|tempnam|mktemp|rand|srand|drand48|random"), "use mkdtemp, base/rng.h", ()),
    (calls("system|popen"), "no shell", ("testing/",)),
    (calls("assert"), "wrong input is an error value, a wrong program a test", ("testing/",)),
    (calls("malloc|calloc|realloc|reallocarray|strdup|strndup|aligned_alloc|posix_memalign|free"),
     "base/alloc.h counts and can fail on purpose", ("base/alloc.c", "testing/", "tools/")),
    (calls("(?:exp|exp2|expm1|log|log2|log10|log1p|sin|cos|tan|tanh|sinh|cosh|asin|acos|atan|atan2|pow|erf|erfc|cbrt"
           "|tgamma|lgamma)[fl]?"), "differs between machines; base/dmath.h", ("testing/",)),
    (calls("printf|puts|putchar|perror"), "libraries do not print",
     ("cli/", "coordination/main/", "testing/", "tools/", "include/", "examples/")),
    (calls("fprintf|fputs|fputc|exit|_exit|quick_exit|abort"), "libraries neither print nor end the process",
     ("cli/", "coordination/main/", "coordination/supervisor/", "coordination/ml_worker_direct.c", "testing/", "tools/",
      "include/", "examples/")),
    (re.compile(r"#[ \t]*include[ \t]*<\w*intrin\.h>|\b_mm\d*_\w+|\b__m(?:128|256|512)[di]?\b"),
     "intrinsics live in backend/cpu/x86", ("backend/cpu/x86/", "testing/")),
    (re.compile(r"\btypedef\s+(?:struct|union)\b"), "struct foo is spelled out", ()),
    (re.compile(r"#[ \t]*pragma[ \t]+once"), "header guards", ()),
]
WORDS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")  # in comments too
MARCH = re.compile(r"-march=|-mtune=native|-ffast-math|-Ofast")


def check(path, text):
    messages = []
    if path.endswith((".c", ".h", ".inc", ".def")):
        code = tree.code(text)
        for pattern, reason, right in RULES:
            if path.startswith(right) if right else False:
                continue
            for m in pattern.finditer(code):
                what = m.group(0).strip(" \t(")
                messages.append(f"{path}:{tree.line_of(code, m.start())}: {what}: {reason}")
        for m in WORDS.finditer(text):
            messages.append(f"{path}:{tree.line_of(text, m.start())}: {m.group(0)}: finish it or leave it out")
    else:
        for n, line in enumerate(text.split("\n"), 1):
            if MARCH.search(line.split("#")[0]):
                messages.append(f"{path}:{n}: the build must not depend on the machine or bend arithmetic")
    return messages


tree.proof("banned", [
    ("base/x.c", "strcpy(a, b);"), ("testing/unit/x.c", "x = atoi (s);"), ("models/x.c", "free(p);"),
    ("models/x.c", "double y = expf(x);"), ("models/x.c", "assert(x);"), ("backend/ops/x.c", "__m256 v;"),
    ("backend/ops/x.c", "#include <immintrin.h>\n"), ("base/x.h", "typedef struct x { int a; } x;"),
    ("base/x.c", "/* TODO */"), ("inference/x.c", 'printf("x");'), ("CMakeLists.txt", "add(-march=native)"),
    ("inference/x.c", "exit(1);"), ("models/x.c", "y = pow(x, 2);"),
], [
    ("base/x.c", '/* strcpy(a) */ const char *s = "atoi(x)"; dr_free(p); x->free(p); my_exp(x); arena_free(a);'),
    ("testing/unit/x.c", "y = exp(x); assert(y);"), ("backend/cpu/x86/x_avx2.c", "__m256 v = _mm256_add_ps(a, b);"),
    ("cli/x.c", 'printf("x"); exit(0);'), ("CMakeLists.txt", "set(x -mavx2) # no -march=native here"),
], check)

source = sys.argv[1]
found = []
for p in tree.files(source, ".c", ".h", ".inc", ".def", "CMakeLists.txt", ".cmake", "Makefile"):
    found += check(p, tree.read(source, p))
tree.finish(found)
