"""Logs of rbee in Python's `logging`."""

from __future__ import annotations

import pytest
from test_manners import run

import rbee


def test_logs_go_to_loggers_below_rbee_with_the_job_that_they_are_about() -> None:
    done = run(
        """
        import logging, rbee

        class Lost:
            model = "lost"
            def execute(self, run):
                raise RuntimeError("no model here")
                yield

        logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
        logging.getLogger("rbee").setLevel(logging.DEBUG)
        rbee.use_logging(logging.DEBUG)
        with rbee.Queen(local_hive=False, workers=[Lost()], retries=0) as queen:
            job = queen.submit(model="lost", prompt="Hi")
            try:
                job.result()
            except rbee.RbeeError:
                print(job.id)
        """
    )
    job = done.stdout.strip()
    lines = done.stderr.splitlines()
    assert any(" rbee.core" in line and f"job={job}" in line for line in lines), done.stderr
    assert all(line.split()[1].startswith("rbee.") for line in lines if line.split()[0].isupper()), done.stderr


def test_nothing_is_logged_without_the_call_and_the_level_can_change() -> None:
    done = run(
        """
        import logging, rbee

        lines = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.levelname)
        logging.getLogger("rbee").addHandler(handler)
        logging.getLogger("rbee").setLevel(1)

        def use():
            with rbee.Queen() as queen:
                queen.submit(prompt="Hi", max_tokens=2).result()

        use()
        assert not lines, lines
        rbee.use_logging("off")
        use()
        assert not lines, lines
        rbee.use_logging("debug")
        use()
        import time
        end = time.monotonic() + 20
        while "DEBUG" not in lines and time.monotonic() < end:
            time.sleep(0.01)
        assert "DEBUG" in lines, lines
        """
    )
    assert done.stderr == ""


def test_a_slow_handler_slows_nothing_and_the_lines_that_wait_come_out_at_the_end() -> None:
    done = run(
        """
        import logging, rbee, sys, threading, time

        begun, go = threading.Event(), threading.Event()

        class Slow(logging.Handler):
            def emit(self, record):
                begun.set()
                go.wait()
                print(record.getMessage())

        logging.getLogger("rbee").addHandler(Slow())
        logging.getLogger("rbee").setLevel(logging.DEBUG)
        rbee.use_logging("debug")
        queen = rbee.Queen().open()
        for _ in range(3):
            queen.submit(prompt="Hi", max_tokens=2).result()
        assert begun.wait(20)
        queen.close()
        print("closed")
        go.set()
        """
    )
    first, *lines = done.stdout.splitlines()
    assert first == "closed"
    assert len(lines) > 1


def test_a_handler_that_raises_does_not_end_the_logs() -> None:
    done = run(
        """
        import logging, rbee, sys

        class Broken(logging.Handler):
            def emit(self, record):
                raise RuntimeError("broken handler")

        sys.unraisablehook = lambda raised: print("unraisable", raised.exc_value)
        logging.getLogger("rbee").addHandler(Broken())
        logging.getLogger("rbee").setLevel(logging.DEBUG)
        rbee.use_logging("debug")
        with rbee.Queen() as queen:
            queen.submit(prompt="Hi", max_tokens=2).result()
        """
    )
    assert done.stdout.splitlines().count("unraisable broken handler") > 1


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(ValueError, match='level is "loud"; allowed are off, error'):
        rbee.use_logging("loud")
