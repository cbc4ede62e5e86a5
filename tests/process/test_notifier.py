"""What systemd is told: by a program that receives its notifications, in a running server and in memory."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catenary.process.notifier import Notifier
from tests.parts.heart import in_loop
from tests.parts.ports import free_port
from tests.parts.raw_socket import RawSocket
from tests.parts.server import OURS
from tests.parts.service_manager import Service

PUBLIC = (*OURS, "--public", "--norpc", "--broadcast_adapter=http", "--host=127.0.0.1")


def has(**wanted: str) -> "Notified":
    return Notified(wanted)


class Notified:
    """Whether a notification has all of these variables; an empty value stands for any."""

    def __init__(self, wanted: dict[str, str]) -> None:
        self._wanted = wanted

    def __call__(self, found: dict[str, str]) -> bool:
        return all(
            name in found and value in ("", found[name]) for name, value in self._wanted.items()
        )


def test_the_life_of_a_server() -> None:
    port = free_port()
    flags = (*PUBLIC, f"--port={port}", f"--http_broadcast_port={free_port()}")
    with Service(flags, watchdog_s=1) as service:
        first = service.wait_for(has(READY="1"))
        assert first == {"READY": "1", "STATUS": "Serving 0 clients"}
        assert service.notified == [first]
        with RawSocket(port) as client:
            client.open()
            service.wait_for(has(WATCHDOG="1", STATUS="Serving 1 clients"))
            before = time.monotonic_ns() // 1000
            service.process.send_signal(signal.SIGHUP)
            reloading = service.wait_for(has(RELOADING="1", MONOTONIC_USEC=""))
            assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            service.wait_for(has(READY="1"))
            service.process.send_signal(signal.SIGTERM)
            service.wait_for(
                has(STOPPING="1", STATUS="Shutting down: 1 clients are connected"),
            )
            service.wait_for(has(EXTEND_TIMEOUT_USEC="30000000"))
        assert service.process.wait(30) == 0


def test_workers_report_to_their_parent_which_replaces_one_that_hangs() -> None:
    flags = (*PUBLIC, f"--port={free_port()}", f"--http_broadcast_port={free_port()}")
    with Service((*flags, "--workers=2"), watchdog_s=3) as service:
        service.wait_for(has(READY="1", STATUS="Serving with 2 of 2 workers"))
        pids = re.findall(r"Worker \d serves \(pid (\d+)\)", service.output())
        assert len(pids) == 2
        for pid in pids:
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()
        os.kill(int(pids[0]), signal.SIGSTOP)
        service.wait_for_output(f"(pid {pids[0]}) has not reported for 3 s: killing it")
        service.wait_for(has(WATCHDOG="1", STATUS="Serving with 1 of 2 workers"))
        service.wait_for(has(WATCHDOG="1", STATUS="Serving with 2 of 2 workers"))
        assert f"(pid {pids[1]}) has" not in service.output()
        assert service.stop() == 0
        service.wait_for(has(STOPPING="1"))


# In memory


@contextlib.contextmanager
def receiving(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + path[1:] if path.startswith("@") else path)
        receiver.setblocking(False)
        yield receiver


@in_loop
async def test_a_loop_that_hangs_does_not_report() -> None:
    with receiving(path := f"@catenary-test-{os.getpid()}") as receiver:
        environ = {
            "NOTIFY_SOCKET": path,
            "WATCHDOG_USEC": "100000",
            "WATCHDOG_PID": f"{os.getpid()}",
        }
        notifier = Notifier.from_environ(environ)
        assert environ == {}
        notifier.ready()
        assert receiver.recv(100) == b"READY=1"
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(receiver, 100) == b"WATCHDOG=1"
        time.sleep(0.3)  # noqa: ASYNC251  (that is what it is about)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
        assert await loop.sock_recv(receiver, 100) == b"WATCHDOG=1"
        notifier.close()


@in_loop
async def test_a_reload_ends_when_its_future_is_done() -> None:
    with receiving(path := f"@catenary-test-{os.getpid()}") as receiver:
        notifier = Notifier(path)
        rolling = asyncio.get_running_loop().create_future()
        notifier.during(lambda: rolling)()
        assert receiver.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
        rolling.set_result(None)
        await asyncio.sleep(0)
        assert receiver.recv(100) == b"READY=1"
        notifier.close()


@in_loop
async def test_without_systemd_nothing_happens() -> None:
    environ = {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
    notifier = Notifier.from_environ(environ)
    assert notifier.watchdog_s == 0
    called: list[int] = []
    notifier.during(lambda: called.append(1))()
    notifier.ready()
    notifier.stopping()
    assert called == [1]
    notifier.close()


@in_loop
async def test_a_socket_that_is_gone_is_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / "gone"))
    notifier.ready()
    notifier.stopping()
    (record,) = caplog.records
    assert "Can't notify systemd (NOTIFY_SOCKET)" in record.getMessage()
