#!/usr/bin/env python3
"""Tables and what they list agree: every descriptor has its line, every line its descriptor and file.

A .def file that this lint does not know is an error, so that a new table gets its rule.
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

# table: (macro, folder, pattern of a descriptor with the name in group 1, file of a name or None)
DESCRIPTORS = {
    "schedulers/schedulers.def": ("X", "schedulers/", r"^const struct sched_info sched_(\w+) =", "schedulers/{}.c"),
    "inference/guiders/guiders.def": ("X", "inference/guiders/", r"^const struct guider_info guider_(\w+) =",
                                      "inference/guiders/{}.c"),
    "schedulers/schedules.def": ("X", "schedulers/", r"^const struct schedule_info schedule_(\w+) =", None),
    "cli/verbs.def": ("VERB", "cli/", r"^const struct cli_verb cli_(\w+) =", "cli/{}.c"),
    "backend/cpu/x86/peaks.def": ("FAMILY", "backend/cpu/x86/", r"^double cpu_peak_loop__(\w+)\(",
                                  "backend/cpu/x86/peak_{}.c"),
    "backend/backends.def": ("X", "backend/", r"^const struct device_info device_(\w+) =", None),
    "models/adapters/kinds.def": ("KIND", "models/adapters/", r"^const struct delta_kind delta_kind_(\w+) =",
                                  "models/adapters/{}.c"),
    "backend/ops/ops.def": ("OP", "backend/ops/", r"^const struct op_info op_info_(\w+) =", "backend/ops/{}.c"),
}
# table: (macro, how a use of a name looks, folders of the uses)
USES = {
    "base/errors.def": ("X", r"\bDR_{}\b", ("",)),
    "cli/options.def": ("OPTION", r"\b(?:OPT_{0}|TAKES\({0}\))", ("cli/",)),
    "core/communication/message_verbs.def": ("VERB", r"\bVERB_{}\b", ("core/", "coordination/")),
}
KERNELS = "backend/cpu/x86/kernels.def"
DATA = {"base/erf.def", "tensor/dtypes.def", "core/communication/request.def", "core/communication/neutral.def",
        "core/communication/recipes.def", "inference/presets.def", "core/communication/spec_keys.def",
        "core/communication/model_folders.def",
        "models/adapters/adapters.def"}  # lines are data, nothing answers to them


def lines_of(table, macro):
    """(name, rest of the arguments, line) of each MACRO(...) that opens a line."""
    code = tree.without_comments(table)
    return [(m.group(1), m.group(2) or "", tree.line_of(code, m.start()))
            for m in re.finditer(rf"^{macro}\(\s*(\w+)\s*(?:,\s*(\w+)?)?", code, re.M)]


def check_descriptors(path, present):
    macro, folder, pattern, file_pattern = DESCRIPTORS[path]
    messages, listed = [], {}
    for name, _, line in lines_of(present[path], macro):
        if name in listed:
            messages.append(f"{path}:{line}: {name} is listed twice")
        listed[name] = line
    defined = {}
    for p, text in present.items():
        if p.startswith(folder) and p.endswith(".c"):
            for m in re.finditer(pattern, text, re.M):
                defined[m.group(1)] = (p, tree.line_of(text, m.start()))
    for name, line in listed.items():
        if name not in defined:
            messages.append(f"{path}:{line}: {name} is listed, its descriptor is nowhere in {folder}")
        elif file_pattern and defined[name][0] != file_pattern.format(name):
            messages.append(f"{path}:{line}: {name} is defined in {defined[name][0]}, not {file_pattern.format(name)}")
    for name, (p, line) in defined.items():
        if name not in listed:
            messages.append(f"{p}:{line}: {name} has no line in {path}")
    return messages


def check_uses(path, present):
    macro, pattern, folders = USES[path]
    text = "\n".join(tree.code(t) for p, t in present.items() if p.endswith((".c", ".h", ".inc")) and p.startswith(folders))
    return [f"{path}:{line}: {name} is listed and never used" for name, _, line in lines_of(present[path], macro)
            if not re.search(pattern.format(name), text)]


def check_kernels(path, present):
    """KERNEL(op, set) against KERNEL_NAME(op, SET) in the files *_set.c and the .inc files that they include."""
    messages, defined = [], {}
    sets = [name for name, _, _ in lines_of(present[path], "SET")]
    for p, text in present.items():
        found = re.fullmatch(r"backend/cpu/x86/\w+?_(\w+)\.c", p)
        # Those belong to peaks.def; packings and the rest of the folder have no set in their names.
        if not found or p.startswith("backend/cpu/x86/peak_"):
            continue
        kernel_set = next((s for s in sets if p.endswith(f"_{s}.c")), None)
        if not kernel_set:
            messages.append(f"{p}:1: its suffix is no kernel set of {path}")
            continue
        whole = text + "".join(present.get(i, "") for i in re.findall(r'#include "(backend/cpu/(?:kernels|x86)/\w+\.inc)"', text))
        for op in re.findall(r"^const struct kernel KERNEL_NAME\((\w+),", whole, re.M):  # fast ones: OP_fast
            defined[(op, kernel_set)] = p
        for op, s in re.findall(r"^const struct kernel cpu_(\w+?)__(\w+) =", whole, re.M):
            defined[(op, s)] = p
    listed = {(op, s): line for op, s, line in lines_of(present[path], "KERNEL")}
    listed |= {(op + "_fast", s): line for op, s, line in lines_of(present[path], "FAST")}
    messages += [f"{path}:{line}: cpu_{op}__{s} is listed and not defined"
                 for (op, s), line in listed.items() if (op, s) not in defined]
    messages += [f"{p}:1: cpu_{op}__{s} has no line in {path}" for (op, s), p in defined.items() if (op, s) not in listed]
    return messages


def check(present):
    """present: {path: text} of the tree."""
    messages = []
    for path in sorted(present):
        if not path.endswith(".def"):
            continue
        if path in DESCRIPTORS:
            messages += check_descriptors(path, present)
        elif path in USES:
            messages += check_uses(path, present)
        elif path == KERNELS:
            messages += check_kernels(path, present)
        elif path not in DATA:
            messages.append(f"{path}:1: a table without a rule in testing/lint/tables.py")
    return messages


EULER = "const struct sched_info sched_euler = {\n};\n"
GEMM = "const struct kernel KERNEL_NAME(linear, SET) = {\n};\n"
AVX2 = '#define SET avx2\n#include "backend/cpu/kernels/gemm.inc"\n'
TABLE = "SET(scalar, 0)\nSET(avx2, 1)\n"
tree.proof("tables", [
    ({"schedulers/schedulers.def": "X(euler)\nX(heun)\n", "schedulers/euler.c": EULER},),
    ({"schedulers/schedulers.def": "", "schedulers/euler.c": EULER},),
    ({"schedulers/schedulers.def": "X(euler)\n", "schedulers/other.c": EULER},),
    ({"schedulers/schedulers.def": "X(euler)\nX(euler)\n", "schedulers/euler.c": EULER},),
    ({KERNELS: TABLE + "KERNEL(linear, avx2)\n"},),
    ({KERNELS: TABLE + "KERNEL(linear, avx2)\nFAST(linear, avx2)\n", "backend/cpu/x86/gemm_avx2.c": AVX2,
      "backend/cpu/kernels/gemm.inc": GEMM},),
    ({KERNELS: TABLE, "backend/cpu/x86/gemm_avx2.c": AVX2, "backend/cpu/kernels/gemm.inc": GEMM},),
    ({KERNELS: TABLE, "backend/cpu/x86/gemm_sse9.c": ""},),
    ({"base/errors.def": 'X(EINVAL, -1, "a", "b")\n', "base/a.c": "int x;\n"},),
    ({"models/new.def": "X(a)\n"},),
], [
    ({"schedulers/schedulers.def": "/* X(name) */\nX(euler)\n", "schedulers/euler.c": EULER},),
    ({KERNELS: TABLE + "KERNEL(linear, avx2)\n", "backend/cpu/x86/gemm_avx2.c": AVX2,
      "backend/cpu/kernels/gemm.inc": GEMM},),
    ({"base/errors.def": 'X(EINVAL, -1, "a", "b")\n', "base/a.c": "return DR_EINVAL;\n"},),
], check)

source = sys.argv[1]
tree.finish(check({p: tree.read(source, p) for p in tree.files(source, ".c", ".h", ".inc", ".def")}))
