#!/usr/bin/env python3
"""Darkroom against PyTorch with diffusers and OpenVINO, on this machine, in alternation; one table of medians of ratios.

    tools/bench_peers/run.py                                    everything; hours
    tools/bench_peers/run.py --cases unet_512 --peers torch_bf16,openvino_bf16 --rounds 5
    tools/bench_peers/run.py --isa avx2                         all limited to AVX2
    tools/bench_peers/run.py --far 1.25                         a peer that many times behind a row's best is measured only once there

Every measurement is a process of its own, one after another: Darkroom, a peer, Darkroom, the next peer, Darkroom ... A peer's ratio is its
seconds over the mean of the two of Darkroom around it: above 1 Darkroom is faster. Networks are SDXL's at full size with random weights on both
sides; nothing is quantised. A CFG pair of a peer is the faster of a batch of two and twice a batch of one. The table names peers that fail.

With --isa avx2, PyTorch is limited by the variables below and Darkroom by its kernel set; OpenVINO cannot be limited and is left out. The peers'
packages come from requirements.txt into a virtual environment of their own (--venv for one that exists). Results go to OUT.json and OUT.md after
every round; with --model Darkroom's weights come from a checkpoint.
"""
import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CASES = ["unet_512", "unet_512_cfg", "unet_1024", "unet_1024_cfg", "vae_decode_512", "vae_decode_1024"]
PICTURES = ["picture_4_512", "picture_4_1024"]  # only when they are named; OpenVINO alone
# name: (script, options)
PEERS = {
    "torch_f32": ("peer_torch.py", ["--type", "f32"]),
    "torch_f16": ("peer_torch.py", ["--type", "f16"]),
    "torch_bf16": ("peer_torch.py", ["--type", "bf16"]),
    "torch_f32_compiled": ("peer_torch.py", ["--type", "f32", "--compile"]),
    "torch_f16_compiled": ("peer_torch.py", ["--type", "f16", "--compile"]),
    "torch_bf16_compiled": ("peer_torch.py", ["--type", "bf16", "--compile"]),
    "openvino_f32": ("peer_openvino.py", ["--type", "f32"]),
    "openvino_f16": ("peer_openvino.py", ["--type", "f16"]),
    "openvino_bf16": ("peer_openvino.py", ["--type", "bf16"]),
}
ISAS = ["native", "avx2"]
DISTURBED, AGAIN = 0.1, 2  # share of the cores that others may have taken; how often a measurement is then repeated
LIMITED = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def names(known):
    def parse(text):
        wanted = text.split(",")
        for name in wanted:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name}: expected some of {', '.join(known)}")
        return wanted

    return parse


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cases", type=names(CASES + PICTURES), default=CASES, help="comma between")
    p.add_argument("--peers", type=names(list(PEERS)), default=list(PEERS), help="comma between")
    p.add_argument("--isa", type=names(ISAS), default=ISAS, help="native, avx2 or both (default)")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--far", type=float, help="times behind a row's best peer, from where a peer is not measured again in that "
                   "row, and from twice as many not in other rows of that network")
    p.add_argument("--kernels", default="auto", help="Darkroom's kernel set without --isa")
    p.add_argument("--precision", default="auto", help="Darkroom's precision without --isa")
    p.add_argument("--model", help="checkpoint for Darkroom (default: random weights)")
    p.add_argument("--darkroom", default=os.path.join(ROOT, "build/release/darkroom"))
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--limit", type=int, default=1800, help="most seconds of one process")
    p.add_argument("--under", default="", help="command to put before each timed process, such as 'taskset -c 0-3'")
    p.add_argument("--venv", help="virtual environment with the packages of requirements.txt")
    p.add_argument("--work", default=os.path.join(ROOT, "build/bench_peers"), help="environment and converted networks")
    p.add_argument("--out", default=os.path.join(ROOT, "build/bench_peers/table"), help="results, without .json and .md")
    return p.parse_args()


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def environment(o):
    """The Python of the peers; the environment is created if missing."""
    venv = o.venv or os.path.join(o.work, "venv")
    python = os.path.join(venv, "bin/python")
    if not os.path.exists(python):
        say(f"installing the peers into {venv}")
        if subprocess.run([sys.executable, "-m", "venv", venv]).returncode:
            shutil.rmtree(venv, ignore_errors=True)
            sys.exit(f"run.py: cannot create {venv}: on Debian and Ubuntu, install python3-venv")
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", os.path.join(HERE, "requirements.txt")], check=True)
    return python


def run(o, command, extra=None, timed=True):
    """(the last JSON line of its output or None, what went wrong)"""
    command = (shlex.split(o.under) if timed else []) + command
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=o.limit, env={**os.environ, **(extra or {})})
    except subprocess.TimeoutExpired:
        return None, f"over {o.limit} s"
    except OSError as error:
        return None, str(error)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode == 0 and lines:
        return json.loads(lines[-1]), None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return None, f"status {done.returncode}: {said[-1][:200] if said else 'no words'}"


def percent(fraction, digits=0):
    """A dash for null: this machine has no peak of the set's family."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f} %"


def number(x):
    return "–" if x is None else f"{x:.2f}"


class Darkroom:
    """Darkroom's own measurements of a case."""

    def __init__(self, o, isa):
        self.o, self.isa = o, isa
        self.answer, self.samples = {}, []

    def measure(self, case, again=AGAIN):
        o = self.o
        kernels, precision = ("avx2", "auto") if self.isa == "avx2" else (o.kernels, o.precision)
        command = [o.darkroom, "bench", "--only", case, "--json", "--quiet", "--threads", str(o.threads)]
        command += ["--kernels", kernels, "--precision", precision]
        answer, error = run(o, command + (["--model", o.model] if o.model else []))
        if error:
            sys.exit(f"run.py: darkroom: {error}")
        row = answer["cases"][0]
        self.answer = answer
        said = f"{row['seconds']:.3f} s, {percent(row['fraction_of_peak'], 1)} of its peak, {number(row['cores'])} cores"
        say(f"  darkroom {answer['kernel_set']}: {said}")
        disturbed = row["cores"] is not None and row["cores"] < (1 - DISTURBED) * o.threads
        if again and (row["noisy"] or disturbed):
            return self.measure(case, again - 1)
        self.samples.append(row)
        return row["seconds"]


def peer(o, python, name, case, isa, again=AGAIN):
    script, arguments = PEERS[name]
    command = [python, os.path.join(HERE, script), "--case", case, "--threads", str(o.threads)] + arguments
    if script == "peer_openvino.py":
        command += ["--work", o.work]
    answer, error = run(o, command, LIMITED if isa == "avx2" else None)
    if error:
        say(f"  {name}: {error}")
        return None, error
    say(f"  {name}: {answer['seconds']:.3f} s, {answer['cores']:.2f} cores, others {answer['others']:.2f}")
    if again and answer["others"] > DISTURBED * o.threads:
        return peer(o, python, name, case, isa, again - 1)
    return answer, None


def convert(o, python):
    """OpenVINO reads the networks from files that are written once."""
    if "native" not in o.isa or not any(name.startswith("openvino") for name in o.peers):
        return
    networks = {case.split("_")[0] for case in o.cases}
    if "picture" in networks:
        networks = networks - {"picture"} | {"unet", "vae"}
    for network in sorted(networks):
        if os.path.exists(os.path.join(o.work, f"{network}.xml")):
            continue
        say(f"converting the {network} for OpenVINO")
        script = os.path.join(HERE, "peer_openvino.py")
        subprocess.run([python, script, "--convert", network, "--work", o.work], check=False, stdout=subprocess.DEVNULL)


def behind(row, name):
    """How many times a peer's ratio is that of the row's best; 0 where one is missing."""
    result, best = row["peers"].get(name, {}), row["best_peer"]
    return result["ratio"] / row["peers"][best]["ratio"] if best and result.get("ratios") else 0


def far_peers(o, rows, row):
    """Peers that need not be measured (again) in a row: name to why."""
    far = {}
    for other in rows if o.far else []:
        if other["isa"] != row["isa"] or other["case"].split("_")[0] != row["case"].split("_")[0]:
            continue
        for name in row["peers"]:
            times = behind(other, name)
            if times > (o.far if other is row else 2 * o.far) and name != row["best_peer"]:
                far[name] = f"not measured, {times:.1f} times the best peer's at {other['case']}"
    return far


def measure_row(o, python, row, darkroom, far):
    """One round of a row: every peer between two measurements of Darkroom. One that failed or is far behind is not measured again."""
    before = None
    for name in row["peers"]:
        result = row["peers"][name]
        if name in far and not result["ratios"]:
            result["far"] = far[name]
        if result.get("error") or name in far:
            continue
        if before is None:
            before = darkroom.measure(row["case"])
        answer, error = peer(o, python, name, row["case"], row["isa"])
        if error:
            result["error"] = error
            continue
        after = darkroom.measure(row["case"])
        result["samples"].append(answer)
        result["ratios"].append(answer["seconds"] / ((before + after) / 2))
        before = after


def summarise(row, darkroom):
    row["kernel_set"] = darkroom.answer.get("kernel_set")
    row["peaks"] = darkroom.answer.get("peaks")
    row["darkroom"] = darkroom.samples
    if darkroom.samples:
        row["seconds"] = statistics.median(s["seconds"] for s in darkroom.samples)
        fractions = [s["fraction_of_peak"] for s in darkroom.samples if s["fraction_of_peak"] is not None]
        row["fraction_of_peak"] = statistics.median(fractions) if fractions else None
    for result in row["peers"].values():
        if result["ratios"]:
            result["seconds"] = statistics.median(s["seconds"] for s in result["samples"])
            result["ratio"] = statistics.median(result["ratios"])
    there = [name for name, result in row["peers"].items() if result["ratios"]]
    row["best_peer"] = min(there, key=lambda name: row["peers"][name]["ratio"]) if there else None


def cell(name, result):
    if result is None:
        return "–"
    if not result["ratios"]:
        return (result.get("error") or result.get("far") or "not yet").replace("|", "/")
    used = result["samples"][-1].get("type", "")  # OpenVINO computes in another type where the machine has no such instructions
    return f"{result['seconds']:.2f} s, {result['ratio']:.2f}" + (f" (in {used})" if used and used not in name.split("_") else "")


def table(o, machine, rows):
    text = [f"{machine['cpu']}, {o.threads} threads; {machine['versions']}. {o.rounds} rounds asked for. Ratios: a peer's seconds over Darkroom's,",
            "medians (least to most), above 1 Darkroom is faster.", "",
            "| case | instructions | Darkroom | of peak | best peer | ratio |", "|---|---|---|---|---|---|"]
    for row in rows:
        best = row["best_peer"]
        if not best:
            continue
        result = row["peers"][best]
        text.append(f"| {row['case']} | {row['isa']} ({row['kernel_set']}) | {row['seconds']:.2f} s | {percent(row['fraction_of_peak'])} "
                    f"| {best} {result['seconds']:.2f} s | **{result['ratio']:.2f}** ({min(result['ratios']):.2f} to {max(result['ratios']):.2f}) |")
    text += ["", "All peers: seconds, ratio.", "", "| case | instructions | " + " | ".join(o.peers) + " |",
             "|---|---|" + "---|" * len(o.peers)]
    for row in rows:
        cells = []
        for name in o.peers:
            result = row["peers"].get(name)
            cells.append(cell(name, result))
        text.append(f"| {row['case']} | {row['isa']} | " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def write(o, machine, rows):
    os.makedirs(os.path.dirname(os.path.abspath(o.out)), exist_ok=True)
    for suffix, text in ((".json", json.dumps({"machine": machine, "rows": rows}, indent=1)), (".md", table(o, machine, rows))):
        with open(o.out + suffix + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(o.out + suffix + ".new", o.out + suffix)


def describe(python):
    cpu = platform.processor()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), cpu)
    code = ("import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in "
            "('torch', 'diffusers', 'transformers', 'openvino')))")
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return {"cpu": cpu, "versions": done.stdout.strip(), "date": time.strftime("%Y-%m-%d")}


def main():
    o = options()
    python = environment(o)
    os.makedirs(o.work, exist_ok=True)
    convert(o, python)
    machine = describe(python)
    rows, darkrooms = [], []
    for isa in o.isa:
        for case in o.cases:
            wanted = ("openvino",) if case in PICTURES else ("openvino", "torch")
            peers = [name for name in o.peers if name.startswith(wanted if isa == "native" else "torch")]
            rows.append({"case": case, "isa": isa, "best_peer": None, "peers": {name: {"samples": [], "ratios": []} for name in peers}})
            darkrooms.append(Darkroom(o, isa))
    for number in range(o.rounds):
        for row, darkroom in zip(rows, darkrooms):
            say(f"round {number + 1} of {o.rounds}, {row['case']}, {row['isa']}")
            measure_row(o, python, row, darkroom, far_peers(o, rows, row))
            summarise(row, darkroom)
            write(o, machine, rows)
    print(table(o, machine, rows), end="")


if __name__ == "__main__":
    main()
