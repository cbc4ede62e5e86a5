"""When each client is closed: in memory, then in a running server."""

import asyncio
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import cast

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from catenary.edge.connection import ClientConnection, Stage
from catenary.process.drain import QUICK, SLOW, DrainRate, drain
from catenary.process.listener import Listener
from tests.parts.heart import in_loop
from tests.parts.raw_socket import CLOSE, RawSocket, command, masked
from tests.parts.server import CableServer, cable_server


class Noting:
    """A stage that notes when it was told to end."""

    def __init__(self, *, is_client: bool = True) -> None:
        self.is_client = is_client
        self.told_at: float | None = None

    def begin(self, rest: bytes) -> None: ...
    def receive(self, data: bytes) -> None: ...
    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def lost(self, exc: Exception | None) -> None: ...
    def shutdown(self) -> None:
        self.told_at = asyncio.get_running_loop().time()


def connected(stage: Stage) -> ClientConnection:
    state = ServerState()
    return ClientConnection(
        lambda _connection, _host: stage, config=Config("none"), server_state=state, app_state={}
    )


class State:
    """uvicorn's, as much as is asked of it."""

    def __init__(self, connections: set[object]) -> None:
        self.connections = connections


class Port:
    """A listener in memory."""

    def __init__(self, *stages: Noting) -> None:
        self.server_state = State({connected(stage) for stage in stages})
        self.is_open = True

    def stop_accepting(self) -> None:
        self.is_open = False


async def drained(*ports: Port, timeout_s: float, rate: DrainRate = SLOW) -> float:
    """How long it took."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await drain([cast("Listener", port) for port in ports], timeout_s, rate)
    return clock() - began


@in_loop
async def test_clients_are_told_evenly_over_a_part_of_the_time() -> None:
    clients = [Noting() for _ in range(20)]
    took = await drained(Port(*clients), timeout_s=1)
    told_at = sorted(each.told_at for each in clients if each.told_at is not None)
    assert len(told_at) == 20
    assert 0.75 < took < 1.5
    # Nobody is told before the moment that is theirs, however late those before were told.
    assert all(at - told_at[0] > number * 0.04 - 0.005 for number, at in enumerate(told_at))
    assert told_at[-1] - told_at[0] > 0.7


@in_loop
async def test_a_few_do_not_wait_as_long_as_many() -> None:
    assert await drained(Port(Noting(), Noting()), timeout_s=30) < 5


@in_loop
async def test_even_where_nobody_asked_for_it_a_crowd_is_not_told_in_one_moment() -> None:
    clients = [Noting() for _ in range(1000)]
    took = await drained(Port(*clients), timeout_s=30, rate=QUICK)
    told_at = sorted(each.told_at for each in clients if each.told_at is not None)
    assert len(told_at) == 1000
    assert 0.15 < told_at[-1] - told_at[0] <= took < 2
    assert await drained(Port(*clients[:10]), timeout_s=30, rate=QUICK) < 1


@in_loop
async def test_who_has_left_meanwhile_is_not_told() -> None:
    clients = [Noting() for _ in range(10)]
    port = Port(*clients)
    under_way = asyncio.ensure_future(drained(port, timeout_s=0.5))
    await asyncio.sleep(0)
    assert sum(each.told_at is not None for each in clients) == 1
    port.server_state.connections.clear()
    await under_way
    assert sum(each.told_at is not None for each in clients) == 1


@in_loop
async def test_where_there_are_no_clients_everything_goes_on() -> None:
    others = Port(other := Noting(is_client=False))
    cables = Port(client := Noting(), Noting(is_client=False))
    await drained(others, cables, timeout_s=0.1)
    assert client.told_at is not None
    assert other.told_at is None
    assert others.is_open
    assert not cables.is_open


@in_loop
async def test_nobody_is_waited_for_where_nobody_is() -> None:
    assert await drained(Port(), timeout_s=30) < 1


# A running server

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=100")
PING = masked(b"x", 0x9)

FAREWELL = {"type": "disconnect", "reason": "server_restart", "reconnect": True}


def open_clients(server: CableServer, number: int) -> list[RawSocket]:
    return [RawSocket(server.port).open() for _ in range(number)]


def get(path: str, *headers: str) -> bytes:
    return ("\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *headers]) + "\r\n\r\n").encode()


def test_at_the_end_each_client_gets_its_farewell() -> None:
    with cable_server(*PUBLIC, "--shutdown_timeout=5") as server:
        clients = open_clients(server, 300)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            assert client.message() == FAREWELL
            assert client.goodbye()[0] == 1001
            client.send(masked(b"\x03\xe9", CLOSE))
        for client in clients:
            assert client.wait_for_end(5) == b""
            client.socket.close()
        assert server.process.wait(5) == 0
        # Everybody answered: nobody had to be waited for.
        assert time.monotonic() - began < 3
        with pytest.raises(ConnectionRefusedError):
            RawSocket(server.port)


def test_the_end_is_not_delayed_by_those_who_do_not_play_along() -> None:
    """One never answers the close frame, one does not even read, one is in the middle of a request."""
    with (
        cable_server(*PUBLIC, "--shutdown_timeout=8") as server,
        RawSocket(server.port) as silent,
        RawSocket(server.port, receive_buffer=4096) as deaf,
        RawSocket(server.port) as polite,
        RawSocket(server.port) as half,
        RawSocket(server.port) as idle,
    ):
        flood = json.dumps({"channel": "$pubsub", "stream_name": "flood"})
        deaf.open().send(command("subscribe", flood))
        silent.open()
        polite.open()
        half.send(get("/health")[:10])
        idle.send(get("/health"))
        assert idle.answer()[0] == 200
        assert deaf.message()["type"] == "confirm_subscription"
        for _ in range(60):
            broadcast(server, {"stream": "flood", "data": json.dumps("x" * 60_000)})
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for client in (silent, polite):
            assert client.message() == FAREWELL
            assert client.goodbye()[0] == 1001
        polite.send(masked(b"\x03\xe9", CLOSE))
        assert polite.wait_for_end(1) == b""
        assert server.process.wait(8) == 0
        assert time.monotonic() - began < 6


def test_a_slow_drain_tells_one_after_the_other_and_serves_the_rest_meanwhile() -> None:
    news = json.dumps({"channel": "$pubsub", "stream_name": "news"})
    with cable_server(*PUBLIC, "--shutdown_slowdrain", "--shutdown_timeout=5") as server:
        clients = open_clients(server, 10)
        for client in clients:
            client.send(command("subscribe", news))
            assert client.message()["type"] == "confirm_subscription"
        server.process.send_signal(signal.SIGTERM)
        assert "Disconnecting 10 clients within 4.0 s" in server.wait_for_output("Disconnecting ")
        with pytest.raises(ConnectionRefusedError):
            RawSocket(server.port)
        broadcast(server, {"stream": "news", "data": '"still here"'})
        with ThreadPoolExecutor(len(clients)) as pool:
            farewells = list(pool.map(_farewell, clients))
        told_at = sorted(at for at, _ in farewells)
        assert told_at[-1] - told_at[0] > 3
        assert max(later - at for at, later in pairwise(told_at)) < 2
        # Who was told before the publication came has missed it, and nobody else.
        assert sum(heard for _, heard in farewells) >= 8
        assert server.process.wait(5) == 0


def _farewell(client: RawSocket) -> tuple[float, bool]:
    """When it was told, and whether it heard something before; it answers as clients do."""
    with client:
        said = client.message()
        has_heard = said.get("message") == "still here"
        if has_heard:
            said = client.message()
        at = time.monotonic()
        assert said == FAREWELL
        assert client.goodbye()[0] == 1001
        client.send(masked(b"\x03\xe9", CLOSE))
        return at, has_heard


def test_a_slow_drain_of_nobody_takes_no_time() -> None:
    with cable_server(*PUBLIC, "--shutdown_slowdrain") as server:
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert time.monotonic() - began < 3


def broadcast(server: CableServer, publication: object) -> None:
    body = json.dumps(publication).encode()
    with RawSocket(server.broadcast_port) as publisher:
        publisher.send(
            b"POST /_broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert publisher.answer()[0] == 201
