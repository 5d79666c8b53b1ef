#!/usr/bin/env python3
"""examples/client.py as a developer would use it: as a program, and its class in a program of one's own.
usage: test_client.py SOURCE BUILD"""
import os
import subprocess
import sys
import tempfile

source, build = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
example = os.path.join(source, "examples", "client.py")
worker = os.path.join(build, "darkroom-worker")
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(example))
import client  # noqa: E402


def run(folder, *arguments):
    command = [sys.executable, "-B", example, "--worker", worker, "-o", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def as_a_program(folder):
    drawn = run(folder, "a red circle", "a blue square")
    assert drawn.returncode == 0, drawn.stderr
    paths = [line.rsplit(" (seed", 1)[0] for line in drawn.stdout.splitlines()]
    assert len(paths) == 2 and all(os.path.isfile(path) for path in paths), drawn.stdout
    failed = run(folder, "-m", "/nowhere", "a red circle")
    assert failed.returncode == 1 and "NOT_FOUND" in failed.stderr, failed.stderr
    cancelled = run(folder, "--cancel-after", "0.001", "a red circle")
    assert cancelled.returncode == 1 and "CANCELED" in cancelled.stderr, cancelled.stderr


def as_a_class(folder):
    with client.Worker(worker, roots=[folder]) as w:
        assert "generate" in w.ready["verbs"]
        assert w.call("health")["state"] == "idle"
        steps = []
        first = w.send("generate", {"prompt": "a red circle", "steps": 3, "stream": True})
        second = w.send("generate", {"prompt": "a blue square", "steps": 2, "save_path": folder})
        answer = w.wait(first, lambda data: steps.append(data["step"]))
        assert answer["encoding"] == "base64" and max(steps) == 3, (answer["encoding"], steps)
        assert w.wait(second)["images"] == [os.path.join(folder, second + "_000.png")]
        assert w.cancel("nobody") is False
        try:
            w.call("generate", {"prompt": "x", "steps": 0})
        except client.WorkerError as error:
            assert error.code == "INVALID_VALUE" and error.details[0]["path"] == "steps", error
        else:
            raise AssertionError("0 steps were drawn")
    try:
        client.Worker(worker, roots=["/nowhere"])
    except client.WorkerError as error:
        assert "/nowhere" in str(error), error
    else:
        raise AssertionError("a worker without its root started")


def a_worker_that_dies(folder):
    w = client.Worker(worker, roots=[folder])
    request = w.send("generate", {"prompt": "x", "steps": 1000})
    w.process.kill()
    try:
        w.wait(request)
    except client.WorkerError as error:
        assert error.code == "IO_ERROR", error
    else:
        raise AssertionError("an answer of a worker that was killed")
    w.process.wait()
    try:
        for _ in range(100):  # the pipe may take the first
            w.call("health")
    except client.WorkerError as error:
        assert error.code == "IO_ERROR", error
    assert w.close() == -9
    assert run(folder, "--worker", "/nowhere", "x").returncode == 1


with tempfile.TemporaryDirectory() as scratch:
    for test in (as_a_program, as_a_class, a_worker_that_dies):
        place = os.path.join(scratch, test.__name__)
        os.mkdir(place)
        test(place)
print("client: passed")
