"""Bytes of a NATS server, cut anywhere; and what we write, byte by byte."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.adapters.nats import wire
from catenary.adapters.nats.wire import NatsReader, WireError

STREAM = (
    b'INFO {"version":"2.15.1"}\r\n'
    b"PING\r\n"
    b"MSG a.b 7 5\r\nhello\r\n"
    b"MSG a.b 8 _INBOX.x 0\r\n\r\n"
    b"HMSG a.b 9 24 29\r\nNATS/1.0\r\nNats-Seq: 1\r\n\r\n\r\nMS\r\n"
    b"+OK\r\n"
    b"HMSG in.1 1 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"-ERR 'Unknown Protocol Operation'\r\n"
    b"PONG\r\n"
)


def read(*parts: bytes) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    reader = NatsReader(lambda *message: found.append(message), lambda *line: found.append(line))
    for part in parts:
        reader.feed(part)
        while reader.read():
            pass
    return found


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_it_is_the_same_wherever_it_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    parts = [STREAM[a:b] for a, b in itertools.pairwise(places)]
    assert read(*parts) == read(STREAM)


def test_messages_and_lines() -> None:
    stream = (
        b"PING\r\nMSG a.b 7 5\r\nhello\r\nMSG a.b 8 _INBOX.x 0\r\n\r\n"
        b"HMSG in.1 1 r 16 18\r\nNATS/1.0 503\r\n\r\nhi\r\n-ERR 'Bad'\r\n"
    )
    assert read(stream) == [
        (b"PING", b""),
        (7, b"a.b", b"", b"hello"),
        (8, b"a.b", b"", b""),
        (1, b"in.1", b"NATS/1.0 503\r\n\r\n", b"hi"),
        (b"-ERR", b"'Bad'"),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"MSG a\r\n",
        b"MSG a x 5\r\n",
        b"MSG a 1 -5\r\n",
        b"MSG a 1 999999999999\r\n",
        b"HMSG a 1 9 5\r\n",
        b"HMSG a 1 -1 5\r\n",
        b"x" * (wire.LONGEST_LINE + 1),
    ],
)
def test_invalid_messages(raw: bytes) -> None:
    with pytest.raises(WireError):
        read(raw)


def test_written_lines() -> None:
    assert wire.publish("a", b"hi") == b"PUB a  2\r\nhi\r\n"
    assert wire.publish("a", b"", "in.1") == b"PUB a in.1 0\r\n\r\n"
    headers = wire.header("N", 1)
    assert wire.publish("a", b"hi", "r", headers) == b"HPUB a r 18 20\r\n" + headers + b"hi\r\n"
    assert wire.subscribe("a.*", 7) == b"SUB a.* 7\r\n"
    assert wire.subscribe("a.*", 7, "nodes") == b"SUB a.* nodes 7\r\n"
    assert wire.unsubscribe(7) == b"UNSUB 7\r\n"


def test_headers() -> None:
    headers = b"NATS/1.0\r\nA: 1\r\nBA: 2\r\nNats-Seq: 3\r\n\r\n"
    values = {name: wire.value_of(headers, name) for name in (b"A", b"BA", b"Nats-Seq", b"C")}
    assert values == {b"A": b"1", b"BA": b"2", b"Nats-Seq": b"3", b"C": None}
    assert wire.status_of(headers) == wire.status_of(b"") == 0
    assert wire.status_of(b"NATS/1.0 503\r\n\r\n") == 503
    assert wire.status_of(b"NATS/1.0 204 EOB\r\nX: 1\r\n\r\n") == 204
