"""A child process: what it says, how it ends, and that it never outlives its parent."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from catenary.adapters.nats.child import LINE_LIMIT_BYTES, Child
from tests.adapters.nats.listening import until
from tests.parts.heart import in_loop

GUARDED = pytest.mark.parametrize("is_guarded", [False, True])

STUBBORN = "trap '' TERM; echo ready >&2; while :; do sleep 0.05; done"

PARENT = """
import asyncio, sys, uvloop
from catenary.adapters.nats.child import Child

async def main():
    child = await Child.start(["sleep", "60"], is_guarded=sys.argv[1] == "True")
    print(child.pid, flush=True)
    await asyncio.sleep(60)

uvloop.run(main())
"""


def is_running(pid: int) -> bool:
    """A zombie, whose status was not collected, no longer runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


@GUARDED
@in_loop
async def test_its_lines_are_read_to_its_end(is_guarded: bool) -> None:
    heard: list[str] = []
    child = await Child.start(
        ["sh", "-c", r"echo one >&2; echo lost; printf 'tw\377o\n\nend' >&2; exit 3"],
        is_guarded=is_guarded,
    )
    assert await child.listen(heard.append) == 3
    assert heard == ["one", "tw�o", "", "end"]
    await child.stop(1)


@in_loop
async def test_a_line_that_is_too_long_is_skipped() -> None:
    heard: list[str] = []
    script = f"head -c {LINE_LIMIT_BYTES * 3} /dev/zero >&2; echo >&2; echo after >&2"
    child = await Child.start(["sh", "-c", script])
    assert await child.listen(heard.append) == 0
    assert heard[-1] == "after"
    assert all(len(line) <= LINE_LIMIT_BYTES for line in heard)


@GUARDED
@in_loop
async def test_a_process_that_does_not_end_is_killed(is_guarded: bool) -> None:
    heard: list[str] = []
    child = await Child.start(["sh", "-c", STUBBORN], is_guarded=is_guarded)
    listening = asyncio.create_task(child.listen(heard.append))
    await until(lambda: heard == ["ready"])
    began = time.monotonic()
    await child.stop(0.2)
    assert 0.2 <= time.monotonic() - began < 2
    assert not is_running(child.pid)
    # A sleep of the script may hold its standard error a little longer.
    assert await asyncio.wait_for(listening, 5) == -signal.SIGKILL


@in_loop
async def test_a_process_that_does_not_end_is_killed_in_a_cancelled_task() -> None:
    """CPython 3.11.2's asyncio.timeout() raises CancelledError there."""
    heard: list[str] = []
    child = await Child.start(["sh", "-c", STUBBORN])

    async def run() -> None:
        try:
            await child.listen(heard.append)
        finally:
            await child.stop(0.05)

    running = asyncio.create_task(run())
    await until(lambda: heard == ["ready"])
    running.cancel()
    await asyncio.wait([running])
    assert not is_running(child.pid)


@in_loop
async def test_a_program_that_is_not_there() -> None:
    with pytest.raises(OSError, match="no-such-program"):
        await Child.start(["/no-such-program"])


@in_loop
async def test_ctrl_c_in_our_terminal_is_not_for_it() -> None:
    child = await Child.start(["sleep", "60"])
    assert os.getpgid(child.pid) != os.getpgid(0)
    await child.stop(1)


@GUARDED
def test_it_dies_with_its_parent(is_guarded: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(is_guarded)], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 5
    while is_running(pid):
        assert time.monotonic() < deadline, "an orphan"
        time.sleep(0.01)
