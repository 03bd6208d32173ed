"""A hive in Python: its workers are processes of another engine, one for each model that is loaded."""

from __future__ import annotations

import collections
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import rbee

#: The engine: a program that loads a file and answers line by line. Yours is llama-server, or whatever you have.
ENGINE = """
import json, sys, pathlib
sentence = pathlib.Path(sys.argv[1]).read_text().split()
if not sentence:
    sys.exit("the model is empty")
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    position = json.loads(line)
    print(json.dumps(sentence[position] + " " if position < len(sentence) else None), flush=True)
"""


class Engine:
    """A worker: a process, which is asked for one token after the other."""

    #: One job at a time, whatever the order says.
    slots = 1

    def __init__(self, model: Path) -> None:
        command = [sys.executable, "-c", ENGINE, str(model)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def execute(self, run: rbee.Run) -> Iterator[str]:
        for position in range(run.max_tokens or 1000):
            word = self.ask(position)
            if word is None:
                return
            yield word

    def ask(self, position: int) -> str | None:
        assert self.process.stdin is not None
        try:
            print(json.dumps(position), file=self.process.stdin, flush=True)
        except OSError as error:
            raise rbee.WorkerLost("the process of the engine has ended") from error
        return self.read()

    def read(self) -> str | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise rbee.WorkerLost("the process of the engine has ended")
        answer: str | None = json.loads(line)
        return answer


class Machine:
    """This machine, with the models in a directory. `library` is where others come from."""

    def __init__(self, directory: Path, library: dict[str, str], id: str = "attic") -> None:
        self.id = id
        self.labels = {"region": "attic"}
        self.directory = directory
        self.library = library
        self.engines: dict[str, Engine] = {}
        self.watchers: list[queue.Queue[rbee.Exited]] = []

    def report(self) -> rbee.HiveReport:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
        processor = rbee.Device(index=0, kind="cpu", name="processor", memory_total=total, memory_free=min(free, total))
        models = [rbee.ModelOnDisk(path.name, path.stat().st_size) for path in self.directory.iterdir()]
        return rbee.HiveReport(devices=[processor], models=models)

    def watch(self, owner: int) -> Iterator[rbee.HiveEvent]:
        exits: queue.Queue[rbee.Exited] = queue.Queue()
        self.watchers.append(exits)
        try:
            # The machine is ready.
            yield None
            while True:
                try:
                    yield exits.get(timeout=0.5)
                except queue.Empty:
                    # So that rbee can end this generator.
                    yield None
        finally:
            self.watchers.remove(exits)

    def spawn(self, worker: str, spec: rbee.WorkerSpec, progress: rbee.ReportProgress) -> Engine:
        model = self.directory / spec.model
        if not model.is_file():
            raise rbee.ModelNotFound(f"there is no model {spec.model} in {self.directory}")
        # From here on `stop` can end it.
        engine = self.engines[worker] = Engine(model)
        lines: collections.deque[str] = collections.deque(maxlen=5)
        threading.Thread(target=self.follow, args=(worker, engine, lines), daemon=True).start()
        try:
            engine.read()
        except rbee.WorkerLost:
            self.engines.pop(worker, None)
            engine.process.wait()
            raise rbee.ModelIncompatible(f"the engine cannot load {spec.model}: {' '.join(lines)}") from None
        progress(1, 1)
        return engine

    def follow(self, worker: str, engine: Engine, lines: collections.deque[str]) -> None:
        """Waits for the end of a process, and reports it if nobody has asked for it."""
        assert engine.process.stderr is not None
        for line in engine.process.stderr:
            lines.append(line.strip())
        code = engine.process.wait()
        if self.engines.pop(worker, None) is not None:
            reason = " ".join([f"the process ended with {code}", *lines])
            for watcher in list(self.watchers):
                watcher.put(rbee.Exited(worker, reason))

    def worker(self, worker: str) -> rbee.Worker:
        # The processes end with this program, so there are none from before.
        raise rbee.NotFound(f"there is no worker {worker}")

    def stop(self, worker: str, grace: float) -> None:
        engine = self.engines.pop(worker, None)
        if engine is None:
            return
        engine.process.terminate()
        try:
            engine.process.wait(grace)
        except subprocess.TimeoutExpired:
            engine.process.kill()
            engine.process.wait()

    def shutdown(self, grace: float) -> None:
        for worker in list(self.engines):
            self.stop(worker, grace)

    def provision(self, model: str, origin: rbee.ModelOrigin, progress: rbee.ReportProgress) -> rbee.ModelOnDisk:
        path = self.directory / model
        if not path.is_file():
            text = self.library.get(model)
            if text is None:
                raise rbee.ModelNotFound(f"there is no model {model} here")
            progress(0, len(text))
            path.write_text(text)
            progress(len(text), len(text))
        return rbee.ModelOnDisk(model, path.stat().st_size)

    def remove_model(self, model: str) -> None:
        (self.directory / model).unlink(missing_ok=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        machine = Machine(Path(directory), {"bee": "A bee has six legs and four wings."})
        with rbee.Queen(local_hive=False, hives=[machine]) as queen:
            queen.models.pull("bee", hive="attic")
            print("answer:", queen.submit(model="bee", prompt="What is a bee?").result().text)
            [worker] = queen.fleet.workers()
            print("worker:", worker.hive, worker.state)
            # An engine that dies is replaced.
            machine.engines[worker.id].process.kill()
            while any(found.id == worker.id for found in queen.fleet.workers()):
                time.sleep(0.01)
            print("again:", queen.submit(model="bee", prompt="What is a bee?").result().text)
