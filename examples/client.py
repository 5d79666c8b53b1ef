#!/usr/bin/env python3
"""client.py - draws pictures through darkroom-worker: JSON lines on a pipe. Standard library only.

    examples/client.py [-m MODEL] [-o FOLDER] [--cancel-after SECONDS] PROMPT...

Starts one worker, sends one request for each prompt, prints progress, and has the worker write the
pictures into FOLDER.

Copy `class Worker` into a program of your own: it is all that is needed. See
docs/api_documentation.md for the messages.
"""
import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))


class WorkerError(Exception):
    """A request that failed; `code` is the protocol's error code, `details` names the field."""

    def __init__(self, event):
        super().__init__(event.get("error", "unknown error"))
        self.code = event.get("error_code", "")
        self.details = event.get("details", [])


class Worker:
    """A darkroom-worker process. Requests may be sent from several threads.

    `with Worker(roots=["/srv/pictures"]) as worker: worker.call("generate", {...})`
    """

    def __init__(self, program="darkroom-worker", roots=(), models=(), arguments=()):
        command = [program, *arguments]
        for folder in roots:
            command += ["--root", folder]
        for folder in models:
            command += ["--models", folder]
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise WorkerError({"error": f"{program}: {error.strerror}"}) from error
        self.waiting = {}  # request_id: the queue that its events go to
        self.lock = threading.Lock()
        self.ready = self._read_event()
        if not self.ready or not self.ready.get("success"):
            self.process.wait()
            raise WorkerError(self.ready or {"error": f"{program} ended before it was ready"})
        threading.Thread(target=self._read_events, daemon=True).start()

    def send(self, verb, data, request_id=None):
        """Sends a request; returns its id. Use `events` or `wait` for what comes back.

        Pictures are called ID_000.png, so an id that is never used twice names its files for good.
        """
        request_id = request_id or uuid.uuid4().hex
        line = json.dumps({"type": verb, "request_id": request_id, "data": data})
        with self.lock:
            self.waiting[request_id] = queue.Queue()
            try:
                self.process.stdin.write(line.encode() + b"\n")
                self.process.stdin.flush()
            except OSError as error:
                ended = {"error": "the worker has ended", "error_code": "IO_ERROR"}
                raise WorkerError(ended) from error
        return request_id

    def events(self, request_id):
        """Yields the events of a request. The last one is its answer."""
        events = self.waiting[request_id]
        while True:
            event = events.get()
            yield event
            if not is_progress(event):
                del self.waiting[request_id]
                return

    def wait(self, request_id, on_progress=None):
        """The answer's data. Raises WorkerError when the request failed."""
        for event in self.events(request_id):
            if is_progress(event) and on_progress:
                on_progress(event["data"])
        if not event.get("success"):
            raise WorkerError(event)
        return event.get("data", {})

    def call(self, verb, data=None, on_progress=None):
        """Sends a request and waits for its answer."""
        return self.wait(self.send(verb, data or {}), on_progress)

    def cancel(self, request_id):
        """Cancels a request; its own answer is then an error with code CANCELED."""
        return self.call("cancel", {"target": request_id})["cancelled"]

    def close(self):
        """Ends the worker when everything that was sent has been answered."""
        try:
            self.process.stdin.close()
        except OSError:
            pass  # it ended before
        return self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _read_event(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def _read_events(self):
        while event := self._read_event():
            # an id that nobody waits for: a request that was sent without `send`
            events = self.waiting.get(event.get("request_id"))
            if events:
                events.put(event)
        status = self.process.wait()
        text = f"the worker ended with status {status}"
        ended = {"success": False, "error": text, "error_code": "IO_ERROR"}
        for events in list(self.waiting.values()):
            events.put(ended)


def is_progress(event):
    """Progress events carry data.type "progress"; every other event with an id is an answer."""
    return isinstance(event.get("data"), dict) and event["data"].get("type") == "progress"


def show(data):
    """One line of progress."""
    if data.get("total_steps"):
        print(f"\r  step {data['step']}/{data['total_steps']}", end="", file=sys.stderr)
    elif data.get("step"):
        print(f"\r  step {data['step']}", end="", file=sys.stderr)  # an adaptive sampler: nobody knows of how many
    elif "message" in data:
        print(f"  {data['message']}", file=sys.stderr)
    elif "warning" in data:
        print(f"  warning: {data['warning']}", file=sys.stderr)


def draw(worker, options, prompt):
    fields = {"prompt": prompt, "save_path": os.path.abspath(options.output), "stream": True}
    if options.model:
        fields["model"] = options.model
    request = worker.send("generate", fields)
    timer = threading.Timer(options.cancel_after or 0, worker.cancel, [request])
    if options.cancel_after:
        timer.start()
    try:
        answer = worker.wait(request, show)
    except WorkerError as error:
        print(f"\n{prompt}: {error} ({error.code})", file=sys.stderr)
        return False
    finally:
        timer.cancel()
    print(file=sys.stderr)
    for path, seed in zip(answer["images"], answer["seed_used"]):
        print(f"{path} (seed {seed})")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompts", nargs="+", metavar="PROMPT")
    parser.add_argument("-m", "--model", help="checkpoint (default: the shipped small model)")
    parser.add_argument("-o", "--output", default=".", help="folder for the pictures")
    parser.add_argument("--cancel-after", type=float, metavar="SECONDS")
    built = os.path.join(HERE, "..", "build", "release", "darkroom-worker")
    installed = shutil.which("darkroom-worker")
    parser.add_argument("--worker", default=installed or built, help="the worker program")
    options = parser.parse_args()
    os.makedirs(options.output, exist_ok=True)
    try:
        with Worker(options.worker, roots=[os.path.abspath(options.output)]) as worker:
            drawn = [draw(worker, options, prompt) for prompt in options.prompts]
    except WorkerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if all(drawn) else 1


if __name__ == "__main__":
    sys.exit(main())
