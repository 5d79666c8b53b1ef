#!/usr/bin/env python3
"""The checks of tools/check_fullsize.sh, which prepares what they need.

    fullsize_checks.py PROGRAMS CHECKPOINT VECTORS [agree] [memory] [fraction] [cancel]

PROGRAMS is the build folder. Each check starts its own worker and talks to it over the pipe; standard library only.
"""
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

AGREE = 1e-3            # relative L2 distance of every stage
MEMORY = 9.0e9          # bytes, resident peak of a worker at 1024x1024
PLAN = 0.03             # how far the plan may be from that peak
IDLE = 1.0              # seconds from cancel to answer
MOMENTS = 12
PROMPT = "a castle on a hill at dawn, oil painting"


class Worker:
    """A darkroom-worker; answers are matched to requests by their id."""

    def __init__(self, programs, folder, *options):
        self.process = subprocess.Popen(
            [os.path.join(programs, "darkroom-worker"), "--root", folder, *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.count = 0
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the worker has ended with status %s" % self.process.wait())
        return json.loads(line)

    def send(self, kind, data, name=None):
        self.count += 1
        name = name or "%s-%d" % (kind, self.count)
        self.process.stdin.write(json.dumps({"type": kind, "request_id": name, "data": data}) + "\n")
        self.process.stdin.flush()
        return name

    def wait(self, name):
        while True:
            answer = self.read()
            if answer.get("request_id") == name and answer.get("type") != "progress":
                return answer

    def must(self, kind, data):
        answer = self.wait(self.send(kind, data))
        if not answer["success"]:
            sys.exit("%s: %s" % (kind, answer["error"]))
        return answer["data"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def cold(path):
    """Drops the file from the page cache, as after a boot."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def agree(programs, model, vectors, folder):
    """Every stage of two guided steps at 256x256 in float32, against diffusers."""
    expected = json.load(open(os.path.join(vectors, "request.json"), encoding="utf-8"))
    if sha256(model) != expected["sha256"]:
        sys.exit("%s: not the checkpoint that the vectors were made from" % model)
    dump = os.path.join(folder, "stages")
    worker = Worker(programs, folder)
    result = worker.must("generate", dict(expected["request"], model=model, dump_stages=dump, precision="f32"))
    worker.close()
    print("  seconds by stage:", {name: round(value, 2) for name, value in result["seconds"].items()})
    tool = os.path.join(programs, "compare_stages")
    return subprocess.run([tool, dump, vectors, str(AGREE)]).returncode == 0


def memory(programs, model, vectors, folder):
    """The resident peak at 1024x1024, guided, with the file on disk only and with it cached, against the plan."""
    good = True
    request = {"prompt": PROMPT, "width": 1024, "height": 1024, "steps": 1, "seed": 1, "model": model}
    cold(model)
    for start in ("first", "second"):
        worker = Worker(programs, folder)
        planned = worker.must("plan", request)["peak_bytes"]
        began = time.monotonic()
        result = worker.must("generate", request)
        seconds = time.monotonic() - began
        worker.close()
        peak = result["peak_bytes"]
        fits = peak <= MEMORY and abs(planned / peak - 1) <= PLAN
        good = good and fits
        print("  %s start: peak %.3f GB, planned %.3f GB (%+.2f %%), %.0f s %s%s" % (
            start, peak / 1e9, planned / 1e9, 100 * (planned / peak - 1), seconds,
            {name: round(value, 1) for name, value in result["seconds"].items()}, "" if fits else "  TOO FAR"), flush=True)
    return good


def fraction(programs, model, vectors, folder):
    """A forward of the UNet at 512x512 against the machine's multiply-add rate."""
    return subprocess.run([os.path.join(programs, "unet_fraction"), model, "512"]).returncode == 0


def fast(programs, model, vectors, folder):
    """The error of the kernels that trade accuracy for speed, by network, at 512x512."""
    return subprocess.run([os.path.join(programs, "fast_error"), model, "512"]).returncode == 0


def cancel(programs, model, vectors, folder):
    """Random moments of 1024x1024 in float32: from a cold file, later, and in decoding, reached with injected latents."""
    latents = os.path.join(folder, "latents.npy")
    shape = (1, 4, 128, 128)
    with open(latents, "wb") as file:
        head = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }" % (shape,)
        head += " " * (63 - (len(head) + 10) % 64) + "\n"
        file.write(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + b"\0" * (4 * 4 * 128 * 128))
    request = {"prompt": PROMPT, "width": 1024, "height": 1024, "steps": 1, "seed": 1, "model": model,
               "sampler": "euler", "precision": "f32"}
    decoding = dict(request, load_stage={"latents_000": latents})
    chance, worst, good = random.Random(7), 0.0, True
    worker = Worker(programs, folder)
    for moment in range(MOMENTS):
        kind = ("loading", "denoise", "decode")[moment % 3]
        if kind == "loading":
            worker.must("unload_model", {})
            cold(model)
        name = worker.send("generate", decoding if kind == "decode" else request)
        time.sleep(chance.uniform(0.01, 6) if kind == "loading" else chance.uniform(2, 25))
        asked = time.monotonic()
        worker.send("cancel", {"target": name}, "cancel")
        answer = worker.wait(name)
        idle = time.monotonic() - asked
        worst = max(worst, idle)
        good = good and idle <= IDLE and not answer["success"] and answer["error_code"] == "CANCELED"
        print("  %-8s %s after %.3f s" % (kind, "done" if answer["success"] else answer["error_code"], idle), flush=True)
    worker.must("devices", {})
    worker.close()
    print("  idle after %.3f s at most" % worst)
    return good


def main():
    programs, model, vectors = sys.argv[1:4]
    checks = {"agree": agree, "memory": memory, "fraction": fraction, "fast": fast, "cancel": cancel}
    wrong = []
    for name in sys.argv[4:] or checks:
        print("%s: %s" % (name, checks[name].__doc__), flush=True)
        folder = tempfile.mkdtemp(prefix="darkroom-fullsize-")
        try:
            if not checks[name](programs, model, vectors, folder):
                wrong.append(name)
        finally:
            shutil.rmtree(folder)
    print("wrong: " + " ".join(wrong) if wrong else "all as it should be")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
