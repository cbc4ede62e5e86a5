"""A worker that hangs while it starts is killed and replaced; what waits for it stops, and the log says why.

The workers are small programs, which start in a few milliseconds.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from catenary.process.binding import ListenAddress
from catenary.process.notifier import Notifier
from catenary.process.port_sockets import PortSockets
from catenary.process.workers import WorkerFailed, Workers
from tests.parts.heart import in_loop
from tests.parts.ports import free_port
from tests.process.test_handover import PUBLIC, started

START_S = 1.5

PROGRAM = """\
import json, os, pathlib, signal, sys
context = json.loads(os.environ["CATENARY_WORKER"])
if pathlib.Path(sys.argv[1]).exists():
    os.kill(os.getpid(), signal.SIGSTOP)
os.write(context["ready"], b"!")
os.close(context["ready"])
signal.pause()
"""


class Running:
    """Two workers, which hang at their start while a file exists."""

    def __init__(self, directory: Path) -> None:
        self.hang = directory / "hang"
        self.have_started = asyncio.Event()
        self.workers = Workers(
            (sys.executable, "-I", "-S", "-c", PROGRAM, str(self.hang)),
            number=2,
            addresses=[ListenAddress("127.0.0.1", free_port())],
            sockets=PortSockets(),
            started=self.have_started.set,
            notifier=Notifier(),
            nats_url="",
            end_s=1,
            start_s=START_S,
            watchdog_s=0,
            is_patient=False,
        )


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Running]:
    made = Running(directory)
    task = asyncio.create_task(made.workers.run())
    try:
        await asyncio.wait_for(made.have_started.wait(), 20)
        yield made
    finally:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(task, 20)


async def until(predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not predicate():  # noqa: ASYNC110  (the event is a line of a log)
            await asyncio.sleep(0.01)


@in_loop
async def test_it_is_killed_told_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with running(tmp_path) as made:
        made.hang.touch()
        victim = _pid_of(1, caplog.text)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: "killing it" in caplog.text)
        assert caplog.text.count("does not serve after 1.5 s: killing it") == 1
        made.hang.unlink()
        await until(lambda: caplog.text.count("Worker 1 serves") == 2)
        assert _pid_of(1, caplog.text) != victim
        assert caplog.text.count("Worker 2 serves") == 1


@in_loop
async def test_a_roll_that_waits_for_it_stops_and_the_workers_serve_as_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with running(tmp_path) as made:
        made.hang.touch()
        assert not await asyncio.wait_for(made.workers.replace(), 20)
        assert "does not serve after 1.5 s: killing it" in caplog.text
        assert "Worker 1 can't be replaced: the new one could not start" in caplog.text
        made.hang.unlink()
        assert await asyncio.wait_for(made.workers.replace(), 20)
        assert caplog.text.count("Worker 1 serves") == caplog.text.count("Worker 2 serves") == 2


@in_loop
async def test_workers_that_hang_at_the_first_start_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Running(tmp_path)
    made.hang.touch()
    with pytest.raises(WorkerFailed):
        await asyncio.wait_for(made.workers.run(), 20)
    assert caplog.text.count("killing it") == 2


def test_a_new_server_whose_workers_hang_takes_nothing_over(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text("import signal\nsignal.pause()\n")
    path = tmp_path / "handover.sock"
    flags = (*PUBLIC, f"--handover_socket={path}")
    with started(*flags) as old:
        old.wait_until_ready()
        hanging = ("--workers=2", "--asgi=hanging:app", "--worker_start_timeout=1")
        with started(*flags, *hanging, like=old, directory=tmp_path) as new:
            assert new.process.wait(60) == 1
            assert "does not serve after 1 s: killing it" in new.output()
            old.wait_for_output("ended before it served: this one continues")


def _pid_of(number: int, log: str) -> int:
    line = log.rpartition(f"Worker {number} serves (pid ")[2]
    return int(line.partition(")")[0])
