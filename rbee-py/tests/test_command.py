"""The command `rbee` of the package: the daemon, which runs in Python, and its workers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import rbee

LIMIT = 120


def run(*arguments: str, home: Path) -> str:
    environment = {**os.environ, "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
    command = [sys.executable, "-m", "rbee", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_names_its_version(tmp_path: Path) -> None:
    assert run("--version", home=tmp_path).split()[-1] == rbee.__version__


def test_the_command_serves_runs_and_ends(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    host = f"127.0.0.1:{port}"
    run("serve", "--detach", "--port", port, home=tmp_path)
    try:
        assert run("--host", host, "run", "bee-tiny", "What is a bee?", home=tmp_path).strip()
        assert "bee-tiny" in run("--host", host, "ps", home=tmp_path)
    finally:
        run("--host", host, "shutdown", home=tmp_path)
