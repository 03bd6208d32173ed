"""The parts of a queen: fleet, models, policy, tenants, the HTTP API, and schedulers in Python."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import rbee
from rbee._programs import bundled_model, program

_bundled = bundled_model()
assert _bundled is not None
MODEL: Path = _bundled
WAITS = "// Waits.\nfn schedule(job, workers, hives) { wait() }"


@contextmanager
def hive(directory: Path, name: str) -> Generator[rbee.UrlHive]:
    """A hive of its own process on a port of this machine."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    token = secrets.token_hex(32)
    (directory / f"{name}.token").write_text(token)
    command = [str(program()), "rbee-hive", "--id", name, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--token-file", str(directory / f"{name}.token"), "--state-dir", str(directory / name)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield rbee.UrlHive(f"http://127.0.0.1:{port}", token=token)
    finally:
        process.terminate()
        process.wait(30)


def wait_until_online(queen: rbee.Queen, count: int) -> None:
    for _ in range(600):
        if sum(hive.status == "online" for hive in queen.fleet.list()) == count:
            return
        time.sleep(0.05)
    raise AssertionError(queen.fleet.list())


def test_the_fleet_shows_this_machine_and_its_worker(queen: rbee.Queen) -> None:
    queen.submit(prompt="Hi", max_tokens=1).result()
    [local] = queen.fleet.list()
    assert (local.id, local.status, local.workers, local.error) == ("local", "online", 1, None)
    assert local.devices is not None and local.devices[0].memory_total > 0
    [worker] = queen.fleet.workers()
    assert (worker.hive, worker.state, worker.backend) == ("local", "ready", "candle")
    queen.fleet.pin(worker.id)
    assert queen.fleet.workers()[0].pinned
    queen.fleet.pin(worker.id, False)
    with pytest.raises(rbee.NotFound):
        queen.fleet.drain("attic")


def test_models_are_named_loaded_and_unloaded() -> None:
    model = MODEL
    with rbee.Queen(aliases={"mine": model, "same": str(model)}) as queen:
        assert queen.models.aliases["mine"] == queen.models.aliases["same"] == f"file:{model}"
        assert queen.models.resolve("mine") == f"file:{model}"
        described = queen.models.describe("mine")
        assert described.bytes is not None and described.bytes > 1_000_000
        worker = queen.models.load("mine", pin=True, slots=2)
        assert queen.submit(model="same", prompt="Hi", max_tokens=2, min_tokens=2).result().worker == worker
        assert [(found.id, found.slots, found.pinned) for found in queen.fleet.workers()] == [(worker, 2, True)]
        queen.fleet.unload(worker)
        with pytest.raises(rbee.ModelNotFound):
            queen.models.load("file:/no/such/model")
        with pytest.raises(rbee.RbeeError):
            queen.models.pull("hf:org/repo", progress=print)


def test_a_pull_tells_its_progress(tmp_path: Path) -> None:
    seen: list[rbee.Progress] = []
    with rbee.Queen(models_dir=tmp_path, offline=True) as queen:
        pulled = queen.models.pull(f"file:{MODEL}", progress=seen.append)
        assert (pulled.model, pulled.hive) == (f"file:{MODEL}", "local")
    assert all(0 <= progress.done <= (progress.total or progress.done) for progress in seen)


def test_policies_are_checked_set_replayed_and_reset(queen: rbee.Queen, tmp_path: Path) -> None:
    policy = queen.policy
    assert policy.get().name == "least-loaded"
    with pytest.raises(ValueError, match="in_regoin"):
        policy.check("fn schedule(job, workers, hives) { workers.in_regoin(1) }")
    queen.submit(prompt="Hi", max_tokens=1).result()
    checked = policy.check(WAITS)
    assert checked.description == "Waits." and {shown.decision for shown in checked.decisions} == {"wait"}
    replayed = policy.replay("fn schedule(job, workers, hives) { builtin() }", since=600)
    assert replayed.candidate.jobs == replayed.current.jobs > 0
    (tmp_path / "mine.txt").write_text(WAITS)
    with pytest.raises(rbee.InvalidRequest, match="txt"):
        policy.set(tmp_path / "mine.txt")
    (tmp_path / "mine.rhai").write_text(WAITS)
    first = policy.set(tmp_path / "mine.rhai")
    job = queen.submit(prompt="Hi", max_tokens=1)
    assert queen.position(job.id) == 0 and policy.explain("bee-tiny").decision == "wait"
    policy.reset()
    assert job.result().usage.completion_tokens == 1
    assert first.version is not None
    policy.roll_back(first.version)
    assert policy.get().text == WAITS
    policy.reset()


def test_tenants_have_limits_and_keys(queen: rbee.Queen) -> None:
    queen.tenants.put("ada", concurrent_jobs=1, priorities=["batch"])
    key = queen.tenants.issue_key("ada", "for tests")
    tenant = queen.tenants.get("ada")
    assert (tenant.limits["concurrent_jobs"], tenant.keys[0].label) == (1, "for tests")
    with pytest.raises(rbee.PermissionDenied):
        queen.submit(prompt="Hi", tenant="ada")
    assert queen.submit(prompt="Hi", tenant="ada", priority="batch", max_tokens=1).result().finish == "length"
    with queen.serve() as server:
        request = urllib.request.Request(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
        assert json.load(urllib.request.urlopen(request))["object"] == "list"
    queen.tenants.revoke_key("ada", tenant.keys[0].hash[:8])
    assert queen.tenants.get("ada").keys == []
    queen.tenants.remove("ada")
    assert queen.tenants.list() == []
    with pytest.raises(KeyError, match="ada"):
        queen.tenants.get("ada")


def test_the_http_api_is_that_of_openai_and_needs_its_token(queen: rbee.Queen) -> None:
    token = secrets.token_hex(32)
    with queen.serve(token=token) as server:
        body = {"model": "bee-tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "seed": 1}
        request = urllib.request.Request(f"{server.url}/v1/chat/completions", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == 401
        request.add_header("Authorization", f"Bearer {token}")
        answer = json.load(urllib.request.urlopen(request))
        assert answer["usage"]["completion_tokens"] == 4
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(request, timeout=5)
    metrics = queen.metrics()
    assert metrics['rbee_jobs_total{outcome="complete",code=""}'] >= 1


def test_batches_of_requests_run_if_the_server_has_a_directory_for_them(queen: rbee.Queen, tmp_path: Path) -> None:
    body = {"model": "bee-tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body})
    edge = "edge-of-the-form"
    parts = (
        f'--{edge}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n{line}\n\r\n--{edge}--\r\n'
    )

    def ask(url: str, data: bytes | None = None, kind: str = "application/json") -> dict[str, Any]:
        request = urllib.request.Request(url, data, {"Content-Type": kind})
        return cast("dict[str, Any]", json.load(urllib.request.urlopen(request, timeout=30)))

    with queen.serve() as server, pytest.raises(urllib.error.HTTPError) as refused:
        ask(f"{server.url}/v1/batches")
    assert refused.value.code == 400
    with queen.serve(batches=tmp_path / "batches") as server:
        form = f"multipart/form-data; boundary={edge}"
        file = ask(f"{server.url}/v1/files", parts.encode(), form)
        wanted = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = ask(f"{server.url}/v1/batches", json.dumps(wanted).encode())
        until = time.monotonic() + 60
        while batch["status"] not in ("completed", "failed") and time.monotonic() < until:
            time.sleep(0.05)
            batch = ask(f"{server.url}/v1/batches/{batch['id']}")
        assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
        with pytest.raises(rbee.Conflict):
            queen.serve(batches=tmp_path / "batches")
    with queen.serve(batches=tmp_path / "batches") as server:
        assert ask(f"{server.url}/v1/batches/{batch['id']}")["status"] == "completed"


class Chosen:
    """Takes the hive that it was told."""

    def __init__(self) -> None:
        self.hive = "attic"
        self.seen: list[tuple[str, str, int]] = []

    def place(self, job: rbee.JobView, cluster: rbee.ClusterView) -> rbee.Placement:
        self.seen.append((job.model, job.priority, len(cluster.hives)))
        here = [worker for worker in cluster.available(job) if worker.hive == self.hive]
        if here:
            return here[0]
        if any(worker.hive == self.hive for worker in cluster.with_model(job.model)):
            return None
        return next((hive for hive in cluster.hives if hive.id == self.hive), rbee.Wait())


def test_a_scheduler_in_python_places_jobs_over_two_hives(tmp_path: Path) -> None:
    scheduler = Chosen()
    with (
        hive(tmp_path, "attic") as attic,
        hive(tmp_path, "cellar") as cellar,
        rbee.Queen(scheduler=scheduler, local_hive=False, hives=[attic], aliases={"bee": MODEL}) as queen,
    ):
        assert queen.fleet.add(cellar) == "cellar"
        wait_until_online(queen, 2)
        assert queen.policy.get().name == "Chosen"
        assert queen.policy.get().description == "Takes the hive that it was told."
        hives = {}
        for scheduler.hive in ("attic", "cellar", "attic"):
            worker = queen.submit(model="bee", prompt="Hi", max_tokens=2).result().worker
            hives[scheduler.hive] = next(found.hive for found in queen.fleet.workers() if found.id == worker)
        assert hives == {"attic": "attic", "cellar": "cellar"}
        assert scheduler.seen[0] == (f"file:{MODEL}", "interactive", 2)
        queen.fleet.remove("cellar")
        assert [found.id for found in queen.fleet.list()] == ["attic"]


class Failing:
    """Raises."""

    def place(self, job: rbee.JobView, cluster: rbee.ClusterView) -> rbee.Placement:
        raise ZeroDivisionError("by a bee")


class Slow:
    """Takes its time."""

    limit = 0.05

    def __init__(self) -> None:
        self.released = threading.Event()

    def place(self, job: rbee.JobView, cluster: rbee.ClusterView) -> rbee.Placement:
        self.released.wait(30)
        return None


class Rejecting:
    """Refuses all."""

    def place(self, job: rbee.JobView, cluster: rbee.ClusterView) -> rbee.Placement:
        return rbee.Reject("not today")


def test_a_scheduler_that_raises_is_replaced_for_that_job_and_tells_why() -> None:
    with rbee.Queen(scheduler=Failing()) as queen:
        assert queen.submit(prompt="Hi", max_tokens=2, min_tokens=2).result().usage.completion_tokens == 2
        assert "ZeroDivisionError: by a bee" in queen.policy.explain("bee-tiny").decision


def test_a_slow_scheduler_delays_no_job_for_long() -> None:
    slow = Slow()
    with rbee.Queen(scheduler=slow) as queen:
        start = time.monotonic()
        assert queen.submit(prompt="Hi", max_tokens=2, min_tokens=2).result().usage.completion_tokens == 2
        assert time.monotonic() - start < 20
        slow.released.set()


def test_a_scheduler_can_reject() -> None:
    with rbee.Queen(scheduler=Rejecting()) as queen, pytest.raises(rbee.Rejected, match="not today"):
        queen.submit(prompt="Hi").result()
