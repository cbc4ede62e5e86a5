"""The socket to StatsD: real UDP, names that can't be resolved, servers that refuse, move, or listen on IPv6."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from catenary.adapters.statsd import StatsdSocket
from catenary.metrics.counters import Counters
from tests.parts.heart import in_loop
from tests.parts.nats_node import until
from tests.parts.ports import free_port
from tests.parts.statsd import StatsdListener


@asynccontextmanager
async def sending(
    host: str, port: int, counters: Counters, resolve_s: float = 60
) -> AsyncIterator[StatsdSocket]:
    """A socket, from its start to its end."""
    target = StatsdSocket(host, port, counters=counters, resolve_s=resolve_s)
    await target.start()
    try:
        yield target
    finally:
        await target.close(1)


def resolved_to(*addresses: tuple[str, int]) -> list[tuple[object, ...]]:
    """The result of getaddrinfo for a name with these addresses."""
    return [
        (
            socket.AF_INET6 if ":" in host else socket.AF_INET,
            socket.SOCK_DGRAM,
            socket.IPPROTO_UDP,
            "",
            (host, port),
        )
        for host, port in addresses
    ]


class NameServer:
    """Stands for the system's resolver; an empty answer is a failure."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer: list[tuple[object, ...]] = []
        self.lookups = 0
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._look_up)

    async def _look_up(self, *_: object, **__: object) -> list[tuple[object, ...]]:
        self.lookups += 1
        if not self.answer:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer from the name server")
        return self.answer


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@in_loop
async def test_packets_arrive(host: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counters = Counters()
    counters.statsd_lost_lines_total = 3  # a metric is too long for a packet
    with StatsdListener(host=host) as listener:
        async with sending(host, listener.port, counters) as target:
            await until(lambda: target.is_ready)
            target.send([b"a:1|c", b"b:2|g"])
            assert (listener.packet(), listener.packet()) == (b"a:1|c", b"b:2|g")
    assert counters.statsd_lost_lines_total == 3
    assert caplog.text == ""


@in_loop
async def test_refusals_are_counted_and_told_at_most_once_per_doubling(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    counters, port = Counters(), free_port()
    async with sending("127.0.0.1", port, counters) as target:
        await until(lambda: target.is_ready)
        for _ in range(33):
            target.send([b"a:1|c\nb:1|c", b"c:1|c"])
        # The last packet may have been refused, too: that is reported with the next.
        assert counters.statsd_lost_lines_total == 33 * 3 - 1
        assert [record.message.rpartition("(")[2] for record in caplog.records] == [
            "report 1 in a row)",
            "report 8 in a row)",
            "report 16 in a row)",
            "report 32 in a row)",
        ]
        assert (
            f"Metrics for StatsD at 127.0.0.1:{port} were lost: Connection refused" in caplog.text
        )
        with StatsdListener(port=port) as listener:
            target.send([b"d:1|c"])
            target.send([b"e:1|c"])
            assert (listener.packet(), listener.packet()) == (b"d:1|c", b"e:1|c")
    assert "accepts metrics again" in caplog.text


@in_loop
async def test_a_name_may_have_addresses_that_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as localhost, which is ::1 first, where many StatsD servers do not listen."""
    counters, names = Counters(), NameServer(monkeypatch)
    with StatsdListener() as listener:
        names.answer = resolved_to(("::1", listener.port), ("127.0.0.1", listener.port))
        async with sending("localhost", listener.port, counters) as target:
            await until(lambda: target.is_ready)
            for number in range(4):
                target.send([b"a:%d|c" % number])
            assert [listener.packet() for _ in range(4)] == [b"a:%d|c" % n for n in range(4)]
    assert counters.statsd_lost_lines_total == 0


@in_loop
async def test_no_address_that_works_ends_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counters, names, port = Counters(), NameServer(monkeypatch), free_port()
    names.answer = resolved_to(("::1", port), ("127.0.0.1", port))
    async with sending("statsd", port, counters) as target:
        await until(lambda: target.is_ready)
        for _ in range(10):
            target.send([b"a:1|c"])
        assert counters.statsd_lost_lines_total >= 9


@in_loop
async def test_a_packet_that_the_network_can_t_take_is_counted() -> None:
    counters = Counters()
    with StatsdListener() as listener:
        async with sending("127.0.0.1", listener.port, counters) as target:
            await until(lambda: target.is_ready)
            target.send([b"a" * 65_508, b"b:1|c"])
            assert listener.packet() == b"b:1|c"
    assert counters.statsd_lost_lines_total == 1


@in_loop
async def test_a_name_that_can_t_be_resolved_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = NameServer(monkeypatch)
    with StatsdListener() as listener:
        async with sending("statsd.test", listener.port, Counters()) as target:
            await until(lambda: names.lookups == 2)
            assert not target.is_ready
            assert caplog.messages == [
                "The StatsD server statsd.test can't be resolved:"
                " [Errno -3] no answer from the name server (attempt 1 in a row)"
            ]
            names.answer = resolved_to(("127.0.0.1", listener.port))
            await until(lambda: target.is_ready)
            target.send([b"a:1|c"])
            assert listener.packet() == b"a:1|c"


@in_loop
async def test_a_server_that_moves_is_followed_and_a_name_server_may_be_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = NameServer(monkeypatch)
    with StatsdListener() as first, StatsdListener() as second:
        names.answer = resolved_to(("127.0.0.1", first.port))
        async with sending("statsd.test", 8125, Counters(), resolve_s=0.001) as target:
            await until(lambda: target.is_ready)
            target.send([b"a:1|c"])
            names.answer = []
            before = names.lookups
            await until(lambda: names.lookups > before)
            target.send([b"b:1|c"])
            assert (first.packet(), first.packet()) == (b"a:1|c", b"b:1|c")
            names.answer = resolved_to(("127.0.0.1", second.port))
            before = names.lookups
            await until(lambda: names.lookups > before + 1)
            target.send([b"c:1|c"])
            assert second.packet() == b"c:1|c"
            assert not first.has_packet()


@in_loop
async def test_a_name_that_no_host_can_have_is_a_failed_lookup(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with sending("a" * 70, 8125, Counters()) as target:
        await until(lambda: bool(caplog.messages))
        assert not target.is_ready
    assert "can't be resolved" in caplog.text
