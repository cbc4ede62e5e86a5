import asyncio
import json
from array import array
from typing import Any

import jwt
import pytest

from bench.client import Tally
from bench.resuming_client import ResumingClient, token
from catenary.terminal.counting import mark
from catenary.wire.frames import FrameReader, Message
from tests.parts.tokens import SECRET

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_cut = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.is_cut = True

    def commands(self) -> list[dict[str, Any]]:
        """What was said after the handshake."""
        reader = FrameReader(10_000)
        frames = [frame for data in self.written[1:] for frame in reader.receive(data)]
        return [json.loads(frame.payload) for frame in frames if isinstance(frame, Message)]


def said(**fields: object) -> bytes:
    """A server's text frame of up to 65,535 bytes."""
    payload = json.dumps(fields, separators=(",", ":")).encode()
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


def numbered(number: int) -> bytes:
    """A message as history counts it: from 1."""
    text = {"t": mark(number)}
    return said(identifier="x", message=text, stream_id="s7", epoch="ab1", offset=number + 1)


class Story:
    """A client that has heard one message of three and was cut off in the middle of the next."""

    def __init__(self, chunk: int) -> None:
        self.tally = Tally()
        self.client = ResumingClient(self.tally, array("d", [0.0] * 3), 7, token="abc")
        self.first = Wire()
        self.client.connection_made(self.first)
        self._chunk = chunk
        self.hear(SWITCHED + said(type="welcome", sid="one") + said(type="confirm_subscription"))
        self.hear(numbered(0) + numbered(1)[:-5])
        assert self.client.ready.done()
        self.client.cut()
        self.client.connection_lost(None)
        self.second = Wire()
        self.client.connection_made(self.second)

    def hear(self, data: bytes) -> None:
        for start in range(0, len(data), self._chunk):
            self.client.data_received(data[start : start + self._chunk])


@pytest.mark.parametrize("chunk", [1, 9, 10_000])
def test_it_comes_back_to_its_session_and_asks_for_what_it_missed(chunk: int) -> None:
    async def story() -> None:
        told = Story(chunk)
        assert told.first.is_cut
        assert told.first.written[0].startswith(b"GET /cable?jid=abc HTTP/1.1\r\n")
        assert b"Sec-WebSocket-Protocol: actioncable-v1-ext-json\r\n" in told.first.written[0]
        assert told.second.written[0].startswith(b"GET /cable?jid=abc&sid=one HTTP/1.1\r\n")
        told.hear(SWITCHED + said(type="welcome", sid="two", restored=True))
        (command,) = told.second.commands()
        assert command["command"] == "history"
        assert command["history"] == {"streams": {"s7": {"offset": 1, "epoch": "ab1"}}}
        told.hear(numbered(1) + numbered(2))
        assert not told.client.ready.done()
        told.hear(said(type="confirm_history"))
        assert told.client.ready.done()
        assert told.client.restored
        assert (told.client.lost, told.tally.duplicates, told.tally.closed) == (0, 0, 0)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((said(type="welcome", sid="two"),), "not resumed"),
        (
            (said(type="welcome", sid="two", restored=True), said(type="reject_history")),
            "reject_history",
        ),
    ],
)
def test_what_it_can_not_have_again_fails_it(answers: tuple[bytes, ...], expected: str) -> None:
    async def story() -> None:
        told = Story(10_000)
        told.hear(SWITCHED + b"".join(answers))
        assert told.client.lost == 2
        await told.client.ready

    with pytest.raises(ConnectionError, match=expected):
        asyncio.run(story())


def test_tokens_are_those_of_an_application() -> None:
    claims = jwt.decode(token(SECRET, 42), SECRET, algorithms=["HS256"])
    assert json.loads(claims["ext"]) == {"user_id": 42}
