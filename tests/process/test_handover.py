"""A new server takes over the ports of the running one: no connection is refused, reset or left without an answer."""

import asyncio
import contextlib
import select
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from catenary.errors import ConfigError
from catenary.process.accept_queues import LONG
from catenary.process.handover import SOCKETS_PER_PACKET, HandoverSocket, Predecessor
from catenary.process.port_sockets import Inherited
from tests.parts.heart import in_loop
from tests.parts.raw_socket import RawSocket, upgrade
from tests.parts.server import OURS, CableServer

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=100")


PUBLICATION = (
    b'POST /_broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n{"stream":"s","data":"1"}'
)


class Callers:
    """Threads that send requests all the time, most of them each on a new connection; two keep theirs until a response says
    that it is closed. ``failures`` says what went wrong."""

    def __init__(self, server: CableServer, number: int = 6) -> None:
        self.failures: list[str] = []
        self.answers = 0
        self._server = server
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(each,)) for each in range(number)
        ]
        for each in self._threads:
            each.start()

    def wait_for_more(self, number: int = 60) -> None:
        """Returns when so many more requests were answered. Raises TimeoutError."""
        wanted = self.answers + number
        deadline = time.monotonic() + 30
        while self.answers < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.answers} answers, {self.failures}")
            time.sleep(0.01)

    def end(self) -> None:
        self._ended.set()
        for each in self._threads:
            each.join()

    def _call(self, number: int) -> None:
        while not self._ended.wait(0.005):  # the servers that start need the processor, too
            try:
                if number < 4:
                    self._call_once(number)
                    self.answers += 1
                else:
                    self._call_until_closed(number == 4)
            except (OSError, AssertionError, ValueError, EOFError) as error:
                self.failures.append(f"{number}: {error!r}")

    def _call_until_closed(self, is_publisher: bool) -> None:
        server = self._server
        request = PUBLICATION if is_publisher else b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        with RawSocket(server.broadcast_port if is_publisher else server.port) as caller:
            while not self._ended.wait(0.005):
                caller.send(request)
                status, headers, _ = caller.answer()
                assert status == (201 if is_publisher else 200)
                self.answers += 1
                if headers.get("connection") == "close":
                    return

    def _call_once(self, number: int) -> None:
        is_publisher = number == 0
        with RawSocket(
            self._server.broadcast_port if is_publisher else self._server.port
        ) as caller:
            if is_publisher:
                caller.send(PUBLICATION)
                assert caller.answer()[0] == 201
            elif number == 1:
                caller.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert caller.answer()[0] == 200
            else:
                caller.send(upgrade())
                assert " 101 " in caller.head()
                assert caller.message()["type"] == "welcome"


@contextlib.contextmanager
def started(
    *flags: str, like: CableServer | None = None, directory: Path | None = None
) -> Iterator[CableServer]:
    """A server that is being started, perhaps at the ports of another one."""
    if like is not None:
        flags += (f"--port={like.port}", f"--http_broadcast_port={like.broadcast_port}")
    server = CableServer(OURS, flags, {}, directory)
    if like is not None:
        server.port, server.broadcast_port = like.port, like.broadcast_port
    try:
        yield server
    finally:
        server.close()


def test_nobody_notices_that_new_servers_take_over(tmp_path: Path) -> None:
    """The number of workers changes, too: they share what the server before them had."""
    path = tmp_path / "handover.sock"
    # The old servers wait for no load balancer.
    flags = (*PUBLIC, f"--handover_socket={path}", "--shutdown_delay=100")
    with contextlib.ExitStack() as servers:
        old = servers.enter_context(started(*flags))
        old.wait_until_ready()
        callers = Callers(old)
        try:
            for workers in (2, 1):
                new = servers.enter_context(started(*flags, f"--workers={workers}", like=old))
                assert old.process.wait(60) == 0, new.output()
                assert "A new server has taken over the ports" in old.output()
                callers.wait_for_more()
                old = new
        finally:
            callers.end()
        assert callers.failures == []
        assert path.is_socket()
        old.process.send_signal(signal.SIGTERM)
        old.wait_for_output("SIGTERM: shutting down")
        assert old.stop() == 0  # a second signal
        assert list(tmp_path.iterdir()) == []


def test_the_old_server_closes_clients_as_fast_as_the_new_one_accepts(tmp_path: Path) -> None:
    """This test is the new server."""
    path = tmp_path / "handover.sock"
    flags = (*PUBLIC, f"--handover_socket={path}", "--shutdown_timeout=1000")
    with started(*flags) as old, contextlib.ExitStack() as opened:
        old.wait_until_ready()
        clients = [opened.enter_context(RawSocket(old.port)).open() for _ in range(50)]
        found = Predecessor.find(str(path))
        assert found is not None
        (shared,) = (
            each.socket for each in found.sockets if each.socket.getsockname()[1] == old.port
        )
        old.process.send_signal(signal.SIGSTOP)
        # The old server accepts some before it reads that it is replaced.
        for _ in range(3 * LONG):
            opened.enter_context(RawSocket(old.port))
        found.replace()
        old.process.send_signal(signal.SIGCONT)
        old.wait_for_output("Disconnecting 50 clients")
        # All would be closed within 0.05 s.
        ends = time.monotonic() + 0.5
        while time.monotonic() < ends:
            closed = select.select([client.socket for client in clients], [], [], 0.05)[0]
            assert len(closed) <= 1
            time.sleep(0.01)
        with contextlib.suppress(BlockingIOError):
            while True:
                shared.accept()[0].close()
        for client in clients:
            assert client.message()["type"] == "disconnect"
            client.socket.close()
        for each in found.sockets:
            each.socket.close()
        assert old.process.wait(60) == 0


def test_a_new_server_that_fails_to_start_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "handover.sock"
    flags = (*PUBLIC, f"--handover_socket={path}")
    with started(*flags) as old:
        old.wait_until_ready()
        assert "the next server shares no Redis or NATS" in old.output()
        with started(*flags, "--asgi=nowhere:app", like=old) as new:
            assert new.process.wait(30) == 1
        old.wait_for_output("ended before it served: this one continues")
        assert list(tmp_path.iterdir()) == [path]
        with RawSocket(old.port) as client:
            client.open()
        with started(*flags, like=old) as new:
            assert old.process.wait(30) == 0
            new.wait_until_ready()


def test_what_a_killed_server_left_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "handover.sock"
    with started(*PUBLIC, f"--handover_socket={path}") as server:
        server.wait_until_ready()
        server.process.kill()
        server.process.wait()
        assert path.is_socket()
        server.restart()
        with RawSocket(server.port) as client:
            client.open()


def test_a_path_that_can_not_be_used_is_one_line() -> None:
    with started(*PUBLIC, "--handover_socket=/nowhere/handover.sock") as server:
        assert server.process.wait(30) == 1
        line = server.output().splitlines()[-1]
        assert line.startswith(
            "catenary: handover_socket: can't listen at /nowhere/handover.sock: "
        )


# In memory


def listening() -> Inherited:
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    found.listen()
    return Inherited(found, "name")


@contextlib.asynccontextmanager
async def handover(
    path: Path, sockets: list[Inherited], stopped: asyncio.Event
) -> AsyncIterator[HandoverSocket]:
    server = HandoverSocket(str(path), lambda: sockets, stopped.set)
    server.prepare()
    server.listen()
    try:
        yield server
    finally:
        await server.close(0)
        for each in sockets:
            each.socket.close()


@in_loop
async def test_more_sockets_than_one_packet_takes(tmp_path: Path) -> None:
    path, stopped = tmp_path / "s", asyncio.Event()
    sockets = [listening() for _ in range(SOCKETS_PER_PACKET + 3)]
    async with handover(path, sockets, stopped):
        found = await asyncio.to_thread(Predecessor.find, str(path))
        assert found is not None
        assert [str(each) for each in found.sockets] == [str(each) for each in sockets]
        assert {each.name for each in found.sockets} == {"name"}
        assert not stopped.is_set()
        found.replace()
        await asyncio.wait_for(stopped.wait(), 10)
        for each in found.sockets:
            each.socket.close()


@in_loop
async def test_a_path_of_its_own_user_only(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with handover(path, [], asyncio.Event()):
        assert path.stat().st_mode & 0o777 == 0o600


@in_loop
async def test_a_server_that_is_prepared_leaves_the_path_to_the_one_that_runs(
    tmp_path: Path,
) -> None:
    path, stopped = tmp_path / "s", asyncio.Event()
    async with handover(path, [listening()], stopped):
        later = HandoverSocket(str(path), list, stopped.set)
        later.prepare()
        assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == [path]
        found = await asyncio.to_thread(Predecessor.find, str(path))
        assert found is not None
        assert len(found.sockets) == 1
        found.sockets[0].socket.close()
        found.replace()
        await later.close(0)
        assert path.is_socket()


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catenary.process.handover.ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        with pytest.raises(ConfigError, match="it does not answer"):
            Predecessor.find(str(tmp_path / "s"))


def test_a_server_that_ends_meanwhile(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ending:
        ending.bind(str(tmp_path / "s"))
        ending.listen()

        def end() -> None:
            ending.accept()[0].close()

        thread = threading.Thread(target=end)
        thread.start()
        with pytest.raises(ConfigError, match="it is shutting down"):
            Predecessor.find(str(tmp_path / "s"))
        thread.join()


def test_a_server_that_another_one_replaces_meanwhile(tmp_path: Path) -> None:
    """It ends without accepting those that wait: the kernel resets their connections."""
    waiting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waiting.bind(str(tmp_path / "s"))
    waiting.listen()
    timer = threading.Timer(0.2, waiting.close)
    timer.start()
    with pytest.raises(ConfigError, match="another server takes over from it"):
        Predecessor.find(str(tmp_path / "s"))
    timer.join()
