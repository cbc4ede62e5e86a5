"""Requests of publishers, and how answers are counted."""

import asyncio
import json
from array import array

import pytest

from bench.client import CANARY
from bench.plan import Intake
from bench.publishers import PUBLISHERS, Publisher


class RecordingTransport(asyncio.Transport):
    """Records written bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data


def connected(intake: Intake) -> tuple[Publisher, RecordingTransport]:
    """A publisher to two streams, and its transport without the bytes of the handshake."""
    publisher = PUBLISHERS[intake]([array("d"), array("d")], 3)
    transport = RecordingTransport()
    publisher.connection_made(transport)
    transport.written = b""
    return publisher, transport


BODY = '{"stream":"s1","data":"{\\"t\\":\\"@@0000000%d\\",\\"p\\":\\"xxx\\"}"}'
SIZE = len(BODY % 0)


@pytest.mark.parametrize(
    ("intake", "before", "after"),
    [
        (
            "http",
            "POST /_broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {SIZE}\r\n\r\n",
            "",
        ),
        ("redis", f"*3\r\n$7\r\nPUBLISH\r\n$12\r\n__anycable__\r\n${SIZE}\r\n", "\r\n"),
        (
            "redisx",
            f"*5\r\n$4\r\nXADD\r\n$12\r\n__anycable__\r\n$1\r\n*\r\n$7\r\npayload\r\n${SIZE}\r\n",
            "\r\n",
        ),
        ("nats", f"PUB __anycable__ {SIZE}\r\n", "\r\n"),
    ],
)
def test_each_publication_is_one_request(intake: Intake, before: str, after: str) -> None:
    publisher, transport = connected(intake)
    publisher.publish(1, 2)
    end = "PING\r\n" if intake == "nats" else ""
    expected = "".join(f"{before}{BODY % number}{after}" for number in (0, 1)) + end
    assert transport.written.decode() == expected
    assert (len(publisher.sent[0]), len(publisher.sent[1])) == (0, 2)
    assert json.loads(json.loads(BODY % 0)["data"]) == {"t": "@@00000000", "p": "xxx"}


@pytest.mark.parametrize("chunk", [1, 5, 10_000])
@pytest.mark.parametrize(
    ("intake", "answers", "answered", "accepted"),
    [
        (
            "http",
            "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
            "HTTP/1.1 422 Unprocessable Entity\r\nContent-Length: 0\r\n\r\n",
            2,
            1,
        ),
        ("redis", ":0\r\n:1\r\n:0\r\n", 2, 1),
        ("redis", ":1\r\n-ERR no\r\n:12\r\n", 2, 1),
        ("redisx", "$3\r\n1-0\r\n$4\r\n20-0\r\n-OOM no\r\n", 2, 1),
        ("nats", "INFO {}\r\nPING\r\nPONG\r\nPONG\r\n", 2, 2),
        ("nats", "-ERR 'no'\r\n", 0, 0),
    ],
)
def test_answers_are_counted_as_accepted_or_refused(
    intake: Intake, answers: str, answered: int, accepted: int, chunk: int
) -> None:
    publisher, transport = connected(intake)
    if intake != "http":
        publisher.publish_canary(0)
        assert CANARY in transport.written
    publisher.publish(0, 2)
    for start in range(0, len(answers), chunk):
        publisher.data_received(answers[start : start + chunk].encode())
    assert (publisher.published, publisher.answered) == (2, answered)
    assert (publisher.accepted, publisher.waiting) == (accepted, 2 - answered)
