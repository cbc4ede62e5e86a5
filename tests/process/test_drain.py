"""When each client is closed: in memory, then in a running server."""

import asyncio
import itertools
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from uvicorn.config import Config

from catenary.edge.connection import ClientConnection, PortState, Stage
from catenary.metrics.counters import Counters
from catenary.process.accept_queues import AcceptQueues
from catenary.process.drain import AT_ONCE, PATIENCE_S, QUICK_PAUSE_S, SLOW_PAUSE_S, Drain
from catenary.process.listener import Listener
from tests.parts.raw_socket import CLOSE, RawSocket, command, masked
from tests.parts.server import CableServer, cable_server
from tests.parts.virtual_time import hold_the_loop, in_virtual_time


class Noting:
    """A stage that notes when it was closed."""

    def __init__(self, *, is_client: bool = True) -> None:
        self.is_client = is_client
        self.closed_at: float | None = None

    def begin(self, rest: bytes) -> None: ...
    def receive(self, data: bytes) -> None: ...
    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def lost(self, exc: Exception | None) -> None: ...
    def shutdown(self) -> None:
        self.closed_at = asyncio.get_running_loop().time()


def connected(stage: Stage) -> ClientConnection:
    state = PortState()
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


def moments(clients: list[Noting]) -> list[float]:
    """When clients were closed, in order."""
    return sorted(each.closed_at for each in clients if each.closed_at is not None)


async def drained(*ports: Port, timeout_s: float, is_slow: bool = True) -> float:
    """Returns how long it took."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await draining(*ports, timeout_s=timeout_s, is_slow=is_slow).run()
    return clock() - began


def draining(
    *ports: Port, timeout_s: float, is_slow: bool = True, counters: Counters | None = None
) -> Drain:
    listeners = [cast("Listener", port) for port in ports]
    return Drain(listeners, timeout_s, counters or Counters(), is_slow=is_slow)


@in_virtual_time
async def test_clients_are_closed_evenly_over_a_part_of_the_time() -> None:
    clients = [Noting() for _ in range(20)]
    assert await drained(Port(*clients), timeout_s=1) == pytest.approx(0.8)
    assert moments(clients) == pytest.approx([number * 0.04 for number in range(20)])


@in_virtual_time
async def test_a_few_do_not_wait_as_long_as_many() -> None:
    clients = [Noting() for _ in range(2)]
    assert await drained(Port(*clients), timeout_s=30) == pytest.approx(2 * SLOW_PAUSE_S)


@in_virtual_time
async def test_without_slow_drain_a_crowd_is_not_closed_in_one_moment_either() -> None:
    clients = [Noting() for _ in range(1000)]
    assert await drained(Port(*clients), timeout_s=30, is_slow=False) == pytest.approx(1)
    assert moments(clients) == pytest.approx([number * 0.001 for number in range(1000)])
    assert await drained(Port(*clients[:10]), timeout_s=30, is_slow=False) == pytest.approx(0.01)
    assert await drained(Port(*clients), timeout_s=1, is_slow=False) == pytest.approx(0.8)


@in_virtual_time
async def test_a_late_timer_delays_no_later_client() -> None:
    clients = [Noting() for _ in range(20)]
    under_way = asyncio.ensure_future(drained(Port(*clients), timeout_s=1))
    await asyncio.sleep(0.1)
    hold_the_loop(0.1)
    await under_way
    begun = moments(clients)
    assert begun[:3] == pytest.approx([0, 0.04, 0.08])
    assert begun[3:6] == pytest.approx([0.2, 0.2, 0.2])
    assert begun[6:] == pytest.approx([number * 0.04 for number in range(6, 20)])


@in_virtual_time
async def test_a_drain_that_is_late_closes_many_in_a_turn_of_the_event_loop() -> None:
    """A busy event loop has few turns in a second."""
    clients = [Noting() for _ in range(500)]
    under_way = asyncio.ensure_future(drained(Port(*clients), timeout_s=30, is_slow=False))
    await asyncio.sleep(0)
    hold_the_loop(1)
    turns = 0
    while not under_way.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(moments(clients)) == 500
    assert 500 / AT_ONCE <= turns < 500 / AT_ONCE + 10


class Queues:
    """The accept queues of a process that accepts when a test says so."""

    def __init__(self, *, are_long: bool = False) -> None:
        self.are_long = are_long
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


@in_virtual_time
async def test_a_quick_drain_waits_for_the_process_that_has_replaced_this_one() -> None:
    clients = [Noting() for _ in range(1000)]
    queues = Queues()
    drain = draining(Port(*clients), timeout_s=100, is_slow=False)
    drain.follow(cast("AcceptQueues", queues))
    under_way = asyncio.ensure_future(drain.run())
    await asyncio.sleep(0.0995)
    assert len(moments(clients)) == 100
    queues.are_long = True
    await asyncio.sleep(5)
    assert len(moments(clients)) == 100
    queues.are_long = False
    await asyncio.sleep(0.1195)
    assert 200 <= len(moments(clients)) <= 221
    await under_way
    assert len(moments(clients)) == 1000
    assert queues.is_closed


@in_virtual_time
async def test_it_waits_no_longer_than_a_slow_drain_would() -> None:
    clients = [Noting() for _ in range(40)]
    drain = draining(Port(*clients), timeout_s=20, is_slow=False)
    drain.follow(cast("AcceptQueues", Queues(are_long=True)))
    began = asyncio.get_running_loop().time()
    await drain.run()
    assert asyncio.get_running_loop().time() - began == pytest.approx(16)
    assert moments(clients) == pytest.approx([began + number * 0.4 for number in range(40)])


@in_virtual_time
async def test_a_process_that_accepts_nothing_is_not_followed_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may have died: while this one holds the sockets, its clients would wait in vain."""
    queues = Queues(are_long=True)
    clients = [Noting() for _ in range(40)]
    drain = draining(Port(*clients), timeout_s=1000, is_slow=False)
    drain.follow(cast("AcceptQueues", queues))
    under_way = asyncio.ensure_future(drain.run())
    await asyncio.sleep(PATIENCE_S + 0.1)
    assert queues.is_closed
    assert "The new server accepts too few clients" in caplog.text
    assert len(moments(clients)) == 2
    await under_way
    spaces = [later - before for before, later in itertools.pairwise(moments(clients)[1:])]
    assert spaces == pytest.approx([SLOW_PAUSE_S] * len(spaces))


@in_virtual_time
async def test_a_client_that_has_left_meanwhile_is_not_closed() -> None:
    clients = [Noting() for _ in range(10)]
    port = Port(*clients)
    under_way = asyncio.ensure_future(drained(port, timeout_s=0.5))
    await asyncio.sleep(0)
    assert len(moments(clients)) == 1
    port.server_state.connections.clear()
    await under_way
    assert len(moments(clients)) == 1


@in_virtual_time
async def test_ports_without_clients_stay_open() -> None:
    others = Port(other := Noting(is_client=False))
    cables = Port(client := Noting(), Noting(is_client=False))
    await drained(others, cables, timeout_s=0.1)
    assert client.closed_at is not None
    assert other.closed_at is None
    assert others.is_open
    assert not cables.is_open


@in_virtual_time
async def test_without_clients_nothing_is_waited_for() -> None:
    assert await drained(Port(), timeout_s=30) == 0


@in_virtual_time
async def test_a_slow_drain_can_be_hastened() -> None:
    clock = asyncio.get_running_loop().time
    clients = [Noting() for _ in range(100)]
    counters = Counters()
    drain = draining(Port(*clients), timeout_s=100, counters=counters)
    under_way = asyncio.ensure_future(drain.run())
    await asyncio.sleep(4.6)
    assert len(moments(clients)) == 10
    assert counters.draining_clients_num == 91
    assert drain.hasten()
    assert not drain.hasten()
    hastened_at = clock()
    await under_way
    assert clock() - hastened_at == pytest.approx(90 * QUICK_PAUSE_S)
    assert len(moments(clients)) == 100
    assert counters.draining_clients_num == 0


@in_virtual_time
async def test_a_drain_that_is_hastened_before_it_begins_is_quick() -> None:
    clients = [Noting() for _ in range(10)]
    drain = draining(Port(*clients), timeout_s=100)
    assert drain.hasten()
    await drain.run()
    assert moments(clients)[-1] - moments(clients)[0] < 1
    assert not drain.hasten()


@in_virtual_time
async def test_the_log_shows_the_progress(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "catenary.server")
    await drained(Port(*(Noting() for _ in range(40))), timeout_s=20)
    assert [record.getMessage() for record in caplog.records] == [
        "Disconnecting 40 clients within 16.0 s",
        "Disconnecting clients: 27 of 40 are left",
        "Disconnecting clients: 14 of 40 are left",
        "Disconnecting clients: 1 of 40 are left",
        "Disconnected 40 clients in 16.0 s",
    ]


# A running server

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=100")
PING = masked(b"x", 0x9)

FAREWELL = {"type": "disconnect", "reason": "server_restart", "reconnect": True}


def open_clients(server: CableServer, number: int) -> list[RawSocket]:
    return [RawSocket(server.port).open() for _ in range(number)]


def get(path: str, *headers: str) -> bytes:
    return ("\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *headers]) + "\r\n\r\n").encode()


def test_at_the_end_each_client_gets_its_farewell() -> None:
    with cable_server(*PUBLIC, "--shutdown_timeout=60", "--ws_write_timeout=50") as server:
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
        assert server.process.wait(30) == 0
        # All clients answered the close frame, so none was waited for.
        assert time.monotonic() - began < 40
        with pytest.raises(ConnectionRefusedError):
            RawSocket(server.port)


def test_the_end_is_not_delayed_by_those_who_do_not_play_along() -> None:
    """One never answers the close frame, one does not even read, one is in the middle of a request."""
    with (
        cable_server(*PUBLIC, "--shutdown_timeout=40") as server,
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
        assert polite.wait_for_end() == b""
        assert server.process.wait(40) == 0
        assert time.monotonic() - began < 20


def test_a_slow_drain_tells_one_after_the_other_and_serves_the_rest_meanwhile() -> None:
    news = json.dumps({"channel": "$pubsub", "stream_name": "news"})
    with cable_server(*PUBLIC, "--shutdown_slowdrain", "--shutdown_timeout=5") as server:
        clients = open_clients(server, 10)
        for client in clients:
            client.send(command("subscribe", news))
            assert client.message()["type"] == "confirm_subscription"
        stopped_at = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert "Disconnecting 10 clients within 4.0 s" in server.wait_for_output("Disconnecting ")
        with pytest.raises(ConnectionRefusedError):
            RawSocket(server.port)
        broadcast(server, {"stream": "news", "data": '"still here"'})
        with ThreadPoolExecutor(len(clients)) as pool:
            farewells = list(pool.map(_farewell, clients))
        farewells.sort()
        # A loaded machine delays each client, and advances none.
        for number, (at, _) in enumerate(farewells):
            assert at - stopped_at > number * 0.4
        # Clients that were closed before the publication missed it, and no others.
        received = [has_received for _, has_received in farewells]
        assert received == sorted(received)
        assert received[-1]
        assert server.process.wait(30) == 0


def _farewell(client: RawSocket) -> tuple[float, bool]:
    """When it was closed, and whether it received the publication before that; it answers as clients do."""
    with client:
        message = client.message()
        has_received = message.get("message") == "still here"
        if has_received:
            message = client.message()
        at = time.monotonic()
        assert message == FAREWELL
        assert client.goodbye()[0] == 1001
        client.send(masked(b"\x03\xe9", CLOSE))
        return at, has_received


def test_a_second_signal_hastens_a_slow_drain() -> None:
    with cable_server(*PUBLIC, "--shutdown_slowdrain", "--shutdown_timeout=600") as server:
        clients = open_clients(server, 20)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_output("a second signal hastens that, a third one exits at once")
        server.wait_for_output("Disconnecting 20 clients within 10.0 s")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_output("Another SIGTERM: no longer waiting; the next one exits at once")
        for client in clients:
            assert client.message() == FAREWELL
            assert client.goodbye()[0] == 1001
            client.send(masked(b"\x03\xe9", CLOSE))
            client.socket.close()
        assert server.process.wait(30) == 0
        assert "Disconnected 20 clients in " in server.output()


def test_a_slow_drain_of_nobody_takes_no_time() -> None:
    with cable_server(*PUBLIC, "--shutdown_slowdrain", "--shutdown_timeout=100") as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def broadcast(server: CableServer, publication: object) -> None:
    body = json.dumps(publication).encode()
    with RawSocket(server.broadcast_port) as publisher:
        publisher.send(
            b"POST /_broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert publisher.answer()[0] == 201
