"""How the package behaves in a process: signals, forks, exits, threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

#: How long a script may take, on a busy machine.
LIMIT = 60


def run(script: str, *, code: int = 0, **options: object) -> subprocess.CompletedProcess[str]:
    text = textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", text], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def assert_nothing_is_left(directory: Path) -> None:
    """No file of a queen in this directory, and no process with its files open or as its working directory."""
    assert not directory.exists()
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            assert not str(path.readlink()).startswith(f"{directory}/"), path
        except OSError:
            continue


def test_importing_sets_up_nothing() -> None:
    done = run(
        """
        import logging, threading, sys
        import rbee
        assert threading.active_count() == 1
        assert not logging.getLogger().handlers and not logging.getLogger("rbee").handlers
        assert "asyncio" not in sys.modules, "a program without it does not pay for it"
        """
    )
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("waits", ["next(iter(job))", "job.result()", "queen.attach(job.id).result()"])
def test_ctrl_c_interrupts_a_wait_at_once(waits: str) -> None:
    script = f"""
    import rbee, signal
    # It is ignored if the tests run in the background of a shell.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with rbee.Queen(interactive_wait=600) as queen:
        queen.policy.set("// Waits.\\nfn schedule(job, workers, hives) {{ wait() }}")
        job = queen.submit(prompt="Hi")
        print("ready", flush=True)
        try:
            {waits}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            job.cancel()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert output == "interrupted\n"
    assert time.monotonic() - start < LIMIT / 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_gets_an_error_and_the_parent_goes_on() -> None:
    run(
        """
        import os, rbee, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        with rbee.Queen() as queen:
            child = os.fork()
            if child == 0:
                try:
                    queen.submit(prompt="Hi", max_tokens=1)
                except RuntimeError as error:
                    os._exit(7 if "forked" in str(error) else 8)
                os._exit(9)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert queen.submit(prompt="Hi", max_tokens=3, min_tokens=3).result().usage.completion_tokens == 3
        """
    )


@pytest.mark.parametrize(
    "use",
    [
        "next(iter(queen.submit(prompt='Hi', max_tokens=400, min_tokens=400)))",
        "job = queen.submit(prompt='Hi', max_tokens=400, min_tokens=400); next(iter(job)); sys.exit(0)",
        "threading.Thread(target=read, daemon=True).start()",
        "server = queen.serve()",
    ],
)
def test_the_interpreter_ends_while_a_queen_is_open(use: str) -> None:
    start = time.monotonic()
    done = run(
        f"""
        import contextlib, rbee, sys, threading

        def read():
            with contextlib.suppress(rbee.RbeeError, RuntimeError):
                list(queen.submit(prompt="Hi", max_tokens=400, min_tokens=400))

        queen = rbee.Queen().open()
        print(queen._temporary.name)
        {use}
        """
    )
    assert done.stderr == ""
    assert_nothing_is_left(Path(done.stdout.strip()))
    assert time.monotonic() - start < 30


def test_a_loop_that_is_closed_with_streams_open_neither_hangs_nor_crashes() -> None:
    done = run(
        """
        import asyncio, rbee

        async def main():
            queen = await rbee.AsyncQueen().open()

            async def read():
                async for _ in await queen.submit(prompt="Hi", max_tokens=400, min_tokens=400):
                    pass

            for _ in range(5):
                asyncio.create_task(read())
            await asyncio.sleep(0.2)

        asyncio.run(main())
        """
    )
    assert done.stderr == ""


def test_no_process_is_left_after_a_queen() -> None:
    done = run(
        """
        import rbee
        with rbee.Queen() as queen:
            queen.submit(prompt="Hi", max_tokens=1).result()
            worker = queen.fleet.workers()[0]
            print(queen._temporary.name)
        """
    )
    assert_nothing_is_left(Path(done.stdout.strip()))


def test_a_thousand_queens_leave_no_threads_and_little_memory() -> None:
    run(
        """
        import os, rbee, threading

        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def threads():
            return len(os.listdir("/proc/self/task"))

        def some(count):
            for _ in range(count):
                with rbee.Queen(local_hive=False):
                    pass

        some(200)
        before = (resident(), threads())
        some(800)
        after = (resident(), threads())
        assert after[1] <= before[1] + 2, (before, after)
        assert after[0] < before[0] + (8 << 20), (before, after)
        """
        if sys.platform == "linux"
        else ""
    )

