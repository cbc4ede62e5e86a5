"""Clients that do not read their sockets, on streams with each policy, over each transport and protocol: a real server.

The rules and the paths through the hub are tested in tests/node/test_slow_consumers.py.
"""

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, pairwise

import msgspec
import pytest

from tests.parts.binary_cable import write_protobuf
from tests.parts.raw_socket import BINARY, RawSocket, command, masked, upgrade
from tests.parts.server import CableServer, cable_server

RULES = """
[[streams.rules]]
match = "oldest-*"
slow_consumer = "drop_oldest"
slow_consumer_limit = 20

[[streams.rules]]
match = "latest-*"
slow_consumer = "keep_latest"

[[streams.rules]]
match = "history-*"
history_limit = 5000
slow_consumer = "catch_up"

[[streams.rules]]
match = "short-*"
history_limit = 150
slow_consumer = "catch_up"
"""

PAYLOAD = "x" * 20_000
BATCH = 50

NUMBER = re.compile(rb"n=(\d{6})")

_names = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CableServer]:
    file = tmp_path_factory.mktemp("slow") / "anycable.toml"
    file.write_text(RULES)
    with cable_server(
        f"--config-path={file}",
        "--public",
        "--norpc",
        "--broadcast_adapter=http",
        "--broker=memory",
        "--sse",
        "--pusher_app_id=app",
        "--pusher_app_key=key",
        "--metrics_http=/metrics",
    ) as started:
        yield started


def publish(server: CableServer, stream: str, start: int, number: int) -> None:
    """One request for a batch; it is accepted when this returns."""
    batch = [
        {"stream": stream, "data": json.dumps(f"n={each:06} {PAYLOAD}")}
        for each in range(start, start + number)
    ]
    body = json.dumps(batch).encode()
    with urllib.request.urlopen(server.broadcast_url, body, timeout=30) as answer:
        assert answer.status == 201


def subscription(stream: str) -> str:
    return json.dumps({"channel": "$pubsub", "stream_name": stream})


def over_json(reader: RawSocket, stream: str) -> None:
    reader.send(upgrade(protocol="actioncable-v1-ext-json"))
    reader.send(command("subscribe", subscription(stream)))


def over_msgpack(reader: RawSocket, stream: str) -> None:
    reader.send(upgrade(protocol="actioncable-v1-msgpack"))
    wanted = {"command": "subscribe", "identifier": subscription(stream)}
    reader.send(masked(msgspec.msgpack.encode(wanted), BINARY))


def over_protobuf(reader: RawSocket, stream: str) -> None:
    reader.send(upgrade(protocol="actioncable-v1-protobuf"))
    wanted = {"command": "subscribe", "identifier": subscription(stream)}
    reader.send(masked(write_protobuf(wanted), BINARY))


def over_event_stream(reader: RawSocket, stream: str) -> None:
    reader.send(f"GET /events?stream={stream} HTTP/1.1\r\nHost: test\r\n\r\n".encode())


def over_pusher(reader: RawSocket, stream: str) -> None:
    reader.send(upgrade("/app/key?protocol=7", protocol="pusher-channels-protocol-7"))
    wanted = {"event": "pusher:subscribe", "data": {"channel": stream}}
    reader.send(masked(json.dumps(wanted).encode()))


PROTOCOLS: dict[str, tuple[Callable[[RawSocket, str], None], bytes]] = {
    "json": (over_json, b"confirm_subscription"),
    "msgpack": (over_msgpack, b"confirm_subscription"),
    "protobuf": (over_protobuf, b"stream_name"),
    "events": (over_event_stream, b"confirm_subscription"),
    "pusher": (over_pusher, b"subscription_succeeded"),
}


@contextmanager
def slow_reader(server: CableServer, protocol: str, stream: str) -> Iterator[RawSocket]:
    """A client that is subscribed to a stream, and whose kernel takes little."""
    subscribe, confirmation = PROTOCOLS[protocol]
    with RawSocket(server.port, receive_buffer=65_536) as reader:
        subscribe(reader, stream)
        read_until(reader, confirmation)
        yield reader


def read_until(reader: RawSocket, wanted: bytes) -> bytes:
    """Reads until something has arrived; returns everything since the last time."""
    data = bytearray()
    while True:
        piece = reader.socket.recv(1_048_576)
        assert piece, f"closed, expected {wanted!r} after {bytes(data[-200:])!r}"
        data += piece
        if data.find(wanted, max(len(data) - len(piece) - len(wanted), 0)) >= 0:
            return bytes(data)


def fall_behind(server: CableServer, stream: str) -> int:
    """Publishes until the client is behind, and then more; returns the number of messages."""
    before = server.figure("slow_consumers_total")
    published = 0
    while server.figure("slow_consumers_total") == before:
        assert published < 5_000, "the kernel takes 100 MB"
        publish(server, stream, published, BATCH)
        published += BATCH
    for _ in range(8):
        publish(server, stream, published, BATCH)
        published += BATCH
    return published


def numbers(data: bytes) -> list[int]:
    return [int(each) for each in NUMBER.findall(data)]


def a_stream(policy: str) -> str:
    return f"{policy}-{next(_names)}"


def dropped(server: CableServer, name: str) -> int:
    return server.figure(f"slow_{name}_messages_total")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_catch_up_loses_nothing(server: CableServer, protocol: str) -> None:
    stream = a_stream("history")
    with slow_reader(server, protocol, stream) as reader:
        published = fall_behind(server, stream)
        data = read_until(reader, b"n=%06d" % (published - 1))
        assert numbers(data) == list(range(published))
        publish(server, stream, published, 1)
        assert numbers(read_until(reader, b"n=%06d" % published))[-1] == published


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_keep_latest_ends_with_the_latest_message(server: CableServer, protocol: str) -> None:
    stream = a_stream("latest")
    before = dropped(server, "conflated")
    with slow_reader(server, protocol, stream) as reader:
        published = fall_behind(server, stream)
        found = numbers(read_until(reader, b"n=%06d" % (published - 1)))
        assert all(one < other for one, other in pairwise(found))
        assert dropped(server, "conflated") - before == published - len(found) > 0


def test_drop_oldest_keeps_so_many_messages(server: CableServer) -> None:
    stream = a_stream("oldest")
    before = dropped(server, "dropped")
    with slow_reader(server, "json", stream) as reader:
        published = fall_behind(server, stream)
        found = numbers(read_until(reader, b"n=%06d" % (published - 1)))
        assert found[-20:] == list(range(published - 20, published))
        assert found[:-20] == list(range(len(found) - 20))
        assert dropped(server, "dropped") - before == published - len(found) > 0
