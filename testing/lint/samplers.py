#!/usr/bin/env python3
"""Every sampler and schedule has golden vectors or a named test, and lists of samplers in texts are those of the table.

A line of references.txt is: sampler, package, version, class or function. The vectors are made by
tools/golden/schedulers.py.
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
import tree  # noqa: E402

SAMPLERS, SCHEDULES, README = "schedulers/schedulers.def", "schedulers/schedules.def", "README.md"
TABLE_TEST = "testing/unit/test_schedulers_table.c"
FIELDS = "core/communication/request.def"
REQUIREMENTS = "tools/golden/requirements.txt"
GOLDEN = "testing/golden/schedulers/"
REFERENCES, LEVELS = GOLDEN + "references.txt", GOLDEN + "schedules.txt"
SIGMAS = GOLDEN + "sigmas.txt"  # of tools/golden/schedules.py
MAKER = "tools/golden/sampler_formulas.py"
RUNS = {"diffusers": GOLDEN + "trajectories.txt", "k-diffusion": GOLDEN + "k_trajectories.txt",
        "formula": GOLDEN + "k_trajectories.txt"}  # a formula is a function of the maker, its version the paper
TAKES_ETA = re.compile(r'\{ "eta", ')
ETA = 7  # column of a trajectory's line


def names_of(present, table):
    return re.findall(r"^X\((\w+)\)", tree.without_comments(present[table]), re.M)


def rows_of(present, path):
    return [line.split() for line in present.get(path, "").splitlines() if line.strip()]


def check_reference(present, row, line):
    """One line of references.txt."""
    at = f"{REFERENCES}:{line}"
    if len(row) != 4 or row[1] not in RUNS:
        return [f"{at}: expected: sampler, one of {', '.join(RUNS)}, version, class or function"]
    name, package, version, function = row
    messages = []
    if name not in names_of(present, SAMPLERS):
        messages.append(f"{at}: {name} has no line in {SAMPLERS}")
    if package == "formula":
        if f"def {function}(" not in present[MAKER]:
            messages.append(f"{at}: {MAKER} has no function {function}")
    elif f"{package}=={version}" not in present[REQUIREMENTS]:
        messages.append(f"{at}: {package} {version} is not the version of {REQUIREMENTS}")
    if name not in [r[0] for r in rows_of(present, RUNS[package])]:
        messages.append(f"{at}: {name} has no run in {RUNS[package]}")
    return messages


def check_sampler(present, name, line):
    """One line of schedulers.def."""
    at = f"{SAMPLERS}:{line}"
    own = [row for row in rows_of(present, REFERENCES) if row[0] == name]
    if not own:
        return [f"{at}: {name} has no golden vectors: no line in {REFERENCES} (see docs/adding.md)"]
    messages, text = [], present.get(f"schedulers/{name}.c", "")
    found = re.search(r'\.diffusers = "(\w+)"', text)
    if found and ["diffusers", found.group(1)] not in [[r[1], r[3]] for r in own if len(r) == 4]:
        messages.append(f"{at}: {name} has no golden vectors from its class {found.group(1)}")
    if found and name not in [r[0] for r in rows_of(present, LEVELS)]:
        messages.append(f"{at}: {name} has no levels in {LEVELS}")
    etas = [float(r[ETA]) for path in RUNS.values() for r in rows_of(present, path) if r[0] == name and len(r) > ETA]
    if TAKES_ETA.search(text) and not any(0 < eta < 1 for eta in etas):
        messages.append(f"{at}: {name} takes eta and has no golden run with one between 0 and 1")
    return messages


def check_readme(present):
    """`Samplers: a, b; schedules c, d; ...` in the tables' order."""
    found = re.search(r"^Samplers: ([\w,\s]+);\s+schedules ([\w,\s]+);", present[README], re.M)
    if not found:
        return [f'{README}:1: no line "Samplers: ...; schedules ...;"']
    line = tree.line_of(present[README], found.start())
    messages = []
    for table, listed in ((SAMPLERS, found.group(1)), (SCHEDULES, found.group(2))):
        expected, listed = ", ".join(names_of(present, table)), " ".join(listed.split())
        if listed != expected:
            messages.append(f"{README}:{line}: lists {listed}; {table} has {expected}")
    return messages


def check_schedules(present):
    """Golden levels, or a test of its own for a schedule that the references lack: NAME_is_..."""
    golden = {row[2] for row in rows_of(present, LEVELS) if len(row) > 2}
    golden |= {row[0].split(",")[0] for row in rows_of(present, SIGMAS)}
    code = tree.without_comments(present[SCHEDULES])
    return [f"{SCHEDULES}:{tree.line_of(code, m.start())}: {m.group(1)} has neither levels in {LEVELS} or {SIGMAS} nor a "
            f"test {m.group(1)}_is_... in {TABLE_TEST}" for m in re.finditer(r"^X\((\w+)\)", code, re.M)
            if m.group(1) not in golden and f"cmocka_unit_test({m.group(1)}_is_" not in present[TABLE_TEST]]


def check_ends(present):
    """Lists of aliases and of fixed keys end with NULL: nothing else says how long they are."""
    messages = []
    for path, text in present.items():
        if not path.endswith(".c"):
            continue
        code = tree.without_comments(text)
        for m in re.finditer(r"^static const [^=;]*\b(\w*(?:aliases|fixed))\[\] = \{(.*?)\};", code, re.M | re.S):
            if not re.search(r"(\bNULL|\{ *NULL *, *NULL *\}|\{ *0 *\}),?\s*$", m.group(2)):
                messages.append(f"{path}:{tree.line_of(code, m.start())}: {m.group(1)} does not end with NULL")
    return messages


def check_eta(present):
    """The help of eta: "noise added by a and b (...)"."""
    found = re.search(r'^FIELD\(eta,.*"noise added by ([\w, ]+?) \(', present[FIELDS], re.M)
    expected = [name for name in names_of(present, SAMPLERS)
                if TAKES_ETA.search(present.get(f"schedulers/{name}.c", ""))]
    listed = re.split(r", | and ", found.group(1)) if found else []
    if sorted(listed) == sorted(expected):
        return []
    return [f"{FIELDS}:{tree.line_of(present[FIELDS], found.start()) if found else 1}: the help of eta lists "
            f"{', '.join(listed)}; {', '.join(expected)} take it"]


def check(present):
    """present: {path: text}."""
    messages = check_readme(present) + check_schedules(present) + check_eta(present) + check_ends(present)
    for line, row in enumerate(rows_of(present, REFERENCES), 1):
        messages += check_reference(present, row, line)
    code = tree.without_comments(present[SAMPLERS])
    for m in re.finditer(r"^X\((\w+)\)", code, re.M):
        messages += check_sampler(present, m.group(1), tree.line_of(code, m.start()))
    return messages


GOOD = {
    SAMPLERS: "X(euler)\nX(noisy)\n",
    SCHEDULES: "X(normal)\nX(even)\n",
    TABLE_TEST: "cmocka_unit_test(even_is_even),\n",
    README: "Samplers: euler, noisy; schedules normal, even; more.\n",
    FIELDS: 'FIELD(eta, REAL, "noise added by noisy (default)")\n',
    REQUIREMENTS: "#   pip install k-diffusion==0.1\ndiffusers==0.42\n",
    REFERENCES: "euler diffusers 0.42 EulerScheduler\nnoisy k-diffusion 0.1 sample_noisy\n",
    LEVELS: "euler leading normal 1 0 1 2 1\n",
    RUNS["diffusers"]: "euler leading normal epsilon 0 1 0 0 0 1\n",
    RUNS["k-diffusion"]: "noisy leading normal epsilon 0 1 0 0.5 0 1\n",
    "schedulers/euler.c": '.diffusers = "EulerScheduler",\n',
    "schedulers/noisy.c": '{ "eta", 0, 1, 1, false, "x" },\n',
    MAKER: "def sample_noisy():\n",
}


def but(**changes):
    """GOOD with other texts; None: the file is not there."""
    by_name = {"samplers": SAMPLERS, "schedules": SCHEDULES, "readme": README, "references": REFERENCES, "levels": LEVELS,
               "fields": FIELDS, "test": TABLE_TEST, "sigmas": SIGMAS, "runs": RUNS["diffusers"], "k_runs": RUNS["k-diffusion"], "euler": "schedulers/euler.c"}
    sample = dict(GOOD)
    for name, text in changes.items():
        sample[by_name[name]] = text
    return ({p: t for p, t in sample.items() if t is not None},)


tree.proof("samplers", [
    but(samplers="X(euler)\nX(noisy)\nX(new)\n", readme="Samplers: euler, noisy, new; schedules normal, even; more.\n"),
    but(samplers="X(euler)\n", readme="Samplers: euler; schedules normal, even; more.\n"),
    but(readme="Samplers: euler; schedules normal, even; more.\n"),
    but(readme="Samplers: noisy, euler; schedules normal, even; more.\n"),
    but(schedules="X(normal)\n"),
    but(schedules="X(normal)\nX(even)\nX(odd)\n", readme="Samplers: euler, noisy; schedules normal, even, odd; more.\n"),
    but(test=""),
    but(readme="Nothing.\n"),
    but(references="euler diffusers 0.42 EulerScheduler\n"),
    but(references=GOOD[REFERENCES].replace("0.42", "0.41")),
    but(references=GOOD[REFERENCES].replace("k-diffusion", "elsewhere")),
    but(references=GOOD[REFERENCES].replace("k-diffusion 0.1 sample_noisy", "formula arxiv:1 sample_other")),
    but(references=GOOD[REFERENCES].replace(" EulerScheduler", "")),
    but(references=None),
    but(euler=GOOD["schedulers/euler.c"] + 'static const char *const aliases[] = { "a" };\n'),
    but(euler=GOOD["schedulers/euler.c"] + 'static const struct x fixed[] = {\n    { "a", "b" },\n};\n'),
    but(euler='.diffusers = "OtherScheduler",\n'),
    but(levels=""),
    but(fields=GOOD[FIELDS].replace("noisy", "noisy and euler")),
    but(fields=GOOD[FIELDS].replace("noise added by", "eta of")),
    but(runs=""),
    but(k_runs=None),
    but(k_runs=GOOD[RUNS["k-diffusion"]].replace("0.5", "1")),
], [
    but(),
    but(references=GOOD[REFERENCES].replace("k-diffusion 0.1", "formula arxiv:1")),
    but(test="", sigmas="even,rho=1 euler class leading 1 0 k-diffusion\n"),
    but(euler=GOOD["schedulers/euler.c"] + 'static const char *const aliases[] = { "a", NULL };\n'
        'static const struct x fixed[] = {\n    { "a", "b" },\n    { NULL, NULL },\n};\n'),
], check)

source = sys.argv[1]
paths = [SAMPLERS, SCHEDULES, README, FIELDS, MAKER, TABLE_TEST, REQUIREMENTS, REFERENCES, LEVELS, SIGMAS, *RUNS.values()]
paths += [p for p in tree.files(source, ".c") if p.startswith("schedulers/")]
tree.finish(check({p: tree.read(source, p) for p in paths if os.path.exists(os.path.join(source, p))}))
