"""One client inside another server, where that server is not as polite as uvicorn."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from catenary.edge.deadlines import NoDeadlines
from catenary.messages.environment import AsgiEnvironment, Environment
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Sid
from catenary.messages.reasons import Reason
from catenary.node.encoder import Encoder
from catenary.node.session import Traits
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.ports import Codec, Goodbye
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.transports.asgi_websocket import AsgiWebSocket
from catenary.transports.websocket import WebSocketLimits, WebSocketServices
from catenary.wire.framing import PREFIXED
from tests.parts.heart import Heart, in_loop, settle
from tests.parts.strict_protocol import StrictCodec

LIMITS = WebSocketLimits(max_message_bytes=100, max_pending_bytes=1000, close_timeout_s=0.05)
GONE = {"type": "websocket.disconnect", "code": 1006}


def somebody() -> Environment:
    return Environment(Sid("s"), "ws://test/", {})


class Host:
    """The events that a test gives to a client's connection, and what it sends."""

    def __init__(self, codec: Codec | None = None, *, is_binary: bool = False) -> None:
        self.heart = Heart()
        self.before = asyncio.all_tasks()
        self.counters = self.heart.counters
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[Any] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.failure: Exception | None = None
        turns = Turns(CLIENTS_BUDGET_US, asyncio.get_running_loop().call_soon)
        self.connection = AsgiWebSocket(
            WebSocketServices(self.heart.node, LIMITS, self.counters, NoDeadlines(), turns),
            self.events.get,
            self.send,
            environment=somebody(),
            encoder=Encoder(codec or ActionCableJson(), PREFIXED),
            traits=Traits(Heartbeat(0)),
            is_binary=is_binary,
        )
        self.serving = asyncio.create_task(self.connection.serve())

    async def send(self, event: Any) -> None:
        await self.may_send.wait()
        if self.failure is not None:
            raise self.failure
        self.sent.append(event)

    def say(self, text: str) -> None:
        self.events.put_nowait({"type": "websocket.receive", "text": text})

    @property
    def heard(self) -> list[Any]:
        return [json.loads(each["text"]) for each in self.sent if each["type"] == "websocket.send"]

    async def end(self) -> None:
        """Waits for the end, after which no task and no connection is left."""
        await asyncio.wait_for(self.serving, 5)
        await settle()
        assert self.counters.open_connections_num == 0
        assert asyncio.all_tasks() <= self.before


@in_loop
async def test_a_client_that_leaves() -> None:
    host = Host()
    host.say('{"command":"ping"}')
    await settle()
    assert [each["type"] for each in host.heard] == ["welcome", "pong"]
    assert host.counters.open_connections_num == 1
    host.events.put_nowait(GONE)
    await host.end()


@in_loop
async def test_bytes_and_an_empty_text() -> None:
    host = Host()
    host.events.put_nowait(
        {"type": "websocket.receive", "bytes": b'{"command":"ping"}', "text": None}
    )
    host.say("")
    await settle()
    host.events.put_nowait(GONE)
    await host.end()
    assert host.heard[-1] == {"type": "pong"}


@in_loop
async def test_messages_of_a_binary_protocol_are_sent_as_bytes() -> None:
    host = Host(is_binary=True)
    await settle()
    anything = bytes(range(256))
    host.connection.write(PREFIXED.frame(anything) + PREFIXED.frame(b""))
    await settle()
    assert [each.get("bytes") for each in host.sent[-2:]] == [anything, b""]
    assert all("text" not in each for each in host.sent)
    host.events.put_nowait(GONE)
    await host.end()


@in_loop
async def test_a_protocol_ends_a_connection_with_a_code_of_its_own() -> None:
    host = Host(StrictCodec())
    host.say('{"type":"init"}')
    host.say('{"type":"init"}')
    await host.end()
    assert [each["type"] for each in host.heard] == ["welcome", "ack"]
    reason = "Too many initialisation requests"
    assert host.sent[-1] == {"type": "websocket.close", "code": 4429, "reason": reason}


@in_loop
async def test_a_host_that_does_not_tell_of_the_end_that_we_asked_for() -> None:
    host = Host()
    await settle()
    host.connection.shutdown()
    await host.end()
    assert host.heard[-1]["reason"] == "server_restart"
    assert host.sent[-1] == {"type": "websocket.close", "code": 1001, "reason": "Server restart"}


@in_loop
async def test_nothing_is_read_or_written_behind_the_goodbye() -> None:
    host = Host()
    host.say("x" * 101)
    host.say('{"command":"ping"}')
    await host.end()
    assert [each["type"] for each in host.heard] == ["welcome"]
    assert host.sent[-1]["code"] == 1009
    host.connection.write(PREFIXED.frame(b"late"))
    host.connection.close(Goodbye(Reason.REMOTE, 1000, "late"))
    host.connection.shutdown()


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("after close")])
def test_a_host_that_can_not_send(failure: Exception) -> None:
    @in_loop
    async def test() -> None:
        host = Host()
        host.failure = failure
        await host.end()
        assert host.sent == []

    test()


@in_loop
async def test_a_host_that_cancels() -> None:
    host = Host()
    await settle()
    host.may_send.clear()
    host.say('{"command":"ping"}')
    await settle()
    host.serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await host.end()
    await settle()
    assert host.counters.open_connections_num == 0
    assert asyncio.all_tasks() <= host.before


@in_loop
async def test_more_than_may_wait_is_too_slow_and_cut_off() -> None:
    host = Host()
    await settle()
    host.may_send.clear()
    for _ in range(100):
        host.connection.write(PREFIXED.frame(b'"0123456789"'))
    assert host.counters.disconnected_slow_clients_total == 0, "not in the middle of a delivery"
    await host.end()
    assert host.counters.disconnected_slow_clients_total == 1
    assert [each["type"] for each in host.heard] == ["welcome"]


@in_loop
async def test_a_burst_that_a_host_takes_at_once_is_not_slow() -> None:
    host = Host()
    await settle()
    for _ in range(100):
        host.connection.write(PREFIXED.frame(b'"0123456789"') * 2)
    await settle()
    assert len(host.heard) == 201
    assert host.counters.disconnected_slow_clients_total == 0
    host.events.put_nowait(GONE)
    await host.end()


@in_loop
async def test_a_client_whose_reading_is_paused_can_be_closed() -> None:
    host = Host()
    await settle()
    host.connection.pause_reading()
    for _ in range(3):
        host.say('{"command":"ping"}')
    await settle()
    # One was awaited already.
    assert (len(host.heard), host.events.qsize()) == (2, 2)
    host.connection.resume_reading()
    await settle()
    assert len(host.heard) == 4
    host.connection.pause_reading()
    host.connection._session.close(Reason.REMOTE)
    host.events.put_nowait(GONE)
    await host.end()
    assert host.heard[-1]["reason"] == "remote"


def test_a_scope_is_not_kept_with_its_session() -> None:
    hosted = AsgiEnvironment.of(somebody(), {"type": "websocket", "app": object()})
    assert hosted.scope["type"] == "websocket"
    kept = msgspec.json.decode(msgspec.json.encode(hosted), type=Environment)
    assert kept == somebody()


# Large answers


@in_loop
async def test_slices_are_sent_in_order_with_other_writes() -> None:
    host = Host()
    await settle()
    slices = [PREFIXED.frame(b"%d" % number) for number in range(50)]
    host.connection.write(PREFIXED.frame(b'"before"'))
    sent = host.connection.write_slices(iter(slices))
    host.connection.write(PREFIXED.frame(b'"after"'))
    assert sent is not None
    await sent
    host.events.put_nowait(GONE)
    await host.end()
    assert host.heard[1:] == ["before", *range(50), "after"]


@in_loop
async def test_the_next_slice_waits_until_the_host_has_sent_the_one_before() -> None:
    host = Host()
    await settle()
    encoded = 0

    def slices() -> Iterator[bytes]:
        nonlocal encoded
        for number in range(10):
            encoded += 1
            yield PREFIXED.frame(b"%d" % number + b" " * 1000)

    host.may_send.clear()
    sent = host.connection.write_slices(slices())
    await settle()
    assert encoded == 1
    host.may_send.set()
    assert sent is not None
    await sent
    assert encoded == 10
    host.events.put_nowait(GONE)
    await host.end()


@in_loop
async def test_slices_that_the_host_cannot_send_complete() -> None:
    host = Host()
    await settle()
    host.failure = OSError("gone")
    sent = [host.connection.write_slices(iter([PREFIXED.frame(b"1")])) for _ in range(3)]
    for each in sent:
        assert each is not None
        await each
    assert host.connection.write_slices(iter([b""])) is None
    await host.end()


@in_loop
async def test_a_handshake_that_the_host_has_not_accepted_yet_counts_as_a_connection() -> None:
    host = Host()
    host.may_send.clear()
    await settle()
    assert (host.sent, host.counters.open_connections_num) == ([], 1)
    host.may_send.set()
    await settle()
    assert [each["type"] for each in host.sent] == ["websocket.accept", "websocket.send"]
    host.events.put_nowait(GONE)
    await host.end()
