"""The examples run."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
LIMIT = 120


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_stream_ends_with_its_usage() -> None:
    assert "9 tokens of the prompt" in run("stream.py", "What", "is", "a", "bee?")


def test_a_thousand_prompts_are_answered() -> None:
    assert run("batch.py", "1000").endswith("1000 answers\n")


def test_the_scheduler_decides() -> None:
    output = run("scheduler.py")
    assert "policy: Batch jobs run where power is cheap" in output
    assert "why: run on worker" in output


def test_the_store_has_what_an_earlier_run_has_answered() -> None:
    assert run("registry.py").endswith("stored: complete 20 tokens\n")


def test_the_hive_replaces_an_engine_that_dies() -> None:
    assert run("hive.py").endswith("again: A bee has six legs and four wings. \n")


def test_the_notebook_runs() -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    client.NotebookClient(notebook, timeout=LIMIT, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("bee" in str(output).lower() for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]


def test_an_application_survives_two_hundred_clients_that_vanish() -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen(command, cwd=EXAMPLES, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(port)
        ask = f"GET /ask?question=Everything&tokens=400 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        clients: list[socket.socket] = []
        for _ in range(200):
            client = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
            client.sendall(ask)
            clients.append(client)
        assert clients[0].recv(1).startswith(b"H")
        for client in clients:
            client.close()
        deadline = time.monotonic() + LIMIT
        while b'"jobs":0' not in (status := urllib.request.urlopen(f"{url}/status").read()):
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        answer = urllib.request.urlopen(f"{url}/ask?question=What+is+a+bee%3F&tokens=8").read()
        assert answer
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=LIMIT)
    assert errors == ""


def wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the application does not listen")
